"""Taking foreign JSON apart: every function returns what was asked for or raises BadInput saying what was expected."""

import json
from math import isfinite
from typing import Any, NoReturn, TypeVar

from pydantic import ValidationError

from umi.errors import BadInput
from umi.prompt import signature
from umi.trajectory import JsonObject, ToolSpec

T = TypeVar("T")
TYPES = {
    "str": "string",
    "int": "integer",
    "float": "number",
    "double": "number",
    "bool": "boolean",
    "list": "array",
    "dict": "object",
} | {name: name for name in ("string", "integer", "number", "boolean", "array", "object")}
"""The words that data sets use for types, to those of JSON Schema."""
_KINDS: dict[type, str] = {
    str: "text", dict: "an object", list: "a list", int: "a number", float: "a number", bool: "true or false",
    type(None): "null",
}  # fmt: skip


def loads(text: str) -> Any:
    """JSON that can be written out again: no NaN, infinity or lone surrogate; raw newlines pass. Raises ValueError."""
    try:
        value = json.loads(text, parse_constant=_no_number, parse_float=_finite, strict=False)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    if "\\ud" in text.lower():  # only an escape can hold a lone surrogate; encoding finds it
        json.dumps(value, ensure_ascii=False).encode()
    return value


def take(entry: JsonObject, name: str, kind: type[T], where: str = "") -> T:
    """The field `name` of an object, of type `kind`; `where` is the object's own path, for the message."""
    return as_a(kind, entry.get(name), f"{where}.{name}" if where else name)


def as_a(kind: type[T], value: Any, where: str) -> T:
    """`value`, which must be of type `kind`."""
    if not isinstance(value, kind) or isinstance(value, bool) is not (kind is bool):
        raise BadInput(f"{where}: expected {_KINDS[kind]}, found {_KINDS.get(type(value), 'something else')}", where)
    return value


def objects(entry: JsonObject, name: str, where: str = "") -> list[tuple[str, JsonObject]]:
    """The objects of a list, each with its own path."""
    path = f"{where}.{name}" if where else name
    return [
        (f"{path}[{index}]", as_a(dict, item, f"{path}[{index}]"))
        for index, item in enumerate(take(entry, name, list, where))
    ]


def arguments(value: Any, where: str) -> JsonObject:
    """A call's arguments: an object, or the JSON text of one."""
    if isinstance(value, str):
        try:
            value = loads(value)
        except ValueError as error:
            raise BadInput(f"{where}: not JSON: {error}", where) from error
    return as_a(dict, value, where)


def tool(name: str, description: str, properties: JsonObject, required: Any = ()) -> ToolSpec:
    """A tool of JSON Schema properties; `required` may come from anywhere and counts where it names a property."""
    names = [key for key in properties if isinstance(required, list | tuple) and key in required]
    schema = {"type": "object", "properties": properties} | ({"required": names} if names else {})
    try:
        spec = ToolSpec(name=name, description=description, parameters=schema)
        signature(spec)  # what a prompt cannot show is better refused here than while training
    except ValidationError as error:
        raise BadInput(f"tool {name!r}: a name has 1 to 64 letters, digits, _ . or -", "tools") from error
    except (AttributeError, TypeError) as error:
        raise BadInput(f"tool {name!r}: its properties are not JSON Schema: {error}", "tools") from error
    return spec


def property_of(type_name: str, description: str) -> JsonObject:
    """One property; a type that JSON Schema does not have moves into the description."""
    if known := TYPES.get(type_name.strip().lower()):
        return {"type": known} | ({"description": description} if description else {})
    return {"description": ", ".join(filter(None, (type_name.strip(), description)))}


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")


def _finite(text: str) -> float:
    return number if isfinite(number := float(text)) else _no_number(text)
