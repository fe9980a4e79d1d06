"""What an operation takes, read from OpenAPI 3: its parameters and its body, not yet one schema."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from umi.errors import BadDocument
from umi.openapi.media import Kind, choose, kind_of
from umi.openapi.model import DEFAULTS, Place, Style, Written
from umi.openapi.references import Node, References
from umi.openapi.report import Losses
from umi.trajectory import JsonObject

_TEXT = {"type": "string"}
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,100}")
OF_CLIENT = set(
    "accept accept-encoding authorization connection content-length content-type cookie expect host keep-alive "
    "proxy-authorization te trailer transfer-encoding upgrade".split()
)
_STYLES = {
    Place.PATH: {Style.SIMPLE, Style.LABEL, Style.MATRIX},
    Place.QUERY: {Style.FORM, Style.SPACE, Style.PIPE, Style.DEEP},
    Place.HEADER: {Style.SIMPLE},
    Place.COOKIE: {Style.FORM},
}


@dataclass(frozen=True)
class Parameter:
    """One parameter. `schema` is not reduced yet."""

    name: str
    place: Place
    schema: Node
    is_required: bool
    description: Any
    written: Written


@dataclass(frozen=True)
class Body:
    """The body in the one of its types that is used. `written` holds how fields of a form are written."""

    media: str
    schema: Node
    is_required: bool
    written: Mapping[str, Written] = field(default_factory=dict[str, Written])


def parameters(references: References, levels: Iterable[Node], losses: Losses) -> list[Parameter]:
    """The parameters of a path and its operation; the inner level overrides the outer one."""
    found: dict[tuple[str, str], Node] = {}
    for level in levels:
        for given in level.value.get("parameters") or ():
            node = references.find(level.child(given))
            found[(node.value["name"], node.value["in"])] = node
    return [made for node in found.values() if (made := _parameter(references, node, losses)) is not None]


def body(references: References, operation: Node, losses: Losses) -> Body | None:
    """The operation's request body. Raises BadDocument when it needs one of a type that cannot be written."""
    node = references.find(operation.child(operation.value.get("requestBody") or {}))
    content: JsonObject = node.value.get("content") or {}
    media = choose(content)
    is_required = node.value.get("required") is True
    if media is None:
        return without_body(content, is_required, losses)
    described: Any = content[media] or {}
    encoding: JsonObject = described.get("encoding") or {}
    written = {str(name): _encoded(each) for name, each in islice(encoding.items(), 500) if isinstance(each, dict)}
    return Body(media, node.child(described.get("schema", {})), is_required, written)


def without_body(types: Iterable[str], is_required: bool, losses: Losses) -> None:
    """Go on without a body. Raises BadDocument when that is not possible."""
    if not (listed := ", ".join(map(str, islice(types, 3)))[:100]):
        return
    if is_required:
        raise BadDocument(f"its body cannot be written: {listed}")
    losses.add("body left out", listed)


def is_offered(name: str, place: Place, is_required: bool, losses: Losses) -> bool:
    """Whether a model may set this parameter: what frames the message or says who is asking belongs to the client."""
    if place in (Place.HEADER, Place.COOKIE) and not _TOKEN.fullmatch(name):
        if is_required:
            raise BadDocument(f"{name[:100]!r} cannot be the name of a {place}")
        losses.add("parameter left out", name)
        return False
    if place is Place.HEADER and name.lower() in OF_CLIENT:
        if name.lower() not in ("accept", "content-type"):
            losses.add("header left to the client", name)
        return False
    return True


def _parameter(references: References, node: Node, losses: Losses) -> Parameter | None:
    value = node.value
    name, where, is_required = str(value["name"]), value["in"], value.get("required") is True
    if where not in ("path", "query", "header", "cookie"):
        if is_required:
            raise BadDocument(f"the parameter {name[:100]!r} is in {where!r}, which does not exist")
        losses.add("parameter left out", name)
        return None
    place = Place(where)
    if not is_offered(name, place, is_required, losses):
        return None
    schema, written = node.child(value.get("schema", _TEXT)), _styled(value, place, name, losses)
    if isinstance(content := value.get("content"), dict) and content:
        media, described = next(iter(content.items()))
        schema = node.child((described or {}).get("schema", {}))
        is_json = kind_of(media) is Kind.JSON
        written = Written(style=Style.JSON, explode=False) if is_json else DEFAULTS[place]
    return Parameter(name, place, schema, is_required, value.get("description"), written)


def _styled(value: JsonObject, place: Place, name: str, losses: Losses) -> Written:
    given = value.get("style")
    style = DEFAULTS[place].style
    if given in _STYLES[place]:
        style = Style(given)
    elif given is not None:
        losses.add("style not known", f"{name} {given}")
    return _written(value, style)


def _encoded(encoding: JsonObject) -> Written:
    """How one field of a form is written."""
    style = Style(encoding["style"]) if encoding.get("style") in _STYLES[Place.QUERY] else Style.FORM
    content = encoding.get("contentType")
    first = str(content).partition(",")[0].partition(";")[0].strip() if content else None
    return _written(encoding, style).model_copy(update={"content_type": first})


def _written(value: JsonObject, style: Style) -> Written:
    explode = value["explode"] if isinstance(value.get("explode"), bool) else style is Style.FORM
    return Written(style=style, explode=explode, reserved=value.get("allowReserved") is True)
