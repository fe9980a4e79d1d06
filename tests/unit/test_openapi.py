"""Documents become operations, operations and arguments become requests, and no argument leaves its place."""

import json
import re
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import httpx
import jsonschema
import pytest

from umi.errors import BadDocument, CallRejected
from umi.openapi import Operation, Place, build_request, read_document

HOME = "https://api.example.org/v1/openapi.json"
TEXT = {"type": "string"}


def document(paths: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {"openapi": "3.1.0", "info": {"title": "t", "version": "1"}, "paths": paths, **fields}


def operation(path: str = "/x", method: str = "get", **fields: Any) -> Operation:
    """The one operation of a document with these fields."""
    (found,) = read_document(document({path: {method: fields}}), HOME)
    return found


def parameter(name: str, place: str, **fields: Any) -> dict[str, Any]:
    return {"name": name, "in": place, "schema": TEXT, **fields}


def body(schema: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {"content": {"application/json": {"schema": schema}}, **fields}


ITEM = operation("/shelves/{shelf}/items/{item}", parameters=[parameter("shelf", "path"), parameter("item", "path")])


# arguments → request


@pytest.mark.parametrize(
    "value",
    ["a/b", "/", "//evil.org", "../admin", "..", ".", "...", "", "?x=1", "#frag", "%2e%2e", "%2F", "..%2f", "a\\..\\b",
     "a\r\nHost: evil.org", "\x00", "a b+c", "é東", "a;b=c", "{shelf}", "@evil.org", "https://evil.org/"],
)  # fmt: skip
def test_a_path_value_never_leaves_its_segment(value: str) -> None:
    try:
        url = build_request(ITEM, {"shelf": "s", "item": value}).url
    except CallRejected:
        assert not value.strip(".") or {".", ".."} & set(re.split(r"[/\\]", unquote(value)))
        return
    sent = httpx.URL(url)
    assert (sent.scheme, sent.host, sent.query, sent.fragment) == ("https", "api.example.org", b"", "")
    *before, last = sent.raw_path.decode("ascii").split("/")
    assert before == ["", "shelves", "s", "items"]
    assert last not in ("", ".", "..")
    assert unquote(last) == value


@pytest.mark.parametrize("value", ["", ".", ".."])
def test_a_path_value_that_names_another_directory_is_refused(value: str) -> None:
    with pytest.raises(CallRejected, match="'item' is not usable in a path"):
        build_request(ITEM, {"shelf": "s", "item": value})


def test_a_missing_path_value_is_refused_by_its_name() -> None:
    with pytest.raises(CallRejected, match="needs a value for 'item'"):
        build_request(ITEM, {"shelf": "s"})


def test_query_values_are_encoded_and_arrays_repeat_their_name() -> None:
    tags = operation(parameters=[parameter("tag", "query"), parameter("q", "query"), parameter("all", "query")])
    request = build_request(tags, {"tag": ["a&b=c", "d"], "q": "x#y?é\r\n", "all": True})
    split = urlsplit(request.url)
    assert parse_qsl(split.query) == [("tag", "a&b=c"), ("tag", "d"), ("q", "x#y?é\r\n"), ("all", "true")]
    assert (split.path, split.fragment) == ("/x", "")
    assert request.json_body is None


@pytest.mark.parametrize("value", ["a\r\nX-Admin: 1", "a\nb", "\x00", "é", "\x7f"])
def test_a_header_value_with_control_characters_is_refused(value: str) -> None:
    traced = operation(parameters=[parameter("X-Trace", "header")])
    assert build_request(traced, {"X-Trace": "abc 1"}).headers == {"X-Trace": "abc 1"}
    with pytest.raises(CallRejected, match="X-Trace"):
        build_request(traced, {"X-Trace": value})


def test_the_fields_of_a_body_are_arguments() -> None:
    schema = {"type": "object", "properties": {"title": TEXT, "due": TEXT}, "required": ["title"]}
    add = operation(method="post", requestBody=body(schema, required=True), operationId="add")
    assert add.tool.parameters["required"] == ["title"]
    assert build_request(add, {"title": "milk"}).json_body == {"title": "milk"}
    assert build_request(add, {}).json_body == {}


def test_a_body_that_is_no_object_is_one_argument() -> None:
    add = operation(method="post", requestBody=body({"type": "array", "items": TEXT}))
    assert build_request(add, {"body": ["a", "b"]}).json_body == ["a", "b"]
    assert build_request(add, {"body": []}).json_body == []
    assert build_request(add, {}).json_body is None


def test_arguments_of_one_name_keep_their_places_apart() -> None:
    put = operation(
        "/items/{id}", "put", parameters=[parameter("id", "path")],
        requestBody=body({"type": "object", "properties": {"id": {"type": "integer"}}}),
    )  # fmt: skip
    request = build_request(put, {"id": "a", "id_body": 7})
    assert (request.method, urlsplit(request.url).path, request.json_body) == ("PUT", "/items/a", {"id": 7})


@pytest.mark.parametrize(("method", "safe"), [("get", True), ("head", True), ("post", False), ("delete", False)])
def test_only_reading_is_safe_to_repeat(method: str, safe: bool) -> None:
    assert operation(method=method).is_safe is safe


# document → operations


@pytest.mark.parametrize(
    ("servers", "location", "url"),
    [
        (None, HOME, "https://api.example.org/x"),
        ([{"url": "/v2"}], HOME, "https://api.example.org/v2/x"),
        ([{"url": "v2/"}], HOME, "https://api.example.org/v1/v2/x"),
        ([{"url": "http://other.org/api/"}], HOME, "http://other.org/api/x"),
        ([{"url": "http://other.org"}], None, "http://other.org/x"),
    ],
)
def test_server_addresses_start_where_the_document_lay(servers: Any, location: str | None, url: str) -> None:
    fields = {} if servers is None else {"servers": servers}
    (found,) = read_document(document({"/x": {"get": {}}}, **fields), location)
    assert build_request(found, {}).url == url


def test_a_base_url_overrides_the_servers() -> None:
    (found,) = read_document(document({"/x": {"get": {}}}, servers=[{"url": "/v2"}]), HOME, "http://127.0.0.1:1/base/")
    assert build_request(found, {}).url == "http://127.0.0.1:1/base/x"


@pytest.mark.parametrize("url", ["/v1", "ftp://x.org", "file:///etc/passwd", "javascript:alert(1)"])
def test_without_an_absolute_http_address_base_url_is_asked_for(url: str) -> None:
    with pytest.raises(BadDocument, match="pass base_url") as caught:
        read_document(document({"/x": {"get": {}}}, servers=[{"url": url}]))
    assert caught.value.field == "base_url"


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        (None, "document"),
        ([], "document"),
        ("openapi: 3.1.0", "document"),
        ({"swagger": "1.2", "paths": {"/x": {"get": {}}}}, "document"),
        ({"openapi": "2.0", "paths": {"/x": {"get": {}}}}, "document"),
        ({"openapi": "3.1.0"}, "document.paths"),
        (document({}), "document.paths"),
        (document({"/x": {"description": "none"}}), "document.paths"),
        (document({"/x": "get"}), "document.paths./x"),
        (document({"/x": {"get": {"parameters": [{"in": "query"}]}}}), "document.paths./x"),
        (document({"/x": {"get": {"parameters": 3}}}), "document.paths./x"),
        (document({"/x": {"get": {"parameters": [None]}}}), "document.paths./x"),
        (document({"/x": {"post": {"requestBody": "yes"}}}), "document.paths./x"),
        (
            document({"/x": {"post": {"requestBody": {"content": {"image/png": {}}, "required": True}}}}),
            "document.paths./x",
        ),
        (document({"/x": {"post": {"requestBody": body({"properties": [1]})}}}), "document.paths./x"),
        (document({"/x": {"get": {"operationId": 7}}}), "document.paths./x"),
        (document({"/x": {"get": {"parameters": [{"$ref": "#/nowhere"}]}}}), "document"),
        (document({"/x": {"get": {"parameters": [{"$ref": "http://evil.org/p"}]}}}), "document"),
    ],
)
def test_what_is_not_usable_openapi_is_refused_by_the_field_that_is_wrong(wrong: Any, field: str) -> None:
    with pytest.raises(BadDocument) as caught:
        read_document(wrong, HOME)
    assert caught.value.field == field


