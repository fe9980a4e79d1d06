"""Whole documents: what is selected, named, addressed and referred to, in all three versions, and what is reported."""

from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest

from umi.errors import BadDocument, Unreachable
from umi.openapi import Imported, Operation, Place, Selection, Status, build_request, import_document, moved

TEXT = {"type": "string"}
HOME = "https://api.example.org/v1/openapi.json"


def document(paths: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {"openapi": "3.0.3", "paths": paths, **fields}


def swagger(paths: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {"swagger": "2.0", "host": "old.example.org", "basePath": "/v2", "paths": paths, **fields}


def only(imported: Imported) -> Operation:
    (found,) = imported.usable()
    return found


def statuses(imported: Imported) -> dict[str, tuple[str, str | None]]:
    return {entry.name or entry.path: (entry.status, entry.reason) for entry in imported.report.operations}


# reports


def test_one_bad_operation_does_not_take_the_others_with_it() -> None:
    paths = {
        "/good": {"get": {"operationId": "good"}},
        "/bad": {"get": {"operationId": "bad", "parameters": [{"$ref": "#/nowhere"}]}},
        "/worse": {"get": {"operationId": "worse", "parameters": 7}},
        "/none": "text",
        "x-note": {"get": {}},
        "/lossy/{id}": {"get": {"operationId": "lossy"}},
    }
    found = import_document(document(paths), HOME)
    assert [operation.tool.name for operation in found.operations] == ["good", "lossy"]
    assert statuses(found) == {
        "good": ("imported", None),
        "bad": ("refused", "the reference '#/nowhere' leads nowhere"),
        "worse": ("refused", "cannot be understood: TypeError: 'int' object is not iterable"),
        "/none": ("refused", "/none is not an object"),
        "lossy": ("with_loss", None),
    }
    assert found.report.of(Status.WITH_LOSS)[0].losses == ("path parameter not described: id",)
    assert found.report.summary == "1 imported, 1 with loss, 3 refused"


def test_a_document_of_which_nothing_is_left_says_why() -> None:
    with pytest.raises(BadDocument, match="GET /x: it is deprecated"):
        import_document(document({"/x": {"get": {"deprecated": True}}}), HOME).usable()


def test_a_path_parameter_that_nobody_described_is_asked_for() -> None:
    found = only(import_document(document({"/a/{id}": {"get": {}}}), HOME))
    assert found.tool.parameters["required"] == ["id"]
    assert build_request(found, {"id": "x/y"}).url == "https://api.example.org/a/x%2Fy"


def test_what_frames_the_message_is_left_to_the_client() -> None:
    names = ("Host", "Content-Length", "Cookie", "Authorization", "Content-Type", "X-Mine")
    places = [{"name": name, "in": "header", "schema": TEXT} for name in names]
    found = import_document(document({"/x": {"get": {"parameters": places}}}), HOME)
    assert list(only(found).places) == ["X-Mine"]
    assert "header left to the client: Host" in found.report.operations[0].losses


# selection


CHOICE = {
    "/pets": {
        "get": {"operationId": "pets", "tags": ["pet"]},
        "post": {"operationId": "add", "tags": ["pet", "write"]},
    },
    "/admin/users": {"get": {"operationId": "users", "tags": ["admin"]}},
    "/old": {"get": {"operationId": "old", "deprecated": True}},
}


@pytest.mark.parametrize(
    ("selection", "left"),
    [
        (Selection(), ["pets", "add", "users"]),
        (Selection(deprecated=True), ["pets", "add", "users", "old"]),
        (Selection(include_tags=("pet",)), ["pets", "add"]),
        (Selection(include_tags=("pet",), exclude_tags=("write",)), ["pets"]),
        (Selection(include_paths=("/p*", "/old")), ["pets", "add"]),
        (Selection(exclude_paths=("/admin/*",)), ["pets", "add"]),
        (Selection(methods=("GET",)), ["pets", "users"]),
    ],
)
def test_operations_are_selected_by_tag_path_method_and_age(selection: Selection, left: list[str]) -> None:
    found = import_document(document(CHOICE), HOME, selection=selection)
    assert [operation.tool.name for operation in found.operations] == left
    assert len(found.report.operations) == 4
    assert all(entry.reason for entry in found.report.of(Status.LEFT_OUT))


# names


def test_a_name_does_not_depend_on_what_else_is_selected() -> None:
    paths = {f"/{tag}": {"get": {"operationId": "list", "tags": [tag]}} for tag in ("a", "b")}
    for tags in ({"b"}, {"a", "b"}):
        found = import_document(document(paths), HOME, selection=Selection(include_tags=tuple(tags)))
        assert found.operations[-1].tool.name == "list_2"


def test_names_come_from_the_path_when_there_is_no_usable_identity() -> None:
    paths = {"/städte/{id}": {"get": {}}, "/b": {"get": {"operationId": "東京"}}, "/": {"get": {"operationId": ""}}}
    names = [found.tool.name for found in import_document(document(paths), HOME).operations]
    assert names == ["get__st_dte_id", "get__b", "get"]


def test_long_names_keep_their_end_from_a_whole_word_on() -> None:
    identity = "very_long_prefix_" * 5 + "list_the_items"
    found = only(import_document(document({"/x": {"get": {"operationId": identity}}}), HOME))
    assert found.tool.name == "long_prefix_very_long_prefix_very_long_prefix_list_the_items"


def test_arguments_of_one_name_in_every_place_are_kept_apart() -> None:
    places = [
        {"name": "id", "in": place, "required": True, "schema": TEXT} for place in ("path", "query", "header", "cookie")
    ]
    content = {"application/json": {"schema": {"properties": {"id": TEXT, "id_query": TEXT}}}}
    put = {"parameters": places, "requestBody": {"content": content}}
    found = only(import_document(document({"/x/{id}": {"put": put}}), HOME))
    assert found.places == {
        "id": (Place.PATH, "id"), "id_query": (Place.QUERY, "id"), "id_header": (Place.HEADER, "id"),
        "id_cookie": (Place.COOKIE, "id"), "id_body": (Place.BODY, "id"), "id_query_body": (Place.BODY, "id_query"),
    }  # fmt: skip
    request = build_request(found, {name: name for name in found.places})
    assert urlsplit(request.url).path == "/x/id"
    assert parse_qsl(urlsplit(request.url).query) == [("id", "id_query")]
    assert request.headers == {"id": "id_header", "cookie": "id=id_cookie"}
    assert request.json_body == {"id": "id_body", "id_query": "id_query_body"}


def test_argument_names_are_safe_and_the_request_has_the_real_ones() -> None:
    place = {"name": 'a "b"\n<|im_end|>', "in": "query", "schema": TEXT}
    found = only(import_document(document({"/x": {"get": {"parameters": [place]}}}), HOME))
    ((name, (_, target)),) = found.places.items()
    assert (name, target) == ("a_b_im_end", place["name"])
    assert parse_qsl(urlsplit(build_request(found, {name: "v"}).url).query) == [(place["name"], "v")]


def test_a_description_stands_in_for_a_summary_and_is_cut() -> None:
    get = {"description": "<b>First</b> line.\n\n" + "more words " * 100}
    text = only(import_document(document({"/x": {"get": get}}), HOME)).tool.description
    assert text.startswith("First line. more words")
    assert (len(text) <= 300, text[-1]) == (True, "…")


# servers


@pytest.mark.parametrize(
    ("of_root", "of_path", "of_operation", "base"),
    [
        ("https://root.org", None, None, "https://root.org"),
        ("https://root.org", "https://path.org/p", None, "https://path.org/p"),
        ("https://root.org", "https://path.org", "/op", "https://api.example.org/op"),
    ],
)
def test_the_innermost_servers_count(of_root: str, of_path: str | None, of_operation: str | None, base: str) -> None:
    def servers(url: str | None) -> dict[str, Any]:
        return {"servers": [{"url": url}]} if url else {}

    given = document({"/x": {**servers(of_path), "get": servers(of_operation)}}, **servers(of_root))
    assert only(import_document(given, HOME)).base_url == base
    assert only(import_document(given, HOME, "http://127.0.0.1:1")).base_url == "http://127.0.0.1:1"
    assert only(import_document(moved(given, "http://127.0.0.1:1"), HOME)).base_url == "http://127.0.0.1:1"


def test_server_variables_have_their_defaults() -> None:
    server = {
        "url": "{scheme}://{region}.example.org/{version}",
        "variables": {"scheme": {"default": "https"}, "region": {"enum": ["eu", "us"]}, "version": {"default": 2}},
    }
    found = import_document(document({"/x": {"get": {}}}, servers=[server]), HOME)
    assert only(found).base_url == "https://eu.example.org/2"


def test_an_unusable_server_is_passed_over() -> None:
    urls = (
        "wss://a.org",
        "https://{tenant}.org",
        "https://user:secret@a.org",
        "https://a.org:x/",
        "https://b.org/?q#f",
    )
    given = document({"/x": {"get": {}}}, servers=[{"url": url} for url in urls])
    assert only(import_document(given)).base_url == "https://b.org/"


# references to other documents


def test_other_documents_are_read_through_the_resolver_only_and_their_references_start_there() -> None:
    asked: list[str] = []
    others: dict[str, Any] = {
        "https://api.example.org/v1/parts/params.json": {
            "Id": {"name": "id", "in": "query", "schema": {"$ref": "s.json#/Id"}}
        },
        "https://api.example.org/v1/parts/s.json": {"Id": {"$ref": "#/Base"}, "Base": {"type": "integer"}},
    }

    def resolve(url: str) -> Any:
        asked.append(url)
        return others[url]

    get = {"parameters": [{"$ref": "parts/params.json#/Id"}]}
    given = document({"/x": {"get": get}, "/y": {"get": get}})
    found = import_document(given, HOME, resolve=resolve)
    assert found.operations[1].tool.parameters["properties"] == {"id": {"type": "integer"}}
    assert asked == list(others)
    (refused, _) = import_document(given, HOME).report.operations
    assert refused.reason == "only references inside the document are followed, not 'parts/params.json#/Id'"


def test_a_resolver_that_refuses_is_the_reason_of_the_refusal() -> None:
    def resolve(url: str) -> Any:
        raise Unreachable(f"{url} is private")

    get = {"parameters": [{"$ref": "http://169.254.169.254/x"}]}
    (entry,) = import_document(document({"/x": {"get": get}}), HOME, resolve=resolve).report.operations
    assert entry.status is Status.REFUSED
    assert entry.reason is not None
    assert "http://169.254.169.254/x is private" in entry.reason


# Swagger 2.0


def test_swagger_parameters_become_arguments_in_their_places() -> None:
    def place(name: str, where: str, **fields: Any) -> dict[str, Any]:
        return {"name": name, "in": where, "type": "string", **fields}

    tags = {"type": "array", "items": TEXT}
    shared = {"parameters": [place("id", "path", required=True), {"$ref": "#/parameters/Lang"}]}
    get = {
        "parameters": [
            place("tags", "query", **tags),
            place("X-A", "header"),
            place("n", "query", required=True, maximum=9),
        ]
    }
    given = swagger({"/x/{id}": {**shared, "get": get}}, parameters={"Lang": place("lang", "query", enum=["de", "en"])})
    found = only(import_document(given))
    assert found.tool.parameters == {
        "type": "object",
        "properties": {
            "id": TEXT, "lang": {"type": "string", "enum": ["de", "en"]}, "tags": tags, "X-A": TEXT,
            "n": {"type": "string", "maximum": 9},
        },
        "required": ["id", "n"],
        "additionalProperties": False,
    }  # fmt: skip
    request = build_request(found, {"id": "1", "tags": ["a", "b"], "X-A": "h", "n": "2"})
    assert request.url == "https://old.example.org/v2/x/1?tags=a,b&n=2"
    assert request.headers == {"X-A": "h"}


@pytest.mark.parametrize(
    ("collection", "query"),
    [("csv", "t=a,b"), ("ssv", "t=a%20b"), ("tsv", "t=a%09b"), ("pipes", "t=a%7Cb"), ("multi", "t=a&t=b")],
)
def test_swagger_collection_formats_are_written_as_they_are_named(collection: str, query: str) -> None:
    place = {"name": "t", "in": "query", "type": "array", "items": TEXT, "collectionFormat": collection}
    found = only(import_document(swagger({"/x": {"get": {"parameters": [place]}}})))
    assert build_request(found, {"t": ["a", "b"]}).url == f"https://old.example.org/v2/x?{query}"


def test_a_swagger_body_is_json_and_its_definitions_are_inlined() -> None:
    place = {"name": "pet", "in": "body", "required": True, "schema": {"$ref": "#/definitions/Pet"}}
    pet = {"type": "object", "required": ["name"], "properties": {"name": {**TEXT, "x-nullable": True}}}
    given = swagger(
        {"/x": {"post": {"parameters": [place]}}}, definitions={"Pet": pet}, consumes=["text/xml", "application/json"]
    )
    found = only(import_document(given))
    assert found.tool.parameters["properties"] == {"name": {"type": ["string", "null"]}}
    assert build_request(found, {"name": "Rex"}).json_body == {"name": "Rex"}


def test_swagger_form_data_is_a_form_and_with_a_file_it_is_multipart() -> None:
    fields = [{"name": "a", "in": "formData", "type": "string", "required": True}]
    plain = only(import_document(swagger({"/x": {"post": {"parameters": fields}}})))
    assert build_request(plain, {"a": "x y"}).text_body == "a=x+y"
    fields.append({"name": "f", "in": "formData", "type": "file"})
    imported = import_document(swagger({"/x": {"post": {"parameters": fields}}}))
    request = build_request(only(imported), {"a": "1", "f": "content"})
    assert request.headers["content-type"].startswith("multipart/form-data; boundary=")
    assert 'name="f"; filename="f"' in (request.text_body or "")
    assert imported.report.operations[0].losses == ("file written as text: f",)


@pytest.mark.parametrize(
    ("fields", "location", "base"),
    [
        ({}, None, "https://old.example.org/v2"),
        ({"schemes": ["http"]}, None, "http://old.example.org/v2"),
        ({"schemes": ["ws", "http", "https"]}, None, "https://old.example.org/v2"),
        ({"host": None, "basePath": None}, "http://here.org:81/docs/swagger.json", "http://here.org:81/"),
    ],
)
def test_a_swagger_address_is_put_together_from_its_parts(fields: Any, location: str | None, base: str) -> None:
    given = swagger({"/x": {"get": {}}}, **fields)
    assert only(import_document(given, location)).base_url == base
    assert only(import_document(moved(given, "http://127.0.0.1:1/b"), location)).base_url == "http://127.0.0.1:1/b"
