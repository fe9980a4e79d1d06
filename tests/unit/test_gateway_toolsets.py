"""Documents as they come: schemas that contain themselves, foreign regular expressions, OpenAPI 3.0's own ways."""

from typing import Any

import numpy as np
import pytest

from gateway.store import ToolsetRow
from gateway.tools.fetch import parse, with_server
from gateway.tools.http_tools import HttpTool
from gateway.tools.retrieval import Retriever
from gateway.tools.toolsets import read_toolset
from umi.errors import BadDocument, CallRejected, Unreachable


def tool(schema: dict[str, Any], **components: Any) -> HttpTool:
    body = {"content": {"application/json": {"schema": {"type": "object", "properties": {"p": schema}}}}}
    document = {
        "openapi": "3.0.3",
        "servers": [{"url": "http://127.0.0.1:9"}],
        "paths": {"/x": {"post": {"operationId": "x", "requestBody": body, "responses": {}}}},
        "components": {"schemas": components},
    }
    return read_toolset(ToolsetRow(name="t", document=document)).tools[0]


def test_a_schema_that_contains_itself_is_cut_where_it_begins_again() -> None:
    node = {"type": "object", "properties": {f"child{n}": {"$ref": "#/components/schemas/Node"} for n in range(20)}}
    made = tool({"$ref": "#/components/schemas/Node"}, Node=node)
    assert len(str(made.operation.tool.parameters)) < 2000
    assert made.request({"p": {"child0": {"anything": 1}}}).json_body == {"p": {"child0": {"anything": 1}}}


def test_an_exclusive_bound_of_openapi_3_0_is_kept() -> None:
    made = tool({"type": "number", "minimum": 0, "exclusiveMinimum": True, "maximum": 9, "exclusiveMaximum": False})
    assert made.request({"p": 9}).json_body == {"p": 9}
    for wrong in (0, 10):
        with pytest.raises(CallRejected, match="argument 'p'"):
            made.request({"p": wrong})


def test_a_pattern_that_python_cannot_read_is_left_to_the_tool() -> None:
    assert tool({"type": "string", "pattern": r"^\p{L}+$"}).request({"p": "été"}).json_body == {"p": "été"}
    with pytest.raises(CallRejected, match="does not match"):
        tool({"type": "string", "pattern": "^a+$"}).request({"p": "b"})


def test_a_relative_server_starts_from_where_the_document_lies() -> None:
    where = "http://host/mounted/openapi.json"
    assert with_server({"servers": [{"url": "/api"}]}, where)["servers"] == [{"url": "http://host/api"}]
    assert with_server({"servers": [{"url": "v1"}]}, where)["servers"] == [{"url": "http://host/mounted/v1"}]
    assert with_server({"servers": [{"url": "https://a.example/b"}]}, where)["servers"] == [
        {"url": "https://a.example/b"}
    ]
    assert with_server({}, where)["servers"] == [{"url": "http://host/"}]


def test_variables_of_a_server_outlive_its_becoming_absolute() -> None:
    server = {"url": "{scheme}://a.example/", "variables": {"scheme": {"default": "http"}}}
    assert with_server({"servers": [server]}, "http://host/openapi.json")["servers"] == [server]


def test_a_swagger_document_without_a_host_is_where_it_was_fetched_from() -> None:
    where = "http://host:81/mounted/swagger.json"
    assert with_server({"swagger": "2.0"}, where) == {"swagger": "2.0", "host": "host:81", "schemes": ["http"]}
    named = {"swagger": "2.0", "host": "a.example", "schemes": ["https"]}
    assert with_server(named, where) == named


def test_aliases_that_stand_for_too_much_are_refused_before_they_are_written_out() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
    with pytest.raises(Unreachable, match="neither JSON nor YAML"):
        parse("http://host/x", "\n".join(lines).encode())


@pytest.mark.parametrize("content", [b"plain text", b"\x00", b"[" * 100_000, b"a: &a\n  b: *a\n", b"{unclosed: "])
def test_what_is_neither_json_nor_yaml_is_refused(content: bytes) -> None:
    with pytest.raises((Unreachable, BadDocument)):
        parse("http://host/x", content)


def test_what_became_of_each_operation_is_kept_with_the_toolset() -> None:
    good, bad = {"operationId": "good"}, {"operationId": "bad", "parameters": [{"$ref": "#/nowhere"}]}
    document = {"openapi": "3.0.3", "paths": {"/x": {"get": good, "post": bad}}, "servers": [{"url": "http://h"}]}
    toolset = read_toolset(ToolsetRow(name="t", document=document))
    assert [made.name for made in toolset.tools] == ["good"]
    assert [(entry.name, entry.status) for entry in toolset.report.operations] == [
        ("good", "imported"),
        ("bad", "refused"),
    ]


def test_dates_and_number_keys_of_yaml_become_plain_json() -> None:
    assert parse("u", b"info: {version: 2024-01-01}\nresponses: {200: {}}") == {
        "info": {"version": "2024-01-01"},
        "responses": {"200": {}},
    }


def test_the_best_tools_are_found_by_word_stems_and_keep_their_order() -> None:
    retriever = Retriever({"time": "current time of a zone", "cities": "list cities", "convert": "convert units"})
    assert retriever.top("What is 3 miles converted to a metric unit?", 1, ["time", "cities", "convert"]) == ["convert"]
    assert retriever.top("the times in a city", 2, ["time", "cities", "convert"]) == ["time", "cities"]
    assert retriever.top("zzz", 2, ["cities", "convert", "time"]) == ["cities", "convert"]
    assert Retriever({}).top("q", 2, []) == []


def test_rankings_by_words_and_by_meaning_are_fused_by_reciprocal_ranks() -> None:
    retriever = Retriever({"a": "red green", "b": "red", "c": "blue", "d": "grey", "e": "white"})
    near = np.array([0.0, 1.0, 1.2, 1.9, 1.8], np.float32)  # d e c b; a is not known
    assert retriever.fitting("red", 5) == ["b", "a"]
    # d 1/63 + 1/61, a 1/62 + 1/62, b 1/61 + 1/64, e 1/63 + 1/62, c 1/63 + 1/63
    assert retriever.fitting("red", 5, near=near) == ["d", "a", "b", "e", "c"]
    assert retriever.top("red", 2, near=near) == ["a", "d"]
    assert retriever.fitting("red", 2, ["a", "c", "b"], near) == ["b", "c"]
    assert retriever.fitting("nothing", 2, near=near) == ["d", "e"]
    assert retriever.fitting("nothing", 2, near=np.zeros(5, np.float32)) == []
