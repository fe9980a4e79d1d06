"""An operation and arguments as the request that is to be sent."""

import re
from typing import Any
from urllib.parse import unquote

from umi.errors import CallRejected
from umi.openapi.forms import Field, multipart, urlencoded
from umi.openapi.media import Kind, header, kind_of
from umi.openapi.model import DEFAULTS, HttpRequest, Operation, Place
from umi.openapi.paths import filled
from umi.openapi.serialize import cookie_pairs, form_pairs, header_text, path_text, scalar
from umi.trajectory import JsonObject


def build_request(operation: Operation, arguments: JsonObject) -> HttpRequest:
    """The request that calls `operation` with arguments that its schema has already admitted.

    A path value is encoded as one segment and can never leave it. Raises CallRejected for a segment that is empty, made
    of dots only or holds such a segment, and for a header value with control characters.
    """
    segments: dict[str, str] = {}
    query: list[str] = []
    headers: dict[str, str] = {}
    cookies: list[str] = []
    fields: list[Field] = []
    whole: Any = None
    for name, value in arguments.items():
        place, target = operation.places[name]
        written = operation.written.get(name, DEFAULTS[place])
        match place:
            case Place.PATH:
                segments[target] = _segment(name, path_text(target, value, written))
            case Place.QUERY:
                query += form_pairs(target, value, written)
            case Place.HEADER if value is not None:
                headers[target] = _header(name, header_text(value, written))
            case Place.COOKIE:
                cookies += cookie_pairs(target, value, written)
            case Place.BODY:
                fields.append(Field(target, value, written))
            case Place.WHOLE_BODY:
                whole = value
            case _:  # a header without a value is none
                pass
    if cookies:
        headers["cookie"] = "; ".join(cookies)
    path, fixed = filled(operation.path, segments)
    parts = [*([fixed] if fixed else []), *query]
    url = operation.base_url.rstrip("/") + path + (f"?{'&'.join(parts)}" if parts else "")
    return _with_body(operation, HttpRequest(method=operation.method, url=url, headers=headers), fields, whole)


def _with_body(operation: Operation, request: HttpRequest, fields: list[Field], whole: Any) -> HttpRequest:
    has_fields = any(place is Place.BODY for place, _ in operation.places.values())
    if has_fields and not fields and not operation.needs_body:
        return request
    kind, media = kind_of(operation.media), header(operation.media)
    if kind in (Kind.FORM, Kind.MULTIPART):
        if not has_fields and not isinstance(whole, dict):
            if whole is None:
                return request
            raise CallRejected("the body of a form must be an object")
        fields = fields or [Field(key, value, DEFAULTS[Place.BODY]) for key, value in (whole or {}).items()]
        text, boundary = multipart(fields) if kind is Kind.MULTIPART else (urlencoded(fields), "")
        ending = f"; boundary={boundary}" if boundary else ""
        headers = {**request.headers, "content-type": media + ending}
        return request.model_copy(update={"headers": headers, "text_body": text})
    payload = {field.name: field.value for field in fields} if has_fields else whole
    if payload is None:
        return request
    if kind is Kind.TEXT:
        headers, text = {**request.headers, "content-type": media}, scalar(payload)
        text.encode()  # raises ValueError for half a surrogate pair, as the other bodies do
        return request.model_copy(update={"headers": headers, "text_body": text})
    headers = request.headers if media == "application/json" else {**request.headers, "content-type": media}
    return request.model_copy(update={"headers": headers, "json_body": payload})


def _segment(name: str, text: str) -> str:
    plain = text
    while "%" in plain and (decoded := unquote(plain)) != plain:
        plain = decoded
    # `/` is encoded, but there are servers that decode it and then resolve dots.
    if not text.strip(".") or any(piece in (".", "..") for piece in re.split(r"[/\\]", plain)):
        raise CallRejected(f"argument {name!r} is not usable in a path: {text!r}")
    return text


def _header(name: str, text: str) -> str:
    if re.search(r"[^\x20-\x7e]", text):
        raise CallRejected(f"argument {name!r} has characters that a header cannot carry")
    return text