def test_duplicate_and_unwritable_operation_ids_get_unique_names() -> None:
    paths = {f"/{i}": {"get": {"operationId": "find it!"}, "put": {"operationId": "x" * 90}} for i in range(3)}
    names = [found.tool.name for found in read_document(document({**paths, "/a/{b}": {"get": {}}}), HOME)]
    assert names[0::2] == ["find_it", "find_it_2", "find_it_3", "get__a_b"]
    assert len(set(names)) == len(names)
    assert all(len(name) <= 64 for name in names)


def test_references_are_inlined_and_documentation_is_dropped() -> None:
    components = {
        "parameters": {"City": parameter("city", "query", schema={"$ref": "#/components/schemas/Name"}, required=True)},
        "schemas": {"Name": {"type": "string", "minLength": 2, "example": "Oslo", "title": "Name", "x-a": 1}},
    }
    given = {"/x": {"get": {"parameters": [{"$ref": "#/components/parameters/City"}]}}}
    (found,) = read_document(document(given, components=components), HOME)
    assert found.tool.parameters == {
        "type": "object",
        "properties": {"city": {"type": "string", "minLength": 2}},
        "required": ["city"],
        "additionalProperties": False,
    }


def test_a_schema_that_contains_itself_ends() -> None:
    node = {"type": "object", "properties": {"value": TEXT, "next": {"$ref": "#/components/schemas/Node"}}}
    given = document({"/x": {"post": {"requestBody": body({"$ref": "#/components/schemas/Node"})}}})
    (found,) = read_document({**given, "components": {"schemas": {"Node": node}}}, HOME)
    assert found.tool.parameters["properties"] == {"value": TEXT, "next": {}}
    json.dumps(found.tool.parameters)


