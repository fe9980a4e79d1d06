"""Schemas of a document, reduced to self-contained JSON Schemas that a prompt and a decoder's grammar can carry."""

import math
from dataclasses import dataclass, replace
from typing import Any

from umi.openapi.keywords import keywords
from umi.openapi.merge import merged, with_alternatives
from umi.openapi.references import Node, References
from umi.openapi.report import Losses
from umi.openapi.selection import Budget
from umi.trajectory import JsonObject

_MAX_ALTERNATIVES = 20
_BESIDE_3_0 = {"description", "nullable", "x-nullable"}
_NOT_BESIDE = {"$ref", "default"}
"""A default beside a reference changes nothing in a request, and the shipped models know their tools without it."""


class TooWide(Exception):
    """The schemas have more nodes than the budget admits; try again with less depth."""


@dataclass(frozen=True)
class _Here:
    """A point of the descent: how many levels may follow, its name, and the nodes on the way (by identity)."""

    depth: int
    where: str
    above: frozenset[int] = frozenset()

    def below(self, name: str) -> "_Here":
        return replace(self, depth=self.depth - 1, where=f"{self.where}.{name}" if self.where else name)


class Reducer:
    """Reduces the schemas of one operation, until the budget's visits are used up.

    It also stops as soon as the names of the properties alone need more than `room` characters.
    """

    def __init__(self, references: References, losses: Losses, budget: Budget, room: float = math.inf) -> None:
        self._references, self._losses, self._budget = references, losses, budget
        self._left, self._room = budget.visits, room
        self._is_31 = not str(references.root.value.get("openapi", "3.0")).startswith("3.0")

    def reduce(self, node: Node, depth: int, where: str) -> JsonObject:
        """`node` with references inlined, `allOf` merged, and objects and arrays cut after `depth` levels.

        Raises TooWide, and BadDocument for what cannot be understood.
        """
        return self._whole(node, _Here(depth, where))

    def _whole(self, node: Node, here: _Here) -> JsonObject:
        """A schema that nothing is merged into any more."""
        schema = self._schema(node, here)
        if "required" in schema:
            named = [name for name in schema["required"] if name in schema.get("properties", ())]
            schema["required"] = named  # the others are read-only, or never described
            if not named:
                del schema["required"]
        return schema

    def _schema(self, node: Node, here: _Here) -> JsonObject:
        self._left -= 1
        if self._left < 0:
            raise TooWide
        target = self._references.follow(node)
        if target is None:
            self._losses.add("reference leads nowhere", str(node.value["$ref"]))
            return {}
        value = target.value
        if not isinstance(value, dict):
            return {}
        if id(value) in here.above:
            self._losses.add("recursion cut", here.where)
            return {}
        inside = replace(here, above=here.above | {id(value)})
        schema = self._children(target, keywords(value, here.where, self._losses), inside)
        for part in reversed(value.get("allOf") or ()):
            schema = merged(self._schema(target.child(part), inside), schema)
        schema = self._alternatives(target, schema, inside)
        if (value.get("nullable") or value.get("x-nullable")) is True and isinstance(schema.get("type"), str):
            schema["type"] = [schema["type"], "null"]
        return schema if value is node.value else self._beside(node, schema, here)

    def _beside(self, node: Node, schema: JsonObject, here: _Here) -> JsonObject:
        """The schema behind a reference with what stands beside the reference: all since 3.1, before only remarks."""
        kept = node.value.keys() - _NOT_BESIDE if self._is_31 else node.value.keys() & _BESIDE_3_0
        if "description" in schema:
            kept -= {"description"}
        if not kept:
            return schema
        beside = {key: value for key, value in node.value.items() if key in kept}
        made = merged(schema, self._schema(node.child(beside), here))
        if beside.get("nullable") is True and isinstance(made.get("type"), str):
            made["type"] = [made["type"], "null"]
        return made

    def _children(self, node: Node, schema: JsonObject, here: _Here) -> JsonObject:
        value = node.value
        extra = schema.get("additionalProperties")
        if not {"properties", "items"} & value.keys() and not isinstance(extra, dict):
            return schema
        if here.depth <= 0:
            self._losses.add("nesting cut", here.where)
            schema.pop("required", None)
            schema.pop("additionalProperties", None)
            schema.setdefault("type", "object" if "properties" in value else "array" if "items" in value else "object")
            return schema
        if isinstance(extra, dict):
            schema["additionalProperties"] = self._whole(node.child(extra), here.below("*")) or True
        if "properties" in value:
            schema["properties"] = self._properties(node, set(schema.get("required", ())), here)
            schema.setdefault("type", "object")
        if isinstance(value.get("items"), dict):
            schema["items"] = self._whole(node.child(value["items"]), here.below("[]"))
        return schema

    def _properties(self, node: Node, required: set[str], here: _Here) -> JsonObject:
        given: JsonObject = node.value["properties"]
        names = [name for name, _ in zip(given.keys(), range(10 * self._budget.fields), strict=False)]
        if len(given) > self._budget.fields:
            first = [name for name in names if name in required]
            chosen = {*first, *[name for name in names if name not in required][: self._budget.fields - len(first)]}
            names = [name for name in names if name in chosen][: self._budget.fields]
            self._losses.add("fields left out", f"{len(given) - len(names)} of {here.where or 'the body'}")
        self._room -= sum(len(str(name)) + len('"": {}, ') for name in names)
        if self._room < 0:
            raise TooWide
        return {
            str(name): self._whole(node.child(given[name]), here.below(str(name)))
            for name in names
            if not self._is_absent(node.child(given[name]))
        }

    def _is_absent(self, node: Node) -> bool:
        """Whether a property has no place in a request."""
        if node.value is False or (isinstance(node.value, dict) and node.value.get("readOnly") is True):
            return True
        target = self._references.follow(node)
        return target is not None and isinstance(target.value, dict) and target.value.get("readOnly") is True

    def _alternatives(self, node: Node, schema: JsonObject, here: _Here) -> JsonObject:
        given: Any = node.value.get("anyOf") or node.value.get("oneOf") or []
        if not given:
            return schema
        if len(given) > _MAX_ALTERNATIVES:
            self._losses.add("alternatives left out", here.where)
            return schema
        options = [self._option(node.child(option), schema, here) for option in given]
        made, loss = with_alternatives(schema, options)
        if loss:
            self._losses.add(loss, here.where)
        return made

    def _option(self, option: Node, schema: JsonObject, here: _Here) -> JsonObject:
        """An alternative as it stands; beside properties it will be merged, so it may require what those hold."""
        return self._schema(option, here) if "properties" in schema else self._whole(option, here)
