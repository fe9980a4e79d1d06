"""Arguments that a tool's schema admits, drawn at random: what a model might send, with awkward characters in it."""

import random
from typing import Any

from umi.trajectory import JsonObject

_TEXTS = ("plain", "two words", "a/b", "50%", "x&y=z", "é", "1+1", "semi;colon", "q?r#s", "comma,", "it's", "<tag>")
_FORMATS = {
    "date": "2026-02-03",
    "date-time": "2026-02-03T04:05:06Z",
    "time": "04:05:06Z",
    "email": "a@example.com",
    "uuid": "6fa459ea-ee8a-4ca4-894e-db77e160355e",
    "uri": "https://example.com/a?b=c",
    "url": "https://example.com/a?b=c",
    "byte": "aGVsbG8=",
    "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1",
    "hostname": "example.com",
}
_DEPTH = 4


def arguments(schema: JsonObject, chance: random.Random) -> JsonObject:
    """Required arguments and about half of the others. The schema's finer points are not all kept: validate."""
    return _object(schema, chance, 0)


def value(schema: Any, chance: random.Random, depth: int = 0) -> Any:
    """Something of the schema's type."""
    if not isinstance(schema, dict):
        return chance.choice(_TEXTS)
    if "const" in schema:
        return schema["const"]
    if options := [each for each in schema.get("enum", ()) if each is not None]:
        return chance.choice(options)
    for key in ("anyOf", "oneOf", "allOf"):
        if choices := [each for each in schema.get(key, ()) if each != {"type": "null"}]:
            return value(_merged(choices, schema) if key == "allOf" else chance.choice(choices), chance, depth)
    kinds = schema.get("type", "object" if "properties" in schema else "string")
    match next((kind for kind in kinds if kind != "null"), "null") if isinstance(kinds, list) else kinds:
        case "integer" | "number" as kind:
            return _number(schema, kind, chance)
        case "boolean":
            return chance.random() < 0.5
        case "array":
            return _array(schema, chance, depth)
        case "object":
            return _object(schema, chance, depth)
        case "null":
            return None
        case _:
            return _text(schema, chance)


def _merged(parts: list[Any], schema: JsonObject) -> JsonObject:
    merged: JsonObject = {"type": "object", "properties": {}, "required": []}
    for part in [*parts, {key: each for key, each in schema.items() if key != "allOf"}]:
        merged = {
            **merged,
            **part,
            "properties": {**merged["properties"], **part.get("properties", {})},
            "required": [*merged["required"], *part.get("required", ())],
        }
    return merged


def _number(schema: JsonObject, kind: str, chance: random.Random) -> Any:
    low = schema.get("minimum", schema.get("exclusiveMinimum", 0))
    high = schema.get("maximum", schema.get("exclusiveMaximum", max(low, 0) + 50))
    step = schema.get("multipleOf", 1 if kind == "integer" else 0.5)
    number = (int(low // step) + 1 + chance.randrange(20)) * step
    number = number if number <= high else (high // step) * step if high != schema.get("exclusiveMaximum") else low
    return int(number) if kind == "integer" or float(number).is_integer() else number


def _text(schema: JsonObject, chance: random.Random) -> str:
    if isinstance(given := schema.get("format"), str) and given in _FORMATS:
        return _FORMATS[given]
    if "pattern" in schema:
        return str(schema.get("default", chance.choice(("abc", "123", "A1", "a-b", "ABC123", "00000000-0000"))))
    text = chance.choice(_TEXTS)
    shortest, longest = schema.get("minLength", 0), schema.get("maxLength", 1_000)
    return (text * (shortest // len(text) + 1) if len(text) < shortest else text)[:longest]


def _array(schema: JsonObject, chance: random.Random, depth: int) -> list[Any]:
    fewest = schema.get("minItems", 0)
    count = max(fewest, min(chance.randint(1, 3), schema.get("maxItems", 3)))
    items = [value(schema.get("items", {}), chance, depth + 1) for _ in range(count if depth < _DEPTH else fewest)]
    return list({repr(item): item for item in items}.values()) if schema.get("uniqueItems") else items


def _object(schema: JsonObject, chance: random.Random, depth: int) -> JsonObject:
    required = set(schema.get("required", ()))
    taken = {
        name: each
        for name, each in schema.get("properties", {}).items()
        if name in required or (depth < _DEPTH and chance.random() < 0.5)
    }
    return {name: value(each, chance, depth + 1) for name, each in taken.items()}
