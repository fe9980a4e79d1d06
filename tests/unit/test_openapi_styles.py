"""Every way in which OpenAPI writes arrays and objects where only text can travel, and the bodies that are not JSON."""

import email
from email.message import Message
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import httpx
import pytest

from umi.errors import CallRejected
from umi.openapi import HttpRequest, Operation, build_request, import_document

ANY: dict[str, Any] = {}
RGB = {"R": 100, "G": 200}
COLORS = ["blue", "black"]


def operation(path: str = "/x", method: str = "get", **fields: Any) -> Operation:
    """The one operation of a document with these fields."""
    document = {"openapi": "3.0.3", "paths": {path: {method: fields}}}
    (found,) = import_document(document, base_url="https://api.example.org").usable()
    return found


def sent(place: str, value: Any, **fields: Any) -> HttpRequest:
    """What is sent for one parameter called `color`."""
    parameter = {"name": "color", "in": place, "schema": ANY, "required": place == "path", **fields}
    return build_request(operation("/x/{color}" if place == "path" else "/x", parameters=[parameter]), {"color": value})


@pytest.mark.parametrize(
    ("style", "explode", "of_text", "of_array", "of_object"),
    [
        ("simple", False, "blue", "blue,black", "R,100,G,200"),
        ("simple", True, "blue", "blue,black", "R=100,G=200"),
        ("label", False, ".blue", ".blue,black", ".R,100,G,200"),
        ("label", True, ".blue", ".blue.black", ".R=100.G=200"),
        ("matrix", False, ";color=blue", ";color=blue,black", ";color=R,100,G,200"),
        ("matrix", True, ";color=blue", ";color=blue;color=black", ";R=100;G=200"),
    ],
)
def test_path_styles_are_written_as_the_specification_shows(
    style: str, explode: bool, of_text: str, of_array: str, of_object: str
) -> None:
    for value, expected in (("blue", of_text), (COLORS, of_array), (RGB, of_object)):
        assert sent("path", value, style=style, explode=explode).url == f"https://api.example.org/x/{expected}"


@pytest.mark.parametrize(
    ("style", "explode", "of_array", "of_object"),
    [
        ("form", True, "color=blue&color=black", "R=100&G=200"),
        ("form", False, "color=blue,black", "color=R,100,G,200"),
        ("spaceDelimited", False, "color=blue%20black", "color=R%20100%20G%20200"),
        ("pipeDelimited", False, "color=blue%7Cblack", "color=R%7C100%7CG%7C200"),
        ("deepObject", True, "color%5B0%5D=blue&color%5B1%5D=black", "color%5BR%5D=100&color%5BG%5D=200"),
    ],
)
def test_query_styles_are_written_as_the_specification_shows(
    style: str, explode: bool, of_array: str, of_object: str
) -> None:
    assert sent("query", "blue", style=style, explode=explode).url == "https://api.example.org/x?color=blue"
    for value, expected in ((COLORS, of_array), (RGB, of_object)):
        assert sent("query", value, style=style, explode=explode).url == f"https://api.example.org/x?{expected}"


@pytest.mark.parametrize(("explode", "of_object"), [(False, "R,100,G,200"), (True, "R=100,G=200")])
def test_header_values_are_joined_by_commas(explode: bool, of_object: str) -> None:
    assert sent("header", COLORS, explode=explode).headers == {"color": "blue,black"}
    assert sent("header", RGB, explode=explode).headers == {"color": of_object}


def test_cookies_share_one_header_and_cannot_begin_another_cookie() -> None:
    places = [{"name": name, "in": "cookie", "schema": ANY, "explode": False} for name in ("a", "b")]
    request = build_request(operation(parameters=places), {"a": "x; admin=1\r\nHost: y", "b": COLORS})
    assert request.headers == {"cookie": "a=x%3B%20admin%3D1%0D%0AHost%3A%20y; b=blue,black"}


