"""Schemas of tools: whether one can be used, and whether a call's arguments satisfy it."""

import re
from collections.abc import Iterable, Iterator
from typing import Any

from jsonschema import Draft202012Validator, FormatChecker
from jsonschema.exceptions import SchemaError, ValidationError, best_match
from jsonschema.validators import extend

from umi.errors import CallRejected
from umi.trajectory import JsonObject, ToolSpec


def _pattern(_: Any, pattern: str, instance: Any, __: Any) -> Iterator[ValidationError]:
    """`pattern`, except that one Python cannot read (documents may mean Java's or ECMA's) is left to the tool."""
    try:
        if isinstance(instance, str) and not re.search(pattern, instance):
            yield ValidationError(f"{instance!r} does not match {pattern!r}")
    except re.error:
        return


_Validator: Any = extend(Draft202012Validator, {"pattern": _pattern})  # pyright: ignore[reportUnknownMemberType]


def validator(schema: JsonObject) -> Any:
    """What `check` needs; made once per tool."""
    return _Validator(schema)


def check(validator: Any, arguments: JsonObject) -> None:
    """Raises CallRejected saying what to fix when the arguments break the schema."""
    if (error := best_match(validator.iter_errors(arguments))) is not None:
        where = ".".join(str(part) for part in error.absolute_path)
        message = error.message if len(error.message) <= 300 else error.message[:300] + "…"
        raise CallRejected(f"argument {where!r}: {message}" if where else message)


def schema_errors(tools: Iterable[ToolSpec]) -> dict[str, str]:
    """Why a tool's schema cannot be used, by the tool's name; those that can are left out."""
    errors: dict[str, str] = {}
    for tool in tools:
        try:
            Draft202012Validator.check_schema(tool.parameters, format_checker=FormatChecker(()))
        except SchemaError as error:
            errors[tool.name] = f"not a usable schema: {error.message[:300]}"
    return errors
