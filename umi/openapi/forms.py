"""Form bodies: fields and values as the text that is sent."""

import hashlib
from collections.abc import Sequence
from typing import Any, NamedTuple

from umi.openapi.media import part_type
from umi.openapi.model import Written
from umi.openapi.serialize import form_pairs, scalar


class Field(NamedTuple):
    """One field of a form."""

    name: str
    value: Any
    written: Written


def urlencoded(fields: Sequence[Field]) -> str:
    """The fields of a page's form. An object without a style is written as JSON (OpenAPI 3.1.1, 4.8.15.1.1)."""
    pairs: list[str] = []
    for name, value, written in fields:
        is_plain = written.explode and isinstance(value, dict) and written.style == "form"
        pairs += form_pairs(name, scalar(value) if is_plain else value, written)
    return "&".join(pairs)


def multipart(fields: Sequence[Field]) -> tuple[str, str]:
    """Body and boundary (RFC 7578); the boundary follows from the content, so equal arguments give equal requests."""
    parts = [part for field in fields for part in _parts(field)]
    boundary = "umi-" + hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]
    while any(boundary in part for part in parts):
        boundary = "umi-" + hashlib.sha256(boundary.encode()).hexdigest()[:32]
    return "".join(f"--{boundary}\r\n{part}\r\n" for part in parts) + f"--{boundary}--\r\n", boundary


def _parts(field: Field) -> list[str]:
    values = field.value if isinstance(field.value, list) else [field.value]
    return [_part(field._replace(value=value)) for value in values if value is not None]


def _part(field: Field) -> str:
    given = field.written.content_type
    media = part_type(given) if given else "application/json" if isinstance(field.value, dict | list) else None
    name = "".join(_ESCAPED.get(char, char) for char in field.name)
    head = f'Content-Disposition: form-data; name="{name}"'
    if media is not None and not media.startswith(("text/", "application/json")):
        head += f'; filename="{name}"'
    if media is not None:
        head += f"\r\nContent-Type: {media}"
    return f"{head}\r\n\r\n{scalar(field.value)}"


_ESCAPED = {'"': "%22", "\r": "%0D", "\n": "%0A", "\x00": ""}
