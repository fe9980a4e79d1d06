"""MCP servers as toolsets of a gateway: registered, called by a run, and after a crash."""

import asyncio
import shlex
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from gateway.cli import create_cli
from gateway.events import Called, Event, Planned, RunCreated
from gateway.store import LOCAL, Lease, Store
from tests.fakes import USAGE, call, plan, serve
from tests.mcp_servers import Fake, tool
from tests.world import World
from umi.mcp import McpRequest
from umi.roles import Turn

WORDS = (sys.executable, "-m", "tests.mcp_servers")
SECRET = "s3cret-of-the-tool"


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with ExitStack() as stack:
        yield World(tmp_path, stack)


def register(world: World, **fields: Any) -> Any:
    return world.client.post("/v1/toolsets", json={"name": "m", **fields})


def test_a_run_calls_a_tool_of_an_mcp_server(world: World) -> None:
    fake = Fake()
    with serve(fake.app()) as base:
        world.client.base_url = gateway = world.start(tool_seconds=30, document_seconds=30)
        added = register(world, mcp={"url": f"{base}/mcp"})
        assert added.status_code == 201, added.text
        assert added.json()["base_url"] == f"{base}/mcp"
        assert "echo_secret" in added.json()["tools"]
        assert {entry["status"] for entry in added.json()["report"]} == {"imported"}
        shown = {tool["name"]: tool for tool in world.client.get("/v1/tools").json()}
        assert (shown["echo_secret"]["method"], shown["echo_secret"]["path"]) == ("tools/call", "echo secret")
        world.script.calls = [call("mcp_add", a=2, b=3), call("mcp_add", a="two", b=3)]
        run = world.run(tools=["mcp_add"])
        first, second = run["steps"][:2]
        assert first["observation"] == '{"sum": 5}'
        body = {"name": "mcp_add", "arguments": {"a": 2, "b": 3}}
        assert first["request"] == {"method": "tools/call", "url": f"{base}/mcp", "body": body}
        assert second["observation"].startswith("Not sent: argument 'a'")
        asked = fake.listed
        world.client.base_url = world.start(tool_seconds=30)
        assert "mcp_add" in {tool["name"] for tool in world.client.get("/v1/tools").json()}
        assert fake.listed == asked, "another gateway knows the tools without asking the server"
        assert gateway != str(world.client.base_url)


def test_a_registration_that_cannot_be_is_refused_with_advice(world: World) -> None:
    for fields, status, detail in [
        ({"mcp": {"url": "http://169.254.169.254/mcp"}}, 502, "not public"),
        ({"mcp": {"command": ["touch", "/tmp/x"]}}, 422, "UMI_MCP_COMMANDS"),
        ({"mcp": {}}, 422, "either url or command"),
        ({"mcp": {"url": "http://u:p@x.example/"}}, 422, "user name"),
        ({"mcp": {"url": "http://x.example/"}, "url": "http://x.example/"}, 422, "one of url, document and mcp"),
        ({"mcp": {"command": ["x"]}, "secrets": {"bearer": "env:UMI_SECRET_X"}}, 422, "mcp.env"),
        ({"mcp": {"url": "http://x.example/"}, "secrets": {"host": "env:UMI_SECRET_X"}}, 422, "bearer"),
    ]:
        answer = register(world, **fields)
        assert (answer.status_code, detail in answer.text) == (status, True), answer.text


def test_servers_are_added_by_command(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UMI_SECRET_X", SECRET)
    line = "python -m 'a server'"
    gateway = world.start(document_seconds=60, mcp_commands=f"{line}; {shlex.join(WORDS)}\n")

    def umi(*arguments: str) -> tuple[int, str]:
        result = CliRunner(env={"UMI_GATEWAY": gateway, "COLUMNS": "200"}).invoke(create_cli(), list(arguments))
        return result.exit_code, f"{result.output}{result.exception or ''}"

    reason = "only references inside the document are followed, not 'https://elsewhere.example/x'"
    fake = Fake()
    fake.tools = [tool("over http"), tool("bad", p={"$ref": "https://elsewhere.example/x"})]
    with serve(fake.app()) as base:
        added = umi("tools", "add", "m", f"{base}/mcp", "--mcp", "--secret", "bearer=env:UMI_SECRET_X", "--trust-hints")
    assert (added[0], added[1].splitlines()) == (
        0,
        ["m: over_http", "1 imported, 1 refused", f"refused: tools/call bad: {reason}"],
    )
    code, printed = umi("tools", "add", "c", "--mcp-command", shlex.join(WORDS), "--env", "TOKEN=env:UMI_SECRET_X")
    assert (code, printed.startswith("c: mcp_add, keep, ")) == (0, True), printed
    assert "UMI_MCP_COMMANDS" in umi("tools", "add", "c", "--mcp-command", "python")[1]
    assert "never the secret itself" in umi("tools", "add", "c", "--mcp-command", line, "--env", "TOKEN=x")[1]
    assert "--mcp-command" in umi("tools", "add", "c")[1]


@pytest.mark.parametrize(
    ("tool", "times", "observed"), [("late", 1, "The tool did not"), ("keep_late", 0, "It is unkn")]
)
def test_after_a_crash_a_call_is_repeated_only_if_the_server_says_that_it_may_be(
    world: World, tool: str, times: int, observed: str
) -> None:
    fake = Fake()
    with serve(fake.app()) as base:
        world.client.base_url = world.start(tool_seconds=2, document_seconds=30, lease_seconds=1)
        assert register(world, mcp={"url": f"{base}/mcp"}).status_code == 201
        world.script.calls = [call(tool)]
        asyncio.run(_leave(world.database, tool, f"{base}/mcp"))
        end = time.monotonic() + 60
        while (run := world.client.get(f"/v1/runs/{'0' * 32}").json())["outcome"] is None:
            assert time.monotonic() < end
            time.sleep(0.05)
    assert fake.called == [tool] * times
    assert run["steps"][0]["observation"].startswith(observed)


async def _leave(database: str, tool: str, server: str) -> None:
    """A run whose gateway has died just before its call was answered."""
    run_id, past = "0" * 32, Lease(owner="dead", until=time.time() + 5)
    arguments = {"text": "x"} if tool == "keep_late" else {}
    request = McpRequest(server=server, tool=tool, arguments=arguments)
    planned = Planned(step=1, plan=plan(Turn.CALLER), version="v1", usage=USAGE, seconds=0)
    called = Called(
        step=1, call=call(tool, **arguments), version="v1", usage=USAGE, seconds=0, toolset="m", request=request
    )
    async with Store(database) as store:
        created = RunCreated(query="q", tools=[tool], max_steps=4, deadline_seconds=120)
        assert await store.runs.create(Event.of(run_id, 0, created), LOCAL, None, past) is None
        for seq, payload in enumerate((planned, called), 1):
            await store.runs.append("dead", Event.of(run_id, seq, payload))
