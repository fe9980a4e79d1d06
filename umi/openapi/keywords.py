"""The keywords of one schema node that are kept, each only with a value that JSON Schema admits."""

import json
import math
from typing import Any

from umi.errors import BadDocument
from umi.openapi.names import MAX_ARGUMENT_TEXT, shorten
from umi.openapi.report import Losses
from umi.trajectory import JsonObject

_MAX_ENUM_CHARS = 2_000
_MAX_VALUE_CHARS = 200
_MAX_REQUIRED = 1_000
_MAX_PATTERN = 300
_BOUNDS = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum")
_COUNTS = ("minLength", "maxLength", "minItems", "maxItems")
_DROPPED = (
    "not if patternProperties propertyNames dependentRequired dependentSchemas dependencies contains prefixItems "
    "multipleOf uniqueItems minProperties maxProperties unevaluatedProperties"
).split()
_TYPES = {"string", "number", "integer", "boolean", "array", "object", "null"}
_ALIASES = {
    **dict.fromkeys(("int", "int32", "int64", "long", "short"), "integer"),
    **dict.fromkeys(("float", "double", "decimal", "numeric"), "number"),
    **dict.fromkeys(("str", "text", "date", "datetime", "date-time", "uuid", "uri", "url", "byte", "file"), "string"),
    **dict.fromkeys(("bool",), "boolean"),
    **dict.fromkeys(("list",), "array"),
    **dict.fromkeys(("map", "dict", "json"), "object"),
    **dict.fromkeys(("any", "mixed", "", "undefined"), None),
}


def keywords(node: JsonObject, where: str, losses: Losses) -> JsonObject:
    """`node` without its children: what says something about the value itself, in a fixed order.

    A schema as `additionalProperties` is kept as it is; whoever reduces children does the rest. Raises BadDocument
    for a type that does not exist.
    """
    schema: JsonObject = {}
    if (kind := _type(node.get("type"), where, losses)) is not None:
        schema["type"] = kind
    if (values := _enum(node.get("enum"), kind, where, losses)) is not None:
        schema["enum"] = values
    if "const" in node and _is_short(node["const"]):
        schema["const"] = node["const"]
    if isinstance(node.get("format"), str) and len(node["format"]) <= 40:
        schema["format"] = node["format"]
    elif node.get("type") == "file":
        schema["format"] = "binary"
    if text := shorten(node.get("description"), MAX_ARGUMENT_TEXT):
        schema["description"] = text
    schema |= _bounds(node)
    schema |= {key: int(node[key]) for key in _COUNTS[:2] if _is_count(node.get(key))}
    if isinstance(pattern := node.get("pattern"), str):
        if len(pattern) <= _MAX_PATTERN:
            schema["pattern"] = pattern
        else:
            losses.add("rule not kept", "pattern")
    schema |= {key: int(node[key]) for key in _COUNTS[2:] if _is_count(node.get(key))}
    if isinstance(node.get("required"), list):
        schema["required"] = list(
            dict.fromkeys(name for name in node["required"][:_MAX_REQUIRED] if isinstance(name, str))
        )
    if isinstance(node.get("additionalProperties"), bool | dict):
        schema["additionalProperties"] = node["additionalProperties"]
    if "default" in node and _is_short(node["default"]):
        schema["default"] = node["default"]
    for key in _DROPPED:
        if key in node and node[key] not in (False, None):
            losses.add("rule not kept", key)
    return schema


def _type(given: Any, where: str, losses: Losses) -> str | list[str] | None:
    if isinstance(given, list):
        known = [kind for item in given if isinstance(kind := _type(item, where, losses), str)]
        return list(dict.fromkeys(known)) or None
    if given is None or (isinstance(given, str) and given in _TYPES):
        return given
    if str(given).lower() in _TYPES:
        return str(given).lower()
    if str(given).lower() not in _ALIASES:
        raise BadDocument(f"{where}: there is no type {str(given)[:100]!r}")
    if given != "file":
        losses.add("unknown type replaced", f"{given!r}")
    return _ALIASES[str(given).lower()]


def _enum(given: Any, kind: Any, where: str, losses: Losses) -> list[Any] | None:
    if not isinstance(given, list) or not given:
        return None
    if len(given) > _MAX_ENUM_CHARS // 2:
        losses.add("list of values not kept", where)
        return None
    values: list[Any] = given
    if kind == "string":  # YAML reads 1 and 2.0 as numbers
        values = [
            str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value for value in given
        ]
    elif kind in ("integer", "number"):
        values = [_number(value) if isinstance(value, str) else value for value in given]
    wrong = kind == "string" and any(not isinstance(value, str | None) for value in values)
    size = sum(len(value) + 4 if isinstance(value, str) else 8 for value in values)
    if wrong or size > _MAX_ENUM_CHARS or not all(map(_is_short, values)):
        losses.add("list of values not kept", where)
        return None
    return [json.loads(text) for text in dict.fromkeys(map(json.dumps, values))]


def _bounds(node: JsonObject) -> JsonObject:
    bounds = {key: node[key] for key in _BOUNDS if isinstance(node.get(key), bool) or _is_number(node.get(key))}
    for bound, exclusive in (("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum")):
        if isinstance(bounds.get(bound), bool):
            bounds.pop(bound)
        if isinstance(flag := bounds.get(exclusive), bool):  # 3.0 marks the bound, JSON Schema is one itself
            bounds.pop(exclusive)
            if flag and bound in bounds:
                bounds[exclusive] = bounds.pop(bound)
    return bounds


def _number(text: str) -> Any:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return text
    return value if _is_number(value) else text


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_count(value: Any) -> bool:
    return _is_number(value) and value >= 0 and value == int(value)


def _is_short(value: Any) -> bool:
    """Whether a value is small enough to be repeated in a prompt; looks at no more of it than that."""
    left, rest = _MAX_VALUE_CHARS, [value]
    while rest and left >= 0:
        item = rest.pop()
        left -= len(item) + 2 if isinstance(item, str | list | dict) else 2
        if isinstance(item, float) and not math.isfinite(item):
            return False
        if isinstance(item, list | dict) and left >= 0:
            rest.extend(item.values() if isinstance(item, dict) else item)
            left -= sum(len(str(key)) for key in item) if isinstance(item, dict) else 0
    return left >= 0
