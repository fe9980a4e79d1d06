"""Values as text in each of OpenAPI's styles (3.1.1, 4.8.12.4; RFC 6570), percent-encoded where they must be."""

import json
from typing import Any
from urllib.parse import quote, quote_plus

from umi.openapi.model import Style, Written

_BETWEEN = {Style.SPACE: "%20", Style.PIPE: "%7C", Style.TAB: "%09"}
_HARMLESS = "!$'()*,;:@/?"
"""Reserved characters that cannot end a value in a query; `&`, `=`, `+`, `#` and brackets could."""


def path_text(name: str, value: Any, written: Written) -> str:
    """A path parameter's share of its segment, every value in it encoded as one piece of text."""
    if written.style is Style.JSON:
        return _quoted(_json(value))
    if written.style is Style.MATRIX:
        return _matrix(_quoted(name), value, written.explode)
    first, between = ("", ",") if written.style is not Style.LABEL else (".", "." if written.explode else ",")
    return first + between.join(_pieces(value, written.explode, _quoted))


def header_text(value: Any, written: Written) -> str:
    """A header's value; the caller checks its characters."""
    return _json(value) if written.style is Style.JSON else ",".join(_pieces(value, written.explode, scalar))


def cookie_pairs(name: str, value: Any, written: Written) -> list[str]:
    """`name=value` of one cookie parameter."""
    return [f"{_quoted(key)}={text}" for key, text in _pairs(name, value, written, _quoted)]


def form_pairs(name: str, value: Any, written: Written) -> list[str]:
    """`name=value` of one query parameter or form field; none for null and for an empty array."""
    encode = _reserved if written.reserved else quote_plus
    return [f"{quote_plus(key)}={text}" for key, text in _pairs(name, value, written, encode)]


def scalar(value: Any) -> str:
    """One value as text; what is nested where only text can travel is JSON."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list | dict):
        return _json(value)
    return "" if value is None else str(value)


def _pairs(name: str, value: Any, written: Written, encode: Any) -> list[tuple[str, str]]:
    """Keys as they are, values encoded."""
    if value is None or value == []:
        return []
    if written.style is Style.JSON:
        return [(name, encode(_json(value)))]
    if written.style is Style.DEEP and isinstance(value, list | dict):
        return [(key, encode(scalar(each))) for key, each in _deep(name, value)]
    if isinstance(value, list | dict) and not written.explode:
        return [(name, _BETWEEN.get(written.style, ",").join(_pieces(value, False, encode)))]
    if isinstance(value, list):
        return [(name, encode(scalar(item))) for item in value]
    if isinstance(value, dict):
        return [(str(key), encode(scalar(item))) for key, item in value.items()]
    return [(name, encode(scalar(value)))]


def _deep(name: str, value: Any) -> list[tuple[str, Any]]:
    """`name[key]` and, where the specification stops, `name[key][inner]` and `name[0]`, as most servers read them."""
    if isinstance(value, dict):
        return [pair for key, item in value.items() for pair in _deep(f"{name}[{key}]", item)]
    if isinstance(value, list):
        return [pair for index, item in enumerate(value) for pair in _deep(f"{name}[{index}]", item)]
    return [] if value is None else [(name, value)]


def _matrix(name: str, value: Any, explode: bool) -> str:
    if isinstance(value, list | dict) and explode:
        if isinstance(value, dict):
            return "".join(f";{piece}" for piece in _pieces(value, True, _quoted))
        return "".join(f";{name}={piece}" for piece in _pieces(value, True, _quoted))
    return f";{name}=" + ",".join(_pieces(value, False, _quoted))


def _pieces(value: Any, explode: bool, encode: Any) -> list[str]:
    """Items of an array; keys and values of an object, joined by `=` when exploded; the one value of anything else."""
    if isinstance(value, list):
        return [encode(scalar(item)) for item in value]
    if isinstance(value, dict):
        pairs = [(encode(str(key)), encode(scalar(item))) for key, item in value.items()]
        return [f"{key}={item}" for key, item in pairs] if explode else [text for pair in pairs for text in pair]
    return [encode(scalar(value))]


def _quoted(text: str) -> str:
    return quote(text, safe="")


def _reserved(text: str) -> str:
    return quote(text, safe=_HARMLESS)


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
