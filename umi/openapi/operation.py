"""One operation of a document as a tool."""

from dataclasses import dataclass
from typing import Any

from umi.openapi import inputs, swagger2
from umi.openapi.arguments import arguments
from umi.openapi.model import DEFAULTS, Operation, Place
from umi.openapi.names import MAX_SEARCH_TEXT, MAX_TOOL_TEXT, shorten
from umi.openapi.paths import variables
from umi.openapi.references import Node, References
from umi.openapi.report import Losses
from umi.openapi.security import read_security
from umi.openapi.selection import Budget
from umi.openapi.servers import base_url
from umi.trajectory import JsonObject, ToolSpec


@dataclass(frozen=True)
class Source:
    """The document that operations are read from, and what holds for all of them."""

    root: JsonObject
    location: str | None
    base_url: str | None
    references: References
    budget: Budget


def read_operation(
    source: Source, name: str, method: str, path: str, shared: Node, own: Node, losses: Losses
) -> Operation:
    """The operation as a tool called `name`; `shared` is its path's item.

    Raises BadDocument when it cannot be one, and whatever Python raises when something is not of its own type.
    """
    base = source.base_url or base_url(source.root, source.location, own.value, shared.value)
    parameters, body = _inputs(source.references, shared, own, losses)
    parameters = _in_path(parameters, path, source.references, losses)
    made = arguments(source.references, parameters, body, source.budget, losses)
    summary, description = _text(own.value.get("summary")), _text(own.value.get("description"))
    search = [name.replace("_", " "), summary, description, path, *made.properties]
    return Operation(
        tool=ToolSpec(
            name=name,
            description=shorten(summary, MAX_TOOL_TEXT) or shorten(description, MAX_TOOL_TEXT),
            parameters=made.schema,
        ),
        method=method,
        base_url=base,
        path=path,
        places=made.places,
        written=made.written,
        media=body.media if body is not None else "application/json",
        needs_body=body is not None and body.is_required,
        security=read_security(own.value, source.root),
        search_text=" ".join(search),
    )


def _text(given: object) -> str:
    return given[:MAX_SEARCH_TEXT] if isinstance(given, str) else ""


def _inputs(
    references: References, shared: Node, own: Node, losses: Losses
) -> tuple[list[inputs.Parameter], inputs.Body | None]:
    if "swagger" in references.root.value:
        return swagger2.inputs(references, (shared, own), losses)
    return inputs.parameters(references, (shared, own), losses), inputs.body(references, own, losses)


def _in_path(
    parameters: list[inputs.Parameter], path: str, references: References, losses: Losses
) -> list[inputs.Parameter]:
    """The parameters, those of the path exactly as its template has them."""
    wanted = variables(path)
    described = {each.name for each in parameters if each.place is Place.PATH}
    for name in sorted(described - set(wanted)):
        losses.add("parameter left out", f"{name} is not in the path")
    missing = [name for name in wanted if name not in described]
    for name in missing:
        losses.add("path parameter not described", name)
    schema: Any = {"type": "string"}
    added = [
        inputs.Parameter(name, Place.PATH, references.root.child(schema), True, None, DEFAULTS[Place.PATH])
        for name in missing
    ]
    return [*added, *(each for each in parameters if each.place is not Place.PATH or each.name in wanted)]
