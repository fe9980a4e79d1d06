"""UMi as an MCP server, asked by the official client over HTTP and over pipes."""

import asyncio
import os
import sys
import time
from collections.abc import AsyncGenerator, Iterator
from contextlib import ExitStack, asynccontextmanager
from typing import Any

import httpx
import httpx2
import pytest
from mcp import Client, StdioServerParameters
from mcp.client.streamable_http import streamable_http_client

from gateway.store import Scope
from tests.contract.test_accounts import Tenants
from tests.fakes import call, free_port
from tests.world import World
from umi.roles import Role


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with ExitStack() as stack:
        world = World(tmp_path_factory.mktemp("asking"), stack)
        world.client.base_url = world.gateway = world.start(tool_seconds=20)
        yield world


@pytest.fixture(autouse=True)
def script(world: World) -> None:
    world.script.reset()
    world.script.calls = [call("add", a=2, b=3)]


@asynccontextmanager
async def over_http(url: str, mode: str = "auto", key: str | None = None) -> AsyncGenerator[Client]:
    headers = {"authorization": f"Bearer {key}"} if key else {}
    async with httpx2.AsyncClient(headers=headers, timeout=60, trust_env=False) as http:
        transport = streamable_http_client(f"{url}/mcp", http_client=http)
        async with Client(transport, mode=mode, read_timeout_seconds=60) as client:
            yield client


@asynccontextmanager
async def over_pipes(url: str, key: str | None = None) -> AsyncGenerator[Client]:
    env = {"PYTHONPATH": os.getcwd(), **({"UMI_API_KEY": key} if key else {})}
    command = StdioServerParameters(
        command=sys.executable, args=["-m", "gateway.cli", "mcp", "--gateway", url], env=env
    )
    async with Client(command, read_timeout_seconds=60) as client:
        yield client


async def check(client: Client) -> None:
    """One question, with all that is told meanwhile."""
    (tool,) = (await client.list_tools()).tools
    assert (tool.name, tool.input_schema["required"]) == ("ask", ["query"])
    told: list[str] = []

    async def tell(_: float, __: float | None, message: str | None) -> None:
        told.append(str(message))

    result = await client.call_tool("ask", {"query": "What is 2 + 3?", "tools": ["add"]}, progress_callback=tell)
    assert (result.is_error, result.content[0].text) == (False, "It is done.")  # type: ignore[union-attr]
    found: dict[str, Any] = result.structured_content
    assert (found["outcome"], found["answer"]) == ("answered", "It is done.")
    assert found["steps"][0] == {
        "rationale": "Because.",
        "call": {"tool": "add", "arguments": {"a": 2, "b": 3}},
        "observation": '{"sum": 5}',
    }
    assert told == ["Because.", '→ add({"a": 2, "b": 3})', '← {"sum": 5}', "Because."]


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_another_agent_asks_over_http(world: World, mode: str) -> None:
    async with over_http(world.gateway, mode) as client:
        await check(client)


@pytest.mark.parametrize("seconds_per_word", [None, 0.05])
async def test_another_agent_asks_over_pipes(world: World, seconds_per_word: float | None) -> None:
    world.script.seconds_per_word = seconds_per_word  # texts come in parts then, which are no events
    async with over_pipes(world.gateway) as client:
        await check(client)


async def test_what_cannot_be_asked_is_an_error_that_says_why(world: World) -> None:
    async with over_http(world.gateway) as client:
        for arguments, reason in [
            ({}, "query: Field required"),
            ({"query": " "}, "query: "),
            ({"query": "q", "max_steps": 99}, "max_steps: "),
            ({"query": "q", "tools": ["nothing"]}, "no tool is named 'nothing'"),
            ({"query": "q", "other": 1}, "other: "),
        ]:
            result = await client.call_tool("ask", arguments)
            assert (result.is_error, reason in result.content[0].text) == (True, True), result  # type: ignore[union-attr]


async def test_a_run_without_an_answer_is_an_error_with_its_outcome(world: World) -> None:
    async with over_http(world.gateway) as client:
        result = await client.call_tool("ask", {"query": "q", "max_steps": 1})
    assert result.is_error
    assert result.structured_content["outcome"] == "max_steps"


