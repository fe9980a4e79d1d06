"""Strings of a call with a space in front, which makes writing a name the same as copying it.

Tokenizers of the byte-pair kind have other tokens for a word after a space, as in a query, than after the quote that
opens a JSON string. A small model has to know both spellings of `Lucknow` to get from one to the other, and for rare
names it does not. A caller that has learnt to write `" Lucknow"` copies. Only strings that their schema leaves free
have the space: an enum or a pattern would no longer hold.
"""

from collections.abc import Callable, Iterable
from typing import Any

from umi.trajectory import Call, JsonObject, ToolSpec

_FIXED = ("enum", "const", "pattern", "format")


def spaced(call: Call, tools: Iterable[ToolSpec]) -> Call:
    """The call with a space before every free string of its arguments. One of no known tool stays as it is."""
    return _changed(call, tools, lambda text: f" {text}")


def unspaced(call: Call, tools: Iterable[ToolSpec]) -> Call:
    """The call as it was before `spaced`; a space that was forgotten is not missed."""
    return _changed(call, tools, lambda text: text.removeprefix(" "))


def with_room(tools: Iterable[ToolSpec]) -> list[ToolSpec]:
    """The tools as a spaced call may fill them: every free string may be longer by its space."""
    return [tool.model_copy(update={"parameters": _roomy(tool.parameters)}) for tool in tools]


def _roomy(schema: Any) -> Any:
    if not isinstance(schema, dict):
        return schema
    wider = dict(schema)
    for bound in ("minLength", "maxLength"):
        if _is_free(schema) and bound in schema:
            wider[bound] = schema[bound] + 1
    if "properties" in schema:
        wider["properties"] = {name: _roomy(field) for name, field in schema["properties"].items()}
    if "items" in schema:
        wider["items"] = _roomy(schema["items"])
    for key in ("anyOf", "oneOf"):
        if key in schema:
            wider[key] = [_roomy(option) for option in schema[key]]
    return wider


def _changed(call: Call, tools: Iterable[ToolSpec], change: Callable[[str], str]) -> Call:
    schema = next((tool.parameters for tool in tools if tool.name == call.tool), {})
    return call.model_copy(update={"arguments": _in_free(call.arguments, schema, change)})


def _in_free(value: Any, schema: Any, change: Callable[[str], str]) -> Any:
    """`value` with its free strings changed; which are free depends on the schema alone, so it can be undone."""
    options = _options(schema)
    match value:
        case str() if any(map(_is_free, options)):
            return change(value)
        case dict():
            fields = {name: field for option in options for name, field in option.get("properties", {}).items()}
            return {name: _in_free(inner, fields.get(name), change) for name, inner in value.items()}
        case list():
            items = next((option["items"] for option in options if "items" in option), None)
            return [_in_free(inner, items, change) for inner in value]
        case _:
            return value


def _options(schema: Any) -> list[JsonObject]:
    """A schema and its alternatives; none of the schema `true`, or where there is none."""
    if not isinstance(schema, dict):
        return []
    return [
        schema,
        *(option for key in ("anyOf", "oneOf") for inner in schema.get(key, ()) for option in _options(inner)),
    ]


def _is_free(schema: JsonObject) -> bool:
    kind = schema.get("type")
    return (kind == "string" or (isinstance(kind, list) and "string" in kind)) and not any(
        key in schema for key in _FIXED
    )
