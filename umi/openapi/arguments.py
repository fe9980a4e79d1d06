"""Parameters and body of an operation as the one JSON Schema that a model fills in."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from umi.errors import BadDocument
from umi.openapi.inputs import Body, Parameter
from umi.openapi.media import Kind, kind_of
from umi.openapi.model import DEFAULTS, Place, Written
from umi.openapi.names import MAX_ARGUMENT_TEXT, argument_name, shorten
from umi.openapi.references import References
from umi.openapi.report import Losses
from umi.openapi.schema import Reducer, TooWide
from umi.openapi.selection import Budget
from umi.trajectory import JsonObject

_DEPTHS = (8, 4, 3, 2, 1, 0, -1)
"""How many levels of objects and arrays follow below an argument; with -1 a body is one argument of any shape."""
_ANY_OBJECT: JsonObject = {"type": "object"}


@dataclass
class Arguments:
    """The arguments so far: their schemas, and for each where it travels, under which name and how it is written."""

    properties: JsonObject = field(default_factory=dict)
    required: list[str] = field(default_factory=list[str])
    places: dict[str, tuple[Place, str]] = field(default_factory=dict[str, tuple[Place, str]])
    written: dict[str, Written] = field(default_factory=dict[str, Written])

    @property
    def schema(self) -> JsonObject:
        """One object, without room for anything else."""
        return {
            "type": "object",
            "properties": self.properties,
            "required": self.required,
            "additionalProperties": False,
        }

    def add(self, target: str, place: Place, schema: JsonObject, is_required: bool, written: Written | None) -> None:
        """One more argument; it is renamed when another part of the request has its name."""
        name = base = argument_name(target)
        number = 1
        while name in self.properties:
            suffix = "body" if place is Place.WHOLE_BODY else place.value
            name, number = (f"{base}_{suffix}" if number == 1 else f"{base}_{suffix}_{number}"), number + 1
        self.properties[name], self.places[name] = schema, (place, target)
        if is_required:
            self.required.append(name)
        if written is not None and written != DEFAULTS[place]:
            self.written[name] = written

    def fit(self, chars: int, losses: Losses) -> bool:
        """Let optional arguments go, the last first, until the schema has at most so many characters."""
        size = _size(self.schema)
        dropped = 0
        for name in [name for name in reversed(self.properties) if name not in self.required]:
            if size <= chars:
                break
            size -= _size(self.properties[name]) + len(json.dumps(name)) + 4
            for each in (self.properties, self.places, self.written):
                each.pop(name, None)
            dropped += 1
        if dropped:
            losses.add("optional arguments left out", str(dropped))
        return size <= chars


def arguments(
    references: References, parameters: Sequence[Parameter], body: Body | None, budget: Budget, losses: Losses
) -> Arguments:
    """All of an operation's input, as deep as the budget admits. Raises BadDocument when it cannot be cut enough."""
    made: Arguments | None = None
    for depth in _DEPTHS:
        noted = Losses()
        try:
            room = budget.chars if depth > 0 else math.inf  # the last tries may let arguments go
            made = _drafted(Reducer(references, noted, budget, room), parameters, body, depth, noted)
        except TooWide:
            continue
        if _size(made.schema) <= budget.chars or (depth <= 0 and made.fit(budget.chars, noted)):
            losses.update(noted)
            return made
    if made is None:
        raise BadDocument(f"its schemas have more than {budget.visits} nodes on one level")
    raise BadDocument(f"its required arguments alone need more than {budget.chars} characters")


def _drafted(
    reducer: Reducer, parameters: Sequence[Parameter], body: Body | None, depth: int, losses: Losses
) -> Arguments:
    made = Arguments()
    for parameter in parameters:
        schema = reducer.reduce(parameter.schema, max(depth, 0), parameter.name)
        if text := shorten(parameter.description, MAX_ARGUMENT_TEXT):
            schema = {**schema, "description": text}
        is_required = parameter.is_required or parameter.place is Place.PATH
        made.add(parameter.name, parameter.place, schema, is_required, parameter.written)
    if body is not None:
        _add_body(made, body, reducer, depth, losses)
    return made


def _add_body(made: Arguments, body: Body, reducer: Reducer, depth: int, losses: Losses) -> None:
    kind = kind_of(body.media)
    if kind is Kind.TEXT:
        losses.add("body written as text", body.media)
        described = reducer.reduce(body.schema, 0, "body").get("description")
        text = shorten(described, MAX_ARGUMENT_TEXT) or f"{body.media} as text"
        made.add("body", Place.WHOLE_BODY, {"type": "string", "description": text}, body.is_required, None)
        return
    schema = reducer.reduce(body.schema, depth + 1, "")
    if schema.get("type") != "object" or not schema.get("properties"):
        if kind is not Kind.JSON and schema.get("type") != "object":
            schema = _ANY_OBJECT
        made.add("body", Place.WHOLE_BODY, schema, body.is_required, None)
        return
    if schema.get("additionalProperties"):
        losses.add("free fields of the body left out")
    fields: JsonObject = schema["properties"]
    for name, each in fields.items():
        written = _of_field(body, name, each, losses) if kind is not Kind.JSON else None
        made.add(name, Place.BODY, each, name in schema.get("required", ()), written)


def _of_field(body: Body, name: str, schema: JsonObject, losses: Losses) -> Written:
    """How a field of a form is written; a file is what a model can write of it: text."""
    written = body.written.get(name, DEFAULTS[Place.BODY])
    items: JsonObject = schema.get("items", {})
    if "binary" in (schema.get("format"), items.get("format")):
        losses.add("file written as text", name)
        if written.content_type is None:
            return written.model_copy(update={"content_type": "application/octet-stream"})
    return written


def _size(schema: JsonObject) -> int:
    return len(json.dumps(schema, ensure_ascii=False))
