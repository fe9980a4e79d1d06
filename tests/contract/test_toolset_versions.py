"""Versions of toolsets: what a stored run's tools meant, also when the toolset has been replaced or is gone."""

import asyncio
import json
import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from typer.testing import CliRunner

from gateway.cli import create_cli
from gateway.events import Called, Event, Payload, Planned, RunCreated, ToolSource
from gateway.settings import Settings
from gateway.store import LOCAL, Database, Lease, Scope, Store, keys
from tests.fakes import USAGE, call, plan, serve
from tests.world import World
from umi.openapi import HttpRequest
from umi.roles import Role, Turn


class Shop(World):
    """A world with a toolset whose documents the test writes; `called` has every request that reached a tool."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        app, called = FastAPI(), self.called

        @app.api_route("/{path:path}", methods=["GET", "POST"])
        async def anything(path: str) -> dict[str, str]:
            called.append(path)
            return {"from": path}

        self.shop = self._stack.enter_context(serve(app))
        self.elsewhere = self._stack.enter_context(serve(app))

    def settings(self, **changes: Any) -> Settings:
        return super().settings(**{"tool_seconds": 20, **changes})

    def register(self, paths: dict[str, str], at: str | None = None, **fields: Any) -> dict[str, Any]:
        """Tool names to the path, and the method if it is not GET, that they stand for."""
        items = {}
        for name, path in paths.items():
            method, _, where = path.rpartition(" ")
            items[where] = {method.lower() or "get": {"operationId": name, "summary": f"Ask {where}"}}
        document = {"openapi": "3.1.0", "paths": items, "servers": [{"url": at or self.shop}]}
        body = {"name": "shop", "document": document, "allow": ["127.0.0.1"], **fields}
        added = self.client.post("/v1/toolsets", json=body)
        assert added.status_code == 201, added.text
        return added.json()

    def waiting(self) -> str:
        """A run that waits with its first call, of `buy`, and then is to call `look`."""
        self.script.calls = [call("buy"), call("look")]
        asked = self.ask(tools=["buy", "look"])
        assert asked.status_code == 202, asked.text
        return str(asked.json()["run_id"])

    def approve(self, run_id: str, step: int = 1) -> dict[str, Any]:
        """The run when it has ended, or waits again."""
        body = {"approve": True, "step": step}
        assert self.client.post(f"/v1/runs/{run_id}/approve", json=body).status_code == 200
        return self.ended(run_id)

    def ended(self, run_id: str) -> dict[str, Any]:
        """The run when it does not go on."""
        until = time.monotonic() + 30
        while (run := self.client.get(f"/v1/runs/{run_id}").json())["status"] == "running":
            assert time.monotonic() < until
            time.sleep(0.02)
        return run


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    with ExitStack() as stack:
        yield Shop(tmp_path_factory.mktemp("gateway"), stack)


@pytest.fixture
def world(shared: Shop) -> Shop:
    shared.client.delete("/v1/toolsets/shop")
    shared.reset()
    return shared


OLD = {"look": "/old-shelf", "buy": "POST /old-till"}
NEW = {"look": "/new-shelf", "buy": "POST /new-till"}


def test_every_registration_that_differs_is_a_version_that_can_still_be_read(world: World) -> None:
    first = world.register(OLD)["version"]
    assert world.register(OLD)["version"] == first
    assert world.register(NEW)["version"] == first + 1
    assert world.register(NEW, policy="read_only")["version"] == first + 2
    assert world.register(OLD)["version"] == first, "what was there before is that version again"
    assert world.client.get("/v1/toolsets/shop").json()["version"] == first
    assert world.client.delete("/v1/toolsets/shop").status_code == 204
    assert world.client.get("/v1/toolsets/shop").status_code == 404
    listed = world.client.get("/v1/toolsets/shop/versions").json()[:3]
    assert [(each["version"], each["current"]) for each in listed] == [(first + n, False) for n in (2, 1, 0)]
    assert listed[1]["operations"] == {"imported": 2}
    kept = world.client.get(f"/v1/toolsets/shop/versions/{first + 1}").json()
    assert {spec["name"]: (spec["method"], spec["path"]) for spec in kept["specs"]} == {
        "look": ("GET", "/new-shelf"),
        "buy": ("POST", "/new-till"),
    }
    assert (kept["specs"][0]["spec"]["description"], kept["report"][0]["status"]) == ("Ask /new-shelf", "imported")
    assert kept["digest"] == listed[1]["digest"]
    assert list(kept["document"]["paths"]) == ["/new-shelf", "/new-till"]
    withheld = world.client.get(f"/v1/toolsets/shop/versions/{first + 2}").json()
    assert (withheld["policy"], withheld["withheld"]) == ("read_only", ["buy"])
    for path in ("shop/versions/999", "nonesuch/versions", "nonesuch/versions/1", "nonesuch"):
        assert world.client.get(f"/v1/toolsets/{path}").status_code == 404
    for path in ("shop/versions/0", f"shop/versions/{2**31}", "sh%00p/versions"):
        assert world.client.get(f"/v1/toolsets/{path}").status_code == 422


def test_a_run_tells_what_its_tools_meant_when_they_mean_something_else(world: Shop) -> None:
    first = world.register(OLD)["version"]
    world.script.calls = [call("look")]
    run = world.run(tools=["look", "add"])
    world.register(NEW)
    world.client.delete("/v1/toolsets/shop")
    run = world.client.get(f"/v1/runs/{run['run_id']}").json()
    assert run["sources"]["look"] == {"toolset": "shop", "version": first}
    assert run["sources"]["add"]["toolset"] == "test"
    kept = world.client.get(f"/v1/toolsets/shop/versions/{first}").json()
    assert [spec["path"] for spec in kept["specs"] if spec["name"] == "look"] == ["/old-shelf"]
    exported = world.client.get("/v1/runs/export", params={"documents": True}).text.splitlines()
    (line,) = [each for each in map(json.loads, exported) if each["run_id"] == run["run_id"]]
    assert {tool["name"]: tool["description"] for tool in line["tools"]}["look"] == "Ask /old-shelf"


def test_a_run_that_is_offered_more_tells_what_that_is(world: Shop) -> None:
    version = world.register({"browse": "/shelves"})["version"]
    world.client.base_url = world.start(max_offered=1)
    world.script.wants, world.script.calls = "browse", [call("add", a=1, b=2)]
    run = world.run(query="Please add whole numbers", max_steps=4)
    assert run["sources"]["browse"] == {"toolset": "shop", "version": version}
    assert set(run["sources"]) == set(run["tools"])


@pytest.mark.parametrize("is_gone", [False, True])
def test_a_run_in_progress_goes_on_with_what_it_began_with(world: Shop, is_gone: bool) -> None:
    world.register(OLD)
    world.script.calls = [call("look")]
    world.script.delays[Role.CALLER] = 0.5
    run_id = world.ask(tools=["look"], background=True).json()["run_id"]
    if is_gone:
        world.client.delete("/v1/toolsets/shop")
    else:
        world.register(NEW)
    with world.client.stream("GET", f"/v1/runs/{run_id}/events") as response:
        assert response.read()
    assert world.called == ["old-shelf"]


def test_a_run_that_is_resumed_goes_on_with_what_it_began_with_if_the_host_is_still_allowed(world: Shop) -> None:
    world.register(OLD, policy="needs_approval")
    run_id = world.waiting()
    world.register(NEW)
    run = world.approve(run_id)
    assert [step["observation"] for step in run["steps"]] == ['{"from": "old-till"}', '{"from": "old-shelf"}', None]
    assert world.called == ["old-till", "old-shelf"]
    told = {tool.name: tool.description for tool in world.script.requests[-1][1].trajectory.tools}
    assert told["look"] == "Ask /old-shelf"


def test_a_run_whose_gateway_died_goes_on_with_what_it_began_with(world: Shop) -> None:
    old = world.register(OLD)
    world.register(NEW)
    world.script.calls = [call("look"), call("look")]
    source, request = ToolSource(toolset="shop", version=old["version"]), f"{world.shop}/old-shelf"
    events = [
        RunCreated(query="q", tools=["look"], sources={"look": source}, max_steps=6, deadline_seconds=300),
        Planned(step=1, plan=plan(Turn.CALLER), version="v1", usage=USAGE, seconds=0.1),
        Called(
            step=1,
            call=call("look"),
            version="v1",
            usage=USAGE,
            seconds=0.1,
            toolset="shop",
            request=HttpRequest(method="GET", url=request, headers={}),
        ),
    ]
    asyncio.run(leave(world.database, events))
    run = world.ended("left")
    assert [step["request"]["url"] for step in run["steps"][:2]] == [request, request]
    assert (run["outcome"], world.called) == ("answered", ["old-shelf", "old-shelf"])


async def leave(database: str, payloads: list[Payload]) -> None:
    """A run, named left, whose gateway has died after these events."""
    async with Store(database) as store:
        first, *others = [Event.of("left", number, payload) for number, payload in enumerate(payloads)]
        await store.runs.create(first, LOCAL, None, Lease(owner="dead", until=time.time() + 60))
        for event in others:
            await store.runs.append("dead", event)
        await store.runs.release("dead")


def test_a_run_that_is_resumed_calls_no_host_that_its_toolset_may_not_reach_any_more(world: Shop) -> None:
    world.register(OLD, policy="needs_approval")
    run_id = world.waiting()
    world.register(NEW, base_url=world.elsewhere, allow=[])
    run = world.approve(run_id)
    for step in run["steps"][:2]:
        assert "which is not among the hosts of its toolset" in step["observation"]
    assert (run["outcome"], world.called) == ("answered", [])


@pytest.mark.parametrize("left", [None, {"look": "/new-shelf"}])
def test_a_tool_that_is_gone_when_its_run_is_resumed_is_not_called_but_still_known(
    world: Shop, left: dict[str, str] | None
) -> None:
    world.register(OLD, policy="needs_approval")
    run_id = world.waiting()
    if left is None:
        world.client.delete("/v1/toolsets/shop")
    else:
        world.register(left)
    run = world.approve(run_id)
    first, second = (step["observation"] for step in run["steps"][:2])
    assert first == "Not sent: there is no tool 'buy' any more."
    if left is None:
        assert (second, world.called) == ("Not sent: there is no tool 'look' any more. Correct the call.", [])
    else:
        assert (second, world.called) == ('{"from": "old-shelf"}', ["old-shelf"])
    assert [tool.name for tool in world.script.requests[-1][1].trajectory.tools] == ["look", "buy"]


def test_what_needs_approval_now_waits_when_its_run_is_resumed(world: Shop) -> None:
    world.register(OLD, policy="needs_approval")
    run_id = world.waiting()
    world.register(NEW, tool_policy={"look": "needs_approval"})
    run = world.approve(run_id)
    assert (run["status"], run["required_action"]["step"], world.called) == ("requires_action", 2, ["old-till"])
    assert run["required_action"]["request"]["url"] == f"{world.shop}/old-shelf"
    assert world.approve(run_id, 2)["outcome"] == "answered"
    assert world.called == ["old-till", "old-shelf"]


def test_versions_are_listed_by_command(world: Shop) -> None:
    first = world.register(OLD)["version"]
    second = world.register({"look": "/third"})["version"]

    def umi(*arguments: str) -> list[str]:
        result = CliRunner(env={"UMI_GATEWAY": world.gateway, "COLUMNS": "200"}).invoke(create_cli(), list(arguments))
        assert result.exit_code == 0, result.output
        return result.output.splitlines()

    lines = {line.split()[0]: line for line in umi("tools", "versions", "shop")}
    assert ("current" in lines[str(second)], "current" in lines[str(first)]) == (True, False)
    assert ("1 imported" in lines[str(second)], "2 imported" in lines[str(first)]) == (True, True)
    assert any(f"shop {second}" in line for line in umi("tools"))


def test_a_tenants_versions_are_its_own(world: Shop) -> None:
    url = f"{world.database}.keys"
    database = Database(url)
    database.migrate()
    with database.transaction() as connection:
        made = {name: keys.create(connection, name, "x", [Scope.ADMIN]) for name in ("acme", "other")}
        asker = keys.create(connection, "acme", "x", [Scope.QUERY])
    database.close()
    gateway = world.start(database=url)

    def of(key: str) -> httpx.Client:
        return httpx.Client(base_url=gateway, headers={"authorization": f"Bearer {key}"}, timeout=20, trust_env=False)

    with of(made["acme"]) as owner, of(made["other"]) as stranger, of(asker) as reader:
        body = {"name": "test", "url": f"{world.tools}/openapi.json"}
        assert owner.post("/v1/toolsets", json=body).json()["version"] == 1
        for path in ("", "/versions", "/versions/1"):
            statuses = [client.get(f"/v1/toolsets/test{path}").status_code for client in (owner, stranger, reader)]
            assert statuses == [200, 404, 200]
