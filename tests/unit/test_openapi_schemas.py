"""Schemas as documents write them become small self-contained ones; what gets lost on the way is reported."""

import json
import time
from typing import Any

import jsonschema
import pytest

from umi.errors import BadDocument
from umi.openapi import Budget, Imported, Status, build_request, import_document

TEXT = {"type": "string"}
HOME = "https://api.example.org/v1/openapi.json"


def imported(schema: Any, version: str = "3.0.3", budget: Budget = Budget(), **schemas: Any) -> Imported:
    """One operation whose body has one property `p` with this schema."""
    content = {"application/json": {"schema": {"type": "object", "properties": {"p": schema}}}}
    paths = {"/x": {"post": {"requestBody": {"content": content}}}}
    document = {"openapi": version, "paths": paths, "components": {"schemas": schemas}}
    return import_document(document, HOME, budget=budget)


def reduced(schema: Any, version: str = "3.0.3", **schemas: Any) -> Any:
    """What becomes of a schema."""
    (found,) = imported(schema, version, **schemas).usable()
    jsonschema.Draft202012Validator.check_schema(found.tool.parameters)
    return found.tool.parameters["properties"]["p"]


def losses(schema: Any, version: str = "3.0.3", **schemas: Any) -> tuple[str, ...]:
    """What its import loses."""
    (entry,) = imported(schema, version, **schemas).report.operations
    assert (entry.status is Status.WITH_LOSS) == bool(entry.losses)
    return entry.losses


def obj(required: tuple[str, ...] = (), **properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, **({"required": list(required)} if required else {})}


def ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}


def test_all_of_is_one_object_in_the_order_of_its_parts() -> None:
    parts = [ref("A"), obj(("b",), b={"type": "integer"})]
    made = reduced(
        {"allOf": parts, "required": ["a"], "properties": {"c": TEXT}},
        A=obj(("a",), a=TEXT, b=ref("B")),
        B={"minimum": 1},
    )
    assert made == obj(("a", "b"), a=TEXT, b={"minimum": 1, "type": "integer"}, c=TEXT)
    assert list(made["properties"]) == ["a", "b", "c"]


def test_read_only_fields_are_not_asked_for_and_write_only_ones_are() -> None:
    made = reduced(
        obj(("id", "secret"), id={**TEXT, "readOnly": True}, by=ref("Author"), secret={**TEXT, "writeOnly": True}),
        Author={**TEXT, "readOnly": True},
    )
    assert made == obj(("secret",), secret=TEXT)


def test_a_read_only_field_that_another_part_requires_is_not_required() -> None:
    made = reduced({"allOf": [obj(id={**TEXT, "readOnly": True}, a=TEXT), {"required": ["id", "a"]}]})
    assert made == obj(("a",), a=TEXT)


@pytest.mark.parametrize(
    ("schema", "version"),
    [
        ({**TEXT, "nullable": True}, "3.0.3"),
        ({"type": ["string", "null"]}, "3.1.0"),
        ({"allOf": [ref("Text")], "nullable": True}, "3.0.3"),
        ({**ref("Text"), "nullable": True}, "3.0.3"),
    ],
)
def test_what_may_be_null_may_be_null_in_every_version(schema: Any, version: str) -> None:
    assert reduced(schema, version, Text=TEXT) == {"type": ["string", "null"]}


def test_one_of_several_objects_stays_a_choice() -> None:
    choice = {"oneOf": [obj(("a",), a=TEXT), obj(("b",), b=TEXT)], "discriminator": {"propertyName": "a"}}
    assert reduced(choice) == {"anyOf": choice["oneOf"]}
    assert losses(choice) == ()


def test_alternatives_beside_properties_become_one_object_that_requires_what_all_do() -> None:
    schema = {**obj(("z",), z=TEXT), "oneOf": [obj(("a", "c"), a=TEXT, c=TEXT), {"required": ["c", "z"]}]}
    assert reduced(schema) == obj(("z", "c"), z=TEXT, a=TEXT, c=TEXT)
    assert losses(schema) == ("alternatives merged: p",)


def test_a_reference_in_the_values_of_a_map_is_inlined() -> None:
    made = reduced({"type": "object", "additionalProperties": ref("Text")}, Text={**TEXT, "title": "x"})
    assert made == {"type": "object", "additionalProperties": TEXT}


def test_what_stands_beside_a_reference_counts_from_3_1_on() -> None:
    node = {**ref("Text"), "maxLength": 3, "description": "short"}
    assert reduced(node, "3.1.0", Text=TEXT) == {**TEXT, "maxLength": 3, "description": "short"}
    assert reduced(node, "3.0.3", Text=TEXT) == {**TEXT, "description": "short"}


def test_recursion_is_cut_and_noted() -> None:
    tree = obj(value=TEXT, children={"type": "array", "items": ref("Tree")})
    assert reduced(ref("Tree"), Tree=tree) == obj(value=TEXT, children={"type": "array", "items": {}})
    assert losses(ref("Tree"), Tree=tree) == ("recursion cut: p.children.[]",)


def test_a_schema_reference_that_leads_nowhere_admits_anything_and_is_noted() -> None:
    assert reduced(ref("Missing")) == {}
    assert losses(ref("Missing")) == ("reference leads nowhere: #/components/schemas/Missing",)


def test_pointers_may_be_escaped_and_lead_into_lists() -> None:
    assert reduced({"$ref": "#/components/schemas/A~1B%20C/anyOf/1"}, **{"A/B C": {"anyOf": [{}, TEXT]}}) == TEXT