def test_a_reference_to_itself_is_refused() -> None:
    loop = {"a": {"$ref": "#/components/schemas/b"}, "b": {"$ref": "#/components/schemas/a"}}
    given = document(
        {"/x": {"get": {"parameters": [parameter("q", "query", schema={"$ref": "#/components/schemas/a"})]}}}
    )
    with pytest.raises(BadDocument, match="refers to itself"):
        read_document({**given, "components": {"schemas": loop}}, HOME)


def test_an_operation_overrides_the_parameters_of_its_path() -> None:
    shared = {"parameters": [parameter("id", "path"), parameter("lang", "query")]}
    own = {"parameters": [parameter("id", "path", schema={"type": "integer"})]}
    (found,) = read_document(document({"/items/{id}": {**shared, "get": own}}), HOME)
    assert found.tool.parameters["properties"] == {"id": {"type": "integer"}, "lang": TEXT}
    assert found.tool.parameters["required"] == ["id"]
    assert found.places == {"id": (Place.PATH, "id"), "lang": (Place.QUERY, "lang")}


@pytest.mark.parametrize(
    ("written", "valid", "invalid"),
    [
        ({"type": "integer", "minimum": 0, "exclusiveMinimum": True}, 1, 0),
        ({"type": "integer", "exclusiveMinimum": 0}, 1, 0),
        ({"type": "string", "nullable": True}, None, 3),
        ({"anyOf": [TEXT, {"type": "null"}]}, "a", 3),
        ({"oneOf": [TEXT, {"type": "integer"}]}, 3, []),
        ({"allOf": [{"properties": {"a": TEXT}, "required": ["a"]}, {"properties": {"b": TEXT}, "required": ["b"]}]},
         {"a": "", "b": ""}, {"a": ""}),
        ({"type": "array", "items": {"enum": ["x"]}, "maxItems": 1}, ["x"], ["y"]),
    ],
)  # fmt: skip
def test_schemas_of_both_openapi_versions_mean_the_same(written: Any, valid: Any, invalid: Any) -> None:
    found = operation(parameters=[parameter("q", "query", schema=written)])
    validator = jsonschema.Draft202012Validator(found.tool.parameters)
    validator.check_schema(found.tool.parameters)
    assert validator.is_valid({"q": valid})
    assert not validator.is_valid({"q": invalid})
    assert not validator.is_valid({"r": valid})