def test_nested_values_of_a_deep_object_keep_their_path() -> None:
    value = {"a": {"b": [1, {"c": True}]}, "none": None}
    url = sent("query", value, style="deepObject", explode=True).url
    assert parse_qsl(urlsplit(url).query) == [("color[a][b][0]", "1"), ("color[a][b][1][c]", "true")]


def test_a_parameter_that_is_described_by_its_content_is_written_as_json() -> None:
    place = {"name": "color", "in": "query", "content": {"application/json": {"schema": {"type": "object"}}}}
    request = build_request(operation(parameters=[place]), {"color": RGB})
    assert parse_qsl(urlsplit(request.url).query) == [("color", '{"R":100,"G":200}')]


def test_null_and_empty_arrays_are_not_sent() -> None:
    for value in (None, []):
        assert sent("query", value).url == "https://api.example.org/x"
    assert sent("header", None).headers == {}
    with pytest.raises(CallRejected, match="not usable in a path"):
        sent("path", [])


@pytest.mark.parametrize("reserved", [False, True])
@pytest.mark.parametrize("explode", [False, True])
def test_no_value_can_become_a_second_query_parameter(explode: bool, reserved: bool) -> None:
    for evil in ("a&admin=1", "a#b", "a=b+c", "a b", "é%26"):
        split = urlsplit(sent("query", [evil, evil], explode=explode, allowReserved=reserved).url)
        assert split.fragment == ""
        assert parse_qsl(split.query) == ([("color", evil)] * 2 if explode else [("color", f"{evil},{evil}")])


@pytest.mark.parametrize("style", ["simple", "label", "matrix"])
@pytest.mark.parametrize("explode", [False, True])
@pytest.mark.parametrize(
    "value",
    ["..", ".", "", "a/../b", ["..", "/"], ["", ""], {"..": "/.."}, {"/": "?"}, [".."], None, {}, "%2e%2e", ["."]],
)
def test_no_array_and_no_object_can_leave_its_path_segment(value: Any, explode: bool, style: str) -> None:
    try:
        url = sent("path", value, style=style, explode=explode).url
    except CallRejected:
        return
    before, last = httpx.URL(url).raw_path.decode().rsplit("/", 1)
    assert (before, urlsplit(url).query, urlsplit(url).fragment) == ("/x", "", "")
    assert last.strip(".")


def test_reserved_characters_are_left_alone_where_the_document_says_so() -> None:
    assert sent("query", "a/b:c,d", allowReserved=True).url.endswith("?color=a/b:c,d")


def test_a_path_with_a_query_or_a_fragment_of_its_own_keeps_only_the_query() -> None:
    found = operation("/x?kind=a b#top", parameters=[{"name": "q", "in": "query", "schema": ANY}])
    assert build_request(found, {"q": 1}).url == "https://api.example.org/x?kind=a%20b&q=1"


def test_a_path_cannot_name_another_host() -> None:
    for path in ("@evil.org/x", "//evil.org/x", ".evil.org/x", ":81/x", "\\\\evil.org/x"):
        found = import_document({"openapi": "3.0.0", "paths": {path: {"get": {}}}}, base_url="https://a.org").usable()[
            0
        ]
        assert httpx.URL(build_request(found, {}).url).netloc == b"a.org"


# bodies


