"""What the gateway says to bad input: always a problem that names the field, and nothing half done."""

import http.client
import json
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import httpx
import pytest
import yaml
from fastapi import FastAPI, Response

from gateway.problems import TYPES
from tests.fakes import call, free_port, serve
from tests.world import World
from umi.openapi import Selection


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with ExitStack() as stack:
        yield World(tmp_path_factory.mktemp("gateway"), stack)


def problem(response: httpx.Response, status: int) -> dict[str, Any]:
    assert (response.status_code, response.headers["content-type"]) == (status, "application/problem+json")
    data: dict[str, Any] = response.json()
    assert data["status"] == status
    assert {"type", "title", "detail"} <= set(data)
    assert data["type"] in TYPES
    assert len(response.content) < 5000
    return data


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"query": ""}, "query"),
        ({"query": " \n"}, "query"),
        ({"query": "x" * 8001}, "query"),
        ({"query": "x" * 1_000_000}, "query"),
        ({"query": 7}, "query"),
        ({"query": "q", "tools": ["add", "nonesuch"]}, "tools"),
        ({"query": "q", "tools": []}, "tools"),
        ({"query": "q", "max_steps": -1}, "max_steps"),
        ({"query": "q", "max_steps": 33}, "max_steps"),
        ({"query": "q", "deadline_seconds": 0}, "deadline_seconds"),
        ({"query": "q", "deadline_seconds": -5}, "deadline_seconds"),
        ({"query": "q", "deadline_seconds": 601}, "deadline_seconds"),
        ({"query": "q", "max_step": 3}, "max_step"),
        ({}, "query"),
    ],
)
def test_a_bad_query_is_a_422_that_names_the_field(world: World, fields: dict[str, Any], named: str) -> None:
    assert problem(world.client.post("/v1/queries", json=fields), 422)["field"] == named


@pytest.mark.parametrize("content", [b"", b"not json", b'{"query": "\\ud800"}', b"[" * 100_000, b'{"query": "\xff"}'])
def test_a_body_that_cannot_be_read_is_a_problem(world: World, content: bytes) -> None:
    response = world.client.post("/v1/queries", content=content, headers={"content-type": "application/json"})
    assert problem(response, 422)["field"] in {"body", "query"}


def test_a_body_over_the_limit_is_refused_before_it_is_parsed(world: World) -> None:
    big = b'{"query": "' + b"x" * 2_100_000 + b'"}'
    assert problem(world.client.post("/v1/queries", content=big), 413)["field"] == "body"
    unannounced = world.client.post("/v1/queries", content=iter([big]))
    assert problem(unannounced, 413)["field"] == "body"


def test_a_wrong_method_is_told_which_there_are(world: World) -> None:
    for path, methods in {"/v1/runs/0": "DELETE, GET", "/v1/toolsets": "GET, POST", "/v1/queries": "POST"}.items():
        answer = world.client.put(path)
        assert answer.headers["allow"] == methods
        assert methods in problem(answer, 405)["detail"]


def test_a_url_that_is_too_long_is_a_problem_like_every_other(world: World) -> None:
    def asked(path: str) -> tuple[int, str | None, dict[str, Any]]:
        host = httpx.URL(world.gateway)
        connection = http.client.HTTPConnection(host.host, host.port)  # httpx would not send it
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.headers["content-type"], json.loads(answer.read())

    status, kind, wrong = asked("/v1/tools?query=" + "x" * 70_000)
    assert (status, kind, wrong["status"]) == (400, "application/problem+json", 400)
    assert "URL" in wrong["detail"]
    status, _, error = asked("/v1/responses/" + "x" * 70_000)
    assert (status, error["error"]["message"]) == (400, wrong["detail"])


def test_what_is_not_http_is_told_so_and_the_connection_closed(world: World) -> None:
    address = httpx.URL(world.gateway)
    with socket.create_connection((address.host, address.port), 5) as connection:
        connection.sendall(b"\x16\x03\x01\x02\x00 not HTTP\r\n\r\n")
        answer = b"".join(iter(lambda: connection.recv(65_536), b""))
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 ")
    assert b"content-type: application/problem+json" in head
    assert "HTTP/1.1" in json.loads(body)["detail"]


def test_what_does_not_exist_is_a_404(world: World) -> None:
    assert problem(world.client.get("/v1/runs/nonesuch"), 404)["field"] == "run_id"
    assert problem(world.client.get("/v1/runs/nonesuch/events"), 404)["field"] == "run_id"
    assert problem(world.client.delete("/v1/toolsets/nonesuch"), 404)["field"] == "name"
    problem(world.client.get("/nonesuch"), 404)
    problem(world.client.put("/v1/queries"), 405)


def document(operation: str, **changes: Any) -> dict[str, Any]:
    paths = {"/x": {"get": {"operationId": operation, "summary": "X", "responses": {}}}}
    return {"openapi": "3.1.0", "servers": [{"url": "http://127.0.0.1:9"}], "paths": paths, **changes}


