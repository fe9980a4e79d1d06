"""What an operation takes, read from Swagger 2.0 into the same form as from OpenAPI 3."""

from collections.abc import Iterable, Sequence
from typing import Any

from umi.openapi.inputs import Body, Parameter, is_offered, without_body
from umi.openapi.media import Kind, choose, kind_of
from umi.openapi.model import DEFAULTS, Place, Style, Written
from umi.openapi.references import Node, References
from umi.openapi.report import Losses

_FORMATS = {
    "csv": Written(style=Style.FORM, explode=False),
    "ssv": Written(style=Style.SPACE, explode=False),
    "tsv": Written(style=Style.TAB, explode=False),
    "pipes": Written(style=Style.PIPE, explode=False),
    "multi": Written(style=Style.FORM, explode=True),
}


def inputs(references: References, levels: Sequence[Node], losses: Losses) -> tuple[list[Parameter], Body | None]:
    """The parameters and the body of an operation; `levels` are its path and itself.

    Raises BadDocument when it needs a body of a type that cannot be written.
    """
    found: dict[tuple[str, str], Node] = {}
    for level in levels:
        for given in level.value.get("parameters") or ():
            node = references.find(level.child(given))
            found[(node.value["name"], node.value["in"])] = node
    plain = [_parameter(node) for (_, where), node in found.items() if where in ("path", "query", "header")]
    offered = [each for each in plain if is_offered(each.name, each.place, each.is_required, losses)]
    consumes = levels[-1].value.get("consumes") or references.root.value.get("consumes") or []
    return offered, _body(found.values(), [str(media) for media in consumes], losses)


def _body(nodes: Iterable[Node], consumes: list[str], losses: Losses) -> Body | None:
    fields = {str(node.value["name"]): node for node in nodes if node.value["in"] == "formData"}
    if fields:
        return _form(fields, consumes)
    for node in nodes:
        if node.value["in"] == "body":
            is_required = node.value.get("required") is True
            media = choose(consumes or ["application/json"])
            if media is None or kind_of(media) in (Kind.FORM, Kind.MULTIPART):
                media = choose([each for each in consumes if kind_of(each) is Kind.TEXT])
            if media is None:
                return without_body(consumes, is_required, losses)
            return Body(media, node.child(node.value.get("schema", {})), is_required)
    return None


def _form(fields: dict[str, Node], consumes: list[str]) -> Body:
    has_files = any(node.value.get("type") == "file" for node in fields.values())
    forms = [media for media in consumes if kind_of(media) in (Kind.FORM, Kind.MULTIPART)]
    media = "multipart/form-data" if has_files else (choose(forms) or "application/x-www-form-urlencoded")
    required = [name for name, node in fields.items() if node.value.get("required") is True]
    properties = {name: node.value for name, node in fields.items()}
    schema: dict[str, Any] = {"type": "object", "properties": properties, "required": required}
    home = next(iter(fields.values())).home
    written = {name: _written(node, Place.BODY) for name, node in fields.items()}
    return Body(media, Node(schema, home), bool(required), written)


def _parameter(node: Node) -> Parameter:
    """A parameter is its own schema."""
    value, place = node.value, Place(node.value["in"])
    is_required = value.get("required") is True
    return Parameter(str(value["name"]), place, node, is_required, value.get("description"), _written(node, place))


def _written(node: Node, place: Place) -> Written:
    written = _FORMATS.get(str(node.value.get("collectionFormat", "csv")), _FORMATS["csv"])
    if place in (Place.PATH, Place.HEADER) and written.style is Style.FORM:
        return DEFAULTS[place]
    return written
