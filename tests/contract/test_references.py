"""Documents in several files: what a document refers to is fetched with it, under the same rules."""

import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.responses import JSONResponse

from tests.fakes import serve
from tests.world import World


class Files:
    """A server of documents that counts what it is asked for."""

    def __init__(self, stack: ExitStack) -> None:
        self.documents: dict[str, Any] = {}
        self.asked: list[str] = []
        app = FastAPI(openapi_url=None)

        @app.get("/{path:path}")
        def file(path: str) -> JSONResponse:
            self.asked.append(path)
            return JSONResponse(self.documents[path]) if path in self.documents else JSONResponse({}, 404)

        self.url = stack.enter_context(serve(app))


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with ExitStack() as stack:
        yield World(tmp_path, stack)


@pytest.fixture
def files() -> Iterator[Files]:
    with ExitStack() as stack:
        yield Files(stack)


def document(**schemas: Any) -> dict[str, Any]:
    """One operation per schema, each with a parameter of it."""
    paths = {
        f"/{name}": {"get": {"operationId": name, "parameters": [{"name": "x", "in": "query", "schema": schema}]}}
        for name, schema in schemas.items()
    }
    return {"openapi": "3.0.3", "paths": paths}


def schema_of(world: World, tool: str) -> Any:
    tools = {each["name"]: each for each in world.client.get("/v1/tools").json()}
    return tools[tool]["spec"]["parameters"]["properties"]["x"]


def test_a_reference_to_another_file_is_followed_from_where_the_document_lies(world: World, files: Files) -> None:
    files.documents |= {
        "api/openapi.json": document(a={"$ref": "../shared/types.json#/Colour"}, b={"$ref": "#/paths"}),
        "shared/types.json": {"Colour": {"$ref": "more.json#/enum"}},
        "shared/more.json": {"enum": {"type": "string", "enum": ["red"]}},
    }
    added = world.client.post("/v1/toolsets", json={"name": "many", "url": f"{files.url}/api/openapi.json"})
    assert added.status_code == 201, added.text
    assert schema_of(world, "a") == {"type": "string", "enum": ["red"]}
    assert files.asked == ["api/openapi.json", "shared/types.json", "shared/more.json"]


def test_another_gateway_reads_the_toolset_without_fetching_anything(world: World, files: Files) -> None:
    files.documents |= {"openapi.json": document(a={"$ref": "t.json"}), "t.json": {"type": "integer"}}
    world.client.post("/v1/toolsets", json={"name": "many", "url": f"{files.url}/openapi.json"})
    asked = list(files.asked)
    world.client.base_url = world.start()
    assert schema_of(world, "a") == {"type": "integer"}
    assert files.asked == asked


def test_what_cannot_be_fetched_costs_only_the_operations_that_need_it(world: World, files: Files) -> None:
    files.documents["openapi.json"] = document(a={"$ref": "gone.json"}, b={"type": "string"})
    added = world.client.post("/v1/toolsets", json={"name": "many", "url": f"{files.url}/openapi.json"}).json()
    assert added["tools"] == ["b"]
    assert "gone.json answered 404" in added["report"][0]["reason"]


@pytest.mark.parametrize("reference", ["http://169.254.169.254/latest", "file:///etc/passwd", "{other}/t.json"])
def test_a_reference_leads_to_no_other_host(reference: str, world: World, files: Files) -> None:
    with ExitStack() as stack:
        other = Files(stack)
        other.documents["t.json"] = {"type": "string"}
        wanted = {"$ref": reference.format(other=other.url)}
        files.documents["openapi.json"] = document(a=wanted, b={"type": "string"})
        added = world.client.post("/v1/toolsets", json={"name": "many", "url": f"{files.url}/openapi.json"}).json()
    assert added["tools"] == ["b"]
    assert "cannot be followed" in added["report"][0]["reason"]
    assert other.asked == []


def test_a_host_that_the_registration_allows_may_be_referred_to(world: World, files: Files) -> None:
    files.documents["t.json"] = {"type": "boolean"}
    wanted = document(a={"$ref": f"{files.url}/t.json"}) | {"servers": [{"url": files.url}]}
    body = {"name": "many", "document": json.loads(json.dumps(wanted)), "allow": ["127.0.0.1"]}
    assert world.client.post("/v1/toolsets", json=body).status_code == 201
    assert schema_of(world, "a") == {"type": "boolean"}


def test_a_chain_of_documents_without_end_is_cut(world: World, files: Files) -> None:
    files.documents |= {f"{n}.json": {"$ref": f"{n + 1}.json"} for n in range(200)}
    files.documents["openapi.json"] = document(a={"$ref": "0.json"}, b={"type": "string"})
    added = world.client.post("/v1/toolsets", json={"name": "many", "url": f"{files.url}/openapi.json"}).json()
    assert added["tools"] == ["b"]
    assert len(files.asked) <= 51
