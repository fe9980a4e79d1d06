"""Two reduced schemas as one."""

import json
from collections.abc import Sequence

from umi.trajectory import JsonObject


def merged(left: JsonObject, right: JsonObject) -> JsonObject:
    """What satisfies both, as far as one schema can say it; where they contradict each other, `right` wins."""
    both: JsonObject = {**left, **right}
    if "properties" in left and "properties" in right:
        both["properties"] = _joined(left["properties"], right["properties"])
        if both.get("additionalProperties") is False:  # each part would forbid the other's
            del both["additionalProperties"]
    if "required" in left and "required" in right:
        both["required"] = list(dict.fromkeys([*left["required"], *right["required"]]))
    if "enum" in left and "enum" in right:
        both["enum"] = [value for value in left["enum"] if value in right["enum"]] or right["enum"]
    return both


def with_alternatives(schema: JsonObject, options: Sequence[JsonObject]) -> tuple[JsonObject, str | None]:
    """`schema` with the choice between `options`, and the kind of loss when that cannot be said."""
    real = [option for option in options if option.get("type") != "null"]
    real = [json.loads(text) for text in dict.fromkeys(map(json.dumps, real))]
    if len(real) == 1:
        return merged(real[0], schema), None  # Optional[X] of a generator: absence says the same as null
    if not real:
        return schema, None
    if {} in real or all(option.keys() <= {"required", "description"} for option in real):
        return schema, "alternatives left out"
    if "properties" in schema:
        return _flattened(schema, real), "alternatives merged"
    return {**schema, "anyOf": real}, None


def _flattened(schema: JsonObject, options: Sequence[JsonObject]) -> JsonObject:
    """An object and its alternatives as one object: it has the fields of all and requires what every one requires."""
    flat = dict(schema)
    properties: JsonObject = dict(schema["properties"])
    for option in options:
        for name, field in option.get("properties", {}).items():
            properties.setdefault(name, field)
    flat["properties"] = properties
    always = [name for name in options[0].get("required", ()) if all(name in o.get("required", ()) for o in options)]
    if required := list(dict.fromkeys([*schema.get("required", ()), *always])):
        flat["required"] = required
    flat.pop("additionalProperties", None)
    return flat


def _joined(left: JsonObject, right: JsonObject) -> JsonObject:
    joined = dict(left)
    for name, field in right.items():
        joined[name] = merged(left[name], field) if name in left else field
    return joined