def parameters(schema: Any) -> dict[str, Any]:
    return {"/x": {"get": {"parameters": [{"name": "p", "in": "query", "schema": schema}]}}}


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ({"name": "bad"}, "body"),
        ({"name": "bad", "url": "http://127.0.0.1:9/a", "document": {}}, "body"),
        ({"name": "no spaces", "document": document("x")}, "name"),
        ({"name": "bad", "url": "file:///etc/passwd"}, "url"),
        ({"name": "bad", "document": document("x"), "headers": {"authorization": "x"}}, "headers"),
        ({"name": "bad", "document": {"swagger": "1.2"}}, "document"),
        ({"name": "bad", "document": document("x", paths={})}, "document.paths"),
        ({"name": "bad", "document": document("x", servers=[])}, "base_url"),
        ({"name": "bad", "document": document("add")}, "document.paths"),
        ({"name": "bad", "document": document("x", paths={"/x": {"get": {"parameters": "abc"}}})}, "document.paths./x"),
        ({"name": "bad", "document": document("x", paths=parameters({"type": "no such type"}))}, "document.paths./x"),
    ],
)
def test_a_bad_toolset_is_a_422_and_nothing_is_registered(world: World, body: dict[str, Any], named: str) -> None:
    before = world.client.get("/v1/tools").json()
    assert problem(world.client.post("/v1/toolsets", json=body), 422)["field"] == named
    assert world.client.get("/v1/tools").json() == before


def test_a_document_that_cannot_be_fetched_is_a_502(world: World) -> None:
    app = FastAPI()

    @app.get("/page")
    async def page() -> Response:
        return Response("<html>Hello</html>", media_type="text/html")

    @app.get("/large")
    async def large() -> Response:
        return Response(b"x" * 6_000_000)

    @app.get("/bytes")
    async def some_bytes() -> Response:
        return Response(b"\x00\x01\xff")

    with serve(app) as other:
        down = f"http://127.0.0.1:{free_port()}/openapi.json"
        for url in (f"{other}/page", f"{other}/large", f"{other}/bytes", f"{other}/missing", down):
            assert url in problem(world.client.post("/v1/toolsets", json={"name": "bad", "url": url}), 502)["detail"]
    assert [toolset["name"] for toolset in world.client.get("/v1/toolsets").json()] == ["test"]


def test_a_toolset_can_be_given_as_yaml_replaced_and_deleted(world: World) -> None:
    app = FastAPI(openapi_url=None)
    served = {"operation": "first"}

    @app.get("/mounted/openapi.yaml")
    async def openapi() -> Response:
        return Response(yaml.safe_dump(document(served["operation"], servers=[{"url": "/api"}])))

    with serve(app) as other:
        body = {"name": "changing", "url": f"{other}/mounted/openapi.yaml", "select": {"exclude_paths": ["/admin/*"]}}
        added = world.client.post("/v1/toolsets", json=body)
        assert added.status_code == 201
        (reported,) = added.json().pop("report")
        assert (reported["name"], reported["status"]) == ("first", "imported")
        assert {**added.json(), "report": []} == {
            **body,
            "version": 1,
            "base_url": f"{other}/api",
            "tools": ["first"],
            "select": {**Selection().model_dump(mode="json"), "exclude_paths": ["/admin/*"]},
            "policy": "allowed",
            "tool_policy": {},
            "withheld": [],
            "report": [],
        }
        served["operation"] = "second"
        assert world.client.post("/v1/toolsets", json=body).status_code == 201
        names = [tool["name"] for tool in world.client.get("/v1/tools").json()]
        assert "second" in names
        assert "first" not in names
        served["operation"] = "add"  # clashes: the registered version must survive
        assert world.client.post("/v1/toolsets", json=body).status_code == 422
        assert [tool["name"] for tool in world.client.get("/v1/tools").json()] == names
    assert world.client.delete("/v1/toolsets/changing").status_code == 204
    assert [toolset["name"] for toolset in world.client.get("/v1/toolsets").json()] == ["test"]


def test_a_retriever_picks_the_tools_when_more_are_registered_than_may_be_offered(world: World) -> None:
    world.script.calls = [call("add", a=1, b=2)]
    with httpx.Client(base_url=world.start(max_offered=2), trust_env=False) as client:
        run = client.post("/v1/queries", json={"query": "adding two numbers, then keep notes"}).json()
        named = client.post("/v1/queries", json={"query": "q", "tools": ["boom", "add"]}).json()
    assert run["tools"] == ["add", "make_note"]
    assert named["tools"] == ["add", "boom"]


def test_an_argument_cannot_leave_its_path_segment(world: World) -> None:
    seen: list[str] = []
    app = FastAPI()

    @app.get("/{rest:path}")
    async def anything(rest: str) -> str:
        seen.append(rest)
        return "ok"

    item = {"operationId": "item", "parameters": [{"name": "id", "in": "path", "schema": {"type": "string"}}]}
    with serve(app) as other:
        described = document("item", paths={"/items/{id}": {"get": item}}, servers=[{"url": other}])
        body = {"name": "paths", "document": described, "allow": ["127.0.0.1"]}
        assert world.client.post("/v1/toolsets", json=body).status_code == 201
        for value in ("../admin", "a/../../admin", "..", "%2e%2e/admin", "x?y#z"):
            world.script.calls = [call("item", id=value)]
            assert world.run()["outcome"] == "answered"
    assert world.client.delete("/v1/toolsets/paths").status_code == 204
    assert seen == ["items/x?y#z"]
