"""Media types of bodies: which can be written, and which is taken when there is a choice."""

import re
from collections.abc import Iterable
from enum import IntEnum
from itertools import islice

_PLAIN = re.compile(r"[\w.+-]+/[\w.+-]+", re.ASCII)
_TEXTS = {"xml", "yaml", "x-yaml", "graphql", "octet-stream", "x-ndjson", "ndjson", "javascript", "sql", "sparql-query"}


class Kind(IntEnum):
    """How a body is written; the lowest is preferred."""

    JSON = 0
    FORM = 1
    MULTIPART = 2
    TEXT = 3


def kind_of(media: str) -> Kind | None:
    """How a body of this type is written; None when it cannot be, such as an image."""
    name = _name(media)
    if name in ("", "*/*", "application/*", "application/json", "text/json") or name.endswith("+json"):
        return Kind.JSON
    if name == "application/x-www-form-urlencoded":
        return Kind.FORM
    family, _, subtype = name.partition("/")
    if family == "multipart":
        return Kind.MULTIPART
    return Kind.TEXT if family == "text" or subtype in _TEXTS or subtype.endswith(("+xml", "+yaml")) else None


def choose(types: Iterable[str]) -> str | None:
    """The type to use among those that a body may have; plain JSON first."""
    known = [media for media in islice(types, 50) if kind_of(media) is not None]
    return min(known, key=lambda media: (kind_of(media), _name(media) != "application/json"), default=None)


def header(media: str) -> str:
    """The content-type to send: without parameters, and nothing that could begin another header."""
    name = _name(media)
    if name == "application/octet-stream" or (_PLAIN.fullmatch(name) and kind_of(name) is not None):
        return name
    return "application/json"


def part_type(media: str) -> str:
    """The content-type of one part of a multipart body."""
    return _name(media) if _PLAIN.fullmatch(_name(media)) else "application/octet-stream"


def _name(media: str) -> str:
    return str(media).partition(";")[0].strip().lower()