@pytest.mark.parametrize(
    ("written", "kept"),
    [
        ({"type": "string", "enum": [1, 2.5, "x", "x"]}, {"type": "string", "enum": ["1", "2.5", "x"]}),
        ({"type": "integer", "enum": ["1", "2"]}, {"type": "integer", "enum": [1, 2]}),
        ({"type": "string", "enum": [True, False]}, TEXT),
        ({"type": "string", "enum": [f"value number {n}" for n in range(500)]}, TEXT),
        ({"type": "int", "minimum": "1", "maxLength": -1, "minLength": 2.0}, {"type": "integer", "minLength": 2}),
        ({"type": "String", "required": True, "pattern": 7, "format": None}, TEXT),
        ({"type": "any", "default": "d" * 1000}, {}),
        ({"type": "string", "default": "d"}, {"type": "string", "default": "d"}),
        ({"type": "object", "required": ["gone"]}, {"type": "object"}),
        ({"type": "array", "items": [TEXT]}, {"type": "array"}),
        ({"type": "integer", "multipleOf": 3}, {"type": "integer"}),
        (True, {}),
    ],
)
def test_keywords_are_kept_with_sensible_values_only(written: Any, kept: Any) -> None:
    assert reduced(written) == kept


def test_rules_that_are_not_kept_are_noted() -> None:
    assert losses({"type": "integer", "multipleOf": 3, "not": {"const": 6}}) == (
        "rule not kept: not",
        "rule not kept: multipleOf",
    )


def test_a_type_that_does_not_exist_is_refused_by_its_name() -> None:
    with pytest.raises(BadDocument, match="there is no type 'no such type'"):
        imported({"type": "no such type"}).usable()


def test_long_descriptions_are_cut_and_lose_their_markup() -> None:
    made = reduced({**TEXT, "description": "<p>See [the\n guide](https://x.example/y).</p> " + "word " * 100})
    assert made["description"].startswith("See the guide. word")
    assert len(made["description"]) <= 200


def deep(levels: int, width: int) -> dict[str, Any]:
    """An object with `width` fields on each of so many levels."""
    return obj(**{f"f{n}": deep(levels - 1, width) if levels else TEXT for n in range(width)})


def test_a_deep_schema_is_cut_at_the_level_that_the_budget_admits() -> None:
    (found,) = imported(deep(3, 6)).usable()
    assert len(json.dumps(found.tool.parameters)) <= Budget().chars
    assert found.tool.parameters["properties"]["p"]["properties"]["f5"]["properties"]["f5"] == obj(
        **{f"f{n}": {"type": "object"} for n in range(6)}
    )
    assert any(loss.startswith("nesting cut: p.f0") for loss in losses(deep(3, 6)))


def test_required_arguments_survive_when_optional_ones_must_go() -> None:
    many = obj(("last",), **{f"f{n}": {**TEXT, "description": "d" * 90} for n in range(99)}, last=TEXT)
    content = {"application/json": {"schema": many}}
    document = {"openapi": "3.0.3", "paths": {"/x": {"post": {"requestBody": {"content": content}}}}}
    found = import_document(document, HOME)
    (operation,) = found.operations
    assert "last" in operation.tool.parameters["properties"]
    assert operation.places.keys() == operation.tool.parameters["properties"].keys()
    assert len(json.dumps(operation.tool.parameters)) <= Budget().chars
    assert found.report.operations[0].losses == (f"optional arguments left out: {100 - len(operation.places)}",)
    assert build_request(operation, {"last": "x"}).json_body == {"last": "x"}


def test_an_object_with_too_many_fields_keeps_the_required_ones() -> None:
    made = reduced(obj(("f499",), **{f"f{n}": {} for n in range(500)}))
    assert (len(made["properties"]), made["required"]) == (Budget().fields, ["f499"])


def test_a_document_that_doubles_on_each_level_costs_neither_time_nor_memory() -> None:
    levels = {
        f"L{n}": obj(a=ref(f"L{n + 1}"), b=ref(f"L{n + 1}"), c={"allOf": [ref(f"L{n + 1}")] * 9}) for n in range(60)
    }
    started = time.process_time()
    found = imported(ref("L0"), **levels, L60=TEXT)
    assert time.process_time() - started < 5
    assert len(found.model_dump_json()) < 20_000


def test_a_document_that_costs_too_much_as_a_whole_is_refused_from_there_on() -> None:
    paths = {f"/{n}": {"get": {"parameters": [{"name": "q", "in": "query", "schema": deep(1, 5)}]}} for n in range(9)}
    found = import_document({"openapi": "3.0.3", "paths": paths}, HOME, budget=Budget(nodes=300))
    statuses = [entry.status for entry in found.report.operations]
    assert (statuses[0], statuses[-1]) == (Status.IMPORTED, Status.REFUSED)
    assert "too large as a whole" in (found.report.operations[-1].reason or "")
    with pytest.raises(BadDocument, match="too many operations"):
        import_document({"openapi": "3.0.3", "paths": paths}, HOME, budget=Budget(operations=5))


def test_required_arguments_that_alone_are_too_much_are_a_refusal() -> None:
    place = {"name": "q", "in": "query", "required": True, "schema": {"enum": ["x" * 20]}}
    document = {"openapi": "3.0.3", "paths": {"/x": {"get": {"parameters": [place]}}}}
    (entry,) = import_document(document, HOME, budget=Budget(chars=100)).report.operations
    assert entry.reason == "its required arguments alone need more than 100 characters"