def outcome(world: World, run_id: str, seconds: float = 60) -> str:
    end = time.monotonic() + seconds
    while (found := world.client.get(f"/v1/runs/{run_id}").json()["outcome"]) is None:
        assert time.monotonic() < end, "the run goes on"
        time.sleep(0.05)
    return str(found)


@pytest.mark.parametrize("way", [over_http, over_pipes])
async def test_a_call_that_is_cancelled_cancels_its_run(world: World, way: Any) -> None:
    world.script.delays[Role.PLANNER] = 60
    before = {run["run_id"] for run in world.client.get("/v1/runs").json()["runs"]}
    async with way(world.gateway) as client:
        asking = asyncio.create_task(client.call_tool("ask", {"query": "q"}))
        while not (new := {r["run_id"] for r in world.client.get("/v1/runs").json()["runs"]} - before):
            await asyncio.sleep(0.1)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        assert await asyncio.to_thread(outcome, world, new.pop()) == "cancelled"


def test_an_older_client_cancels_by_closing_its_connection(world: World) -> None:
    world.script.delays[Role.PLANNER] = 60
    before = {run["run_id"] for run in world.client.get("/v1/runs").json()["runs"]}
    params = {"name": "ask", "arguments": {"query": "q"}}
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
    headers = {"accept": "application/json, text/event-stream", "mcp-protocol-version": "2025-11-25"}
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(f"{world.gateway}/mcp", json=body, headers=headers, trust_env=False, timeout=4)
    (run_id,) = {run["run_id"] for run in world.client.get("/v1/runs").json()["runs"]} - before
    assert outcome(world, run_id) == "cancelled"


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"host": "evil.example"}, 421),
        ({"origin": "http://evil.example"}, 403),
        ({"origin": "http://localhost:3"}, 200),
    ],
)
def test_a_page_in_a_browser_cannot_ask_by_another_name(world: World, headers: dict[str, str], status: int) -> None:
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
    accept = {"accept": "application/json, text/event-stream", "mcp-protocol-version": "2025-11-25"}
    answer = httpx.post(f"{world.gateway}/mcp", json=body, headers={**accept, **headers}, trust_env=False, timeout=30)
    assert answer.status_code == status, answer.text


async def test_a_gateway_that_is_not_there_is_said_to_be_so() -> None:
    async with over_pipes(f"http://127.0.0.1:{free_port()}") as client:
        result = await client.call_tool("ask", {"query": "q"})
    assert result.is_error
    assert "umi up" in result.content[0].text  # type: ignore[union-attr]


@pytest.fixture(scope="module")
def tenants(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tenants]:
    with ExitStack() as stack:
        yield Tenants(tmp_path_factory.mktemp("tenants"), stack)


async def test_a_key_says_whose_run_it_is_and_what_it_may(tenants: Tenants) -> None:
    tenants.script.calls = [call("add", a=2, b=3)]
    with pytest.raises(BaseException):  # noqa: B017 a group of what the client makes of a 401
        async with over_http(tenants.gateway):
            pass
    async with over_http(tenants.gateway, key=tenants.key("acme")) as client:
        found = (await client.call_tool("ask", {"query": "q"})).structured_content
        assert tenants.client.get(f"/v1/runs/{found['run_id']}").status_code == 200
        assert tenants.of("other").get(f"/v1/runs/{found['run_id']}").status_code == 404
    async with over_http(tenants.gateway, key=tenants.key("other")) as client:
        result = await client.call_tool("ask", {"query": "q", "tools": ["add"]})
        assert "no tool is named 'add'" in result.content[0].text  # type: ignore[union-attr]
    async with over_http(tenants.gateway, key=tenants.key("acme", Scope.TOOLS)) as client:
        result = await client.call_tool("ask", {"query": "q"})
        assert "scope query" in result.content[0].text  # type: ignore[union-attr]


def test_only_an_admin_may_name_a_command(tenants: Tenants) -> None:
    body = {"name": "m", "mcp": {"command": ["x"]}}
    assert tenants.of("acme").post("/v1/toolsets", json=body).status_code == 403
    assert tenants.of("acme", Scope.ADMIN).post("/v1/toolsets", json=body).status_code == 422
