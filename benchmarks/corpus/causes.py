"""Why two builders write a request differently, where that is known."""

import ast
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NamedTuple

from benchmarks.corpus.requests import Read
from umi.openapi import Operation, Place


class Difference(NamedTuple):
    """An operation and the two requests made of it."""

    operation: Operation
    ours: Read
    other: Read

    @property
    def fields(self) -> set[str]:
        """Where they differ."""
        return set(self.ours.differs_from(self.other))


def cause_of(difference: Difference) -> str | None:
    """The first of the causes below that accounts for every field that differs."""
    return next((text for text, accounts in _CAUSES.items() if accounts(difference)), None)


def _empty_body(difference: Difference) -> bool:
    nothing = not difference.ours.body and not difference.other.body
    is_whole = any(place is Place.WHOLE_BODY for place, _ in difference.operation.places.values())
    return (difference.operation.needs_body or is_whole) and difference.fields <= {"media", "body"} and nothing


def _query_in_path(difference: Difference) -> bool:
    lost = [pair for pair in difference.ours.query if pair not in difference.other.query]
    return difference.fields == {"query"} and all(f"{name}=" in difference.operation.path for name, _ in lost)


def _wildcard(difference: Difference) -> bool:
    return difference.fields == {"media"} and "*" in difference.other.media


def _other_type(difference: Difference) -> bool:
    return (
        difference.fields == {"media"}
        and difference.ours.media == "application/json"
        and "json" in difference.other.media
    )


def _text_body(difference: Difference) -> bool:
    return (
        difference.fields == {"media", "body"}
        and "xml" in difference.ours.media
        and isinstance(difference.ours.body, str)
    )


def _python_text(difference: Difference) -> bool:
    return all(_has_python_text(getattr(difference.other, field)) for field in difference.fields)


def _has_python_text(read: Any) -> bool:
    """Whether some text in it is an object or array as Python prints it."""
    if isinstance(read, list | tuple):
        return any(_has_python_text(each) for each in read)
    with suppress(ValueError, SyntaxError):
        return isinstance(read, str) and isinstance(ast.literal_eval(read), list | dict)
    return False


_CAUSES: dict[str, Callable[[Difference], bool]] = {
    "an empty body, required or given: UMi sends it, FastMCP none": _empty_body,
    "a query string in the path template: UMi fills it in, FastMCP drops it": _query_in_path,
    "a wildcard as media type: UMi sends application/json, FastMCP the wildcard": _wildcard,
    "two JSON types to choose from: UMi takes application/json, FastMCP the first": _other_type,
    "a body of XML: UMi sends the text that the model wrote, FastMCP an object as JSON": _text_body,
    "arrays in paths, objects in arrays or forms: FastMCP writes what Python prints": _python_text,
}