def body(media: str, schema: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {"required": True, "content": {media: {"schema": schema, **fields}}}


def form(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties}


def test_a_form_is_sent_as_pairs() -> None:
    schema = form(a={"type": "string"}, b={"type": "array"}, c={"type": "object"}, d={"type": "object"}, e=ANY)
    encoding = {"d": {"style": "deepObject", "explode": True}, "e": {"explode": False}}
    post = operation(method="post", requestBody=body("application/x-www-form-urlencoded", schema, encoding=encoding))
    request = build_request(post, {"a": "x&y=z é", "b": [1, 2], "c": {"k": 1}, "d": {"k": [3]}, "e": ["p", "q,r"]})
    assert request.headers == {"content-type": "application/x-www-form-urlencoded"}
    assert request.json_body is None
    assert request.text_body is not None
    assert parse_qsl(request.text_body) == [
        ("a", "x&y=z é"), ("b", "1"), ("b", "2"), ("c", '{"k":1}'), ("d[k][0]", "3"), ("e", "p,q,r"),
    ]  # fmt: skip
    assert request.text_body.endswith("e=p,q%2Cr")


def parts(request: HttpRequest) -> list[tuple[str, str | None, str, str]]:
    """Name, file name, type and content of each part, as a mail reader sees them."""
    head = f"Content-Type: {request.headers['content-type']}\r\n\r\n"
    message: Message = email.message_from_string(head + (request.text_body or ""))
    listed: Any = message.get_payload()
    return [
        (
            part.get_param("name", header="content-disposition"), part.get_filename(), part.get_content_type(),
            part.get_payload(),
        )
        for part in listed
    ]  # fmt: skip


def test_a_multipart_body_has_a_part_for_each_value_and_files_have_names() -> None:
    schema = form(
        note={"type": "string"}, tags={"type": "array"}, about=ANY, file={"type": "string", "format": "binary"}
    )
    encoding = {"note": {"contentType": "text/plain; charset=utf-8"}}
    post = operation(method="post", requestBody=body("multipart/form-data", schema, encoding=encoding))
    request = build_request(post, {"note": "n", "tags": ["a", "b"], "about": {"k": 1}, "file": "x,y"})
    assert parts(request) == [
        ("note", None, "text/plain", "n"), ("tags", None, "text/plain", "a"), ("tags", None, "text/plain", "b"),
        ("about", None, "application/json", '{"k":1}'), ("file", "file", "application/octet-stream", "x,y"),
    ]  # fmt: skip
    assert build_request(post, {"note": "n"}) == build_request(post, {"note": "n"})


def test_no_value_can_forge_a_part() -> None:
    post = operation(method="post", requestBody=body("multipart/form-data", form(note=ANY, **{'x"\r\ny': ANY})))
    boundary = build_request(post, {"note": "n"}).headers["content-type"].partition("boundary=")[2]
    evil = f'n\r\n--{boundary}\r\nContent-Disposition: form-data; name="admin"\r\n\r\n1'
    ((name, _, _, content),) = parts(build_request(post, {"note": evil}))
    assert (name, content) == ("note", evil)
    odd = next(name for name in post.places if name != "note")
    ((name, *_),) = parts(build_request(post, {odd: "v"}))
    assert unquote(name) == 'x"\r\ny'


def test_a_form_of_unknown_fields_is_one_object() -> None:
    post = operation(method="post", requestBody=body("application/x-www-form-urlencoded", ANY))
    assert build_request(post, {"body": {"a": 1}}).text_body == "a=1"
    with pytest.raises(CallRejected, match="must be an object"):
        build_request(post, {"body": [1]})


def test_a_body_of_text_is_sent_as_it_is_with_its_type() -> None:
    post = operation(method="post", requestBody=body("application/xml; charset=utf-8", form(a=ANY)))
    assert post.tool.parameters["properties"]["body"]["type"] == "string"
    request = build_request(post, {"body": "<a/>"})
    assert (request.text_body, request.headers) == ("<a/>", {"content-type": "application/xml"})


def test_json_is_preferred_and_its_own_flavour_is_named() -> None:
    content = {
        media: {"schema": form(a=ANY)} for media in ("text/xml", "multipart/form-data", "application/vnd.x+json")
    }
    post = operation(method="post", requestBody={"content": content})
    request = build_request(post, {"a": 1})
    assert (request.json_body, request.headers) == ({"a": 1}, {"content-type": "application/vnd.x+json"})
    content["application/json"] = {"schema": form(a=ANY)}
    plain = build_request(operation(method="post", requestBody={"content": content}), {"a": 1})
    assert (plain.json_body, plain.headers) == ({"a": 1}, {})


def test_a_media_type_of_a_document_cannot_write_headers() -> None:
    media = "application/x\r\nX-Admin: 1+json"
    request = build_request(operation(method="post", requestBody=body(media, form(a=ANY))), {"a": 1})
    assert (request.json_body, "admin" in str(request).lower()) == ({"a": 1}, False)
