"""MCP servers as toolsets: real servers over both transports, and what they must not be able to do."""

import asyncio
import logging
import os
import sys
import time
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gateway.egress.client import Egress, Limits
from gateway.egress.dispatch import Reply
from gateway.egress.hosts import Hosts
from gateway.egress.keys import Key, Keyring
from gateway.egress.permission import permission
from gateway.egress.secrets import Secrets
from gateway.mcp.servers import Command, Remote, Server, server_of
from gateway.mcp.sessions import Sessions
from gateway.store import McpOptions, Store, ToolsetOptions, ToolsetRow
from gateway.tools import toolsets
from gateway.tools.toolsets import Registry
from tests.fakes import serve
from tests.mcp_servers import PAGE, TOOLS, Fake
from tests.outside import for_ever, outside, response, says
from umi.errors import BadInput, NoResponse, TimedOut, TooLarge
from umi.mcp import McpRequest
from umi.openapi.security import Kind, Scheme
from umi.trajectory import JsonObject

LIMITS = Limits(seconds=30.0, bytes=100_000, connect_seconds=20.0, read_seconds=30.0, tries=1)
SHORT = replace(LIMITS, seconds=1.0)
WORDS = (sys.executable, "-m", "tests.mcp_servers")
NAMES = [each.name for each in TOOLS]
SECRET = "s3cret-of-the-tool"
LOOPBACK = ("127.0.0.0/8",)


@pytest.fixture(params=["modern", "legacy"])
def fake(request: pytest.FixtureRequest) -> Fake:
    return Fake(is_legacy=request.param == "legacy")


@pytest.fixture
def url(fake: Fake) -> Iterator[str]:
    with serve(fake.app()) as base:
        yield f"{base}/mcp"


def remote(url: str, *allow: str, **fields: Any) -> Remote:
    return Remote("acme", "x", url, permission((), [url], allow, LOOPBACK), **fields)


def command(**env: str) -> Command:
    return Command("acme", "x", WORDS, tuple(env.items()))


Changes = list[tuple[Server, JsonObject]]


@asynccontextmanager
async def sessions(limits: Limits = LIMITS, changes: Changes | None = None, **fields: Any) -> AsyncGenerator[Sessions]:
    hosts = Hosts(concurrency=16, failures=1000, rest=1.0)
    told: Changes = [] if changes is None else changes

    async def relist(server: Server, listing: JsonObject) -> None:
        told.append((server, listing))

    given = {"listing_limits": replace(LIMITS, bytes=1_000_000), "commands": [WORDS], **fields}
    async with Egress(hosts) as egress:
        keyring = Keyring(egress, Secrets())
        async with Sessions(egress, keyring, hosts, Secrets(), limits, relist=relist, **given) as pool:
            yield pool


async def ask(pool: Sessions, server: Server, tool: str, **arguments: Any) -> Reply:
    return await pool.call(server, McpRequest(server=server.shown, tool=tool, arguments=arguments))


async def until(condition: Callable[[], bool], seconds: float = 30.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it does not come about"
        await asyncio.sleep(0.02)


def names(listing: JsonObject) -> list[str]:
    return [tool["name"] for tool in listing["tools"]]


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


# what tools answer


async def test_all_pages_of_a_listing_are_tools(url: str) -> None:
    async with sessions() as pool:
        assert names(await pool.listing(remote(url))) == NAMES


ANSWERS = [
    ("mcp_add", {"a": 2, "b": 3}, "ok", '{"sum": 5}'),
    ("keep", {"text": "é"}, "ok", "kept é"),
    ("picture", {}, "ok", "a picture\nBinary content of type image/png, about 6 bytes; not shown."),
    ("fails", {}, "error", "Error: the disk is on fire"),
    ("refuses", {}, "error", "no such thing"),
    ("vast", {}, "too_large", "Response larger than 0.1 MB; not shown."),
]


async def test_what_a_tool_answers_is_observed(fake: Fake, url: str) -> None:
    async with sessions() as pool:
        for tool, arguments, outcome, text in ANSWERS:
            reply = await ask(pool, remote(url), tool, **arguments)
            assert reply.outcome == outcome, reply
            assert text in reply.observation
        assert fake.called == [tool for tool, *_ in ANSWERS], "each once"


async def test_a_tool_that_asks_its_user_is_told_that_there_is_none() -> None:
    fake = Fake()
    with serve(fake.app()) as base:
        async with sessions() as pool:
            reply = await ask(pool, remote(f"{base}/mcp"), "asks")
    assert (reply.outcome, "not possible here" in reply.observation) == ("error", True)


async def test_concurrent_calls_share_one_session(fake: Fake, url: str) -> None:
    async with sessions() as pool:
        replies = await asyncio.gather(*(ask(pool, remote(url), "mcp_add", a=n, b=1) for n in range(12)))
    assert [reply.observation for reply in replies] == [f'{{"sum": {n + 1}}}' for n in range(12)]
    if fake.is_legacy:  # newer servers list their tools to themselves as well, for each call
        assert fake.listed == -(-len(NAMES) // PAGE), "it was opened once"


async def test_a_slow_call_ends_in_time_and_is_cancelled_at_the_server(fake: Fake, url: str) -> None:
    async with sessions(SHORT) as pool:
        await pool.listing(remote(url))
        reply = await ask(pool, remote(url), "late")
        assert (reply.outcome, reply.observation) == ("timeout", "The tool did not answer within 1 s.")
        await until(lambda: fake.cancelled == ["late"])


async def test_a_run_that_is_cancelled_cancels_its_call_and_no_other(fake: Fake, url: str) -> None:
    async with sessions() as pool:
        task = asyncio.create_task(ask(pool, remote(url), "late"))
        await until(lambda: fake.called == ["late"])
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await until(lambda: fake.cancelled == ["late"])
        assert (await ask(pool, remote(url), "mcp_add", a=1, b=1)).observation == '{"sum": 2}'


async def test_a_session_that_the_server_forgot_is_opened_once_more() -> None:
    fake = Fake(is_legacy=True)
    app = fake.app()
    kept: dict[str, Any] = vars(fake.server.session_manager)["_server_instances"]
    with serve(app) as base:
        async with sessions() as pool:
            assert (await ask(pool, remote(f"{base}/mcp"), "keep", text="a")).outcome == "ok"
            kept.clear()
            assert (await ask(pool, remote(f"{base}/mcp"), "keep", text="b")).observation == "kept b"
            kept.clear()
            assert names(await pool.listing(remote(f"{base}/mcp"))) == NAMES
    assert fake.called == ["keep", "keep"]
    assert not kept, "the session is ended, not left"


async def test_a_server_that_has_other_tools_now_is_listed_again(fake: Fake, url: str) -> None:
    changes: Changes = []
    async with sessions(changes=changes) as pool:
        await pool.listing(remote(url))
        await asyncio.sleep(0.3)  # until it listens
        await ask(pool, remote(url), "changes")
        await until(lambda: bool(changes))
    server, listing = changes[-1]
    assert (server, names(listing)) == (remote(url), [*NAMES, "newcomer"])


async def test_a_key_is_sent_to_the_server_and_never_shown(
    fake: Fake, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UMI_SECRET_X", SECRET)
    keys = (
        Key(Scheme(kind=Kind.BEARER), "env:UMI_SECRET_X"),
        Key(Scheme(kind=Kind.API_KEY, name="X-Key"), "env:UMI_SECRET_X"),
    )
    async with sessions() as pool:
        reply = await ask(pool, remote(url, keys=keys), "echo secret")
    assert reply.observation.startswith("you are Bearer [secret]")
    assert (fake.headers[0]["authorization"], fake.headers[0]["x-key"]) == (f"Bearer {SECRET}", SECRET)
    assert fake.headers[0]["user-agent"] == "umi"


async def test_new_tools_replace_the_known_ones_unless_they_are_unusable_or_of_another_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def listing(*tools: str) -> JsonObject:
        return {"tools": [{"name": name, "inputSchema": {"type": "object"}} for name in tools]}

    options = ToolsetOptions(mcp=McpOptions())
    row = ToolsetRow(name="x", tenant="acme", url="https://a.example/mcp", document=listing("one"), options=options)
    async with Store(f"sqlite:///{tmp_path}/umi.db") as store, Registry(store.toolsets) as registry:
        await registry.register(row)
        mine = server_of(row)
        for server, found, known in [
            (mine, listing("one", "two"), {"one", "two"}),
            (mine, listing(), {"one", "two"}),
            (replace(remote("https://b.example/mcp"), permission=permission((), [], ())), listing("b"), {"one", "two"}),
            (mine, listing("three"), {"three"}),
        ]:
            await registry.relist(server, found)
            assert set(registry.catalogue("acme").tools) == known
        versions = await store.toolsets.versions("acme", "x")
        assert [(each.version, each.current) for each in versions] == [(3, True), (2, False), (1, False)]
        _, first = await registry.version("acme", "x", 1)
        assert [tool.name for tool in first.tools] == ["one"]
        monkeypatch.setattr(toolsets, "_MOST_RELISTED", 3)
        await registry.relist(mine, listing("four"))
        assert set(registry.catalogue("acme").tools) == {"three"}, "a server does not make versions without end"
        assert (await registry.register(row.model_copy(update={"document": listing("five")}))).row.version == 4


# what servers must not be able to do


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "169.254.169.254", "[::1]", "10.0.0.1", "2130706433"])
async def test_a_server_inside_is_refused_when_it_is_listed_and_when_it_is_called(host: str) -> None:
    async with outside() as victim, sessions() as pool:
        url = f"http://{host}:{victim.port}/mcp"
        server = Remote("acme", "x", url, permission((), [url], ()))
        with pytest.raises(NoResponse):
            await pool.listing(server)
        reply = await ask(pool, server, "mcp_add")
        assert reply.outcome in {"rejected", "unreachable"}
        assert victim.connections == 0


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("target", ["http://169.254.169.254/", "inside"])
async def test_a_redirect_elsewhere_is_not_followed(status: int, target: str) -> None:
    async with outside() as victim:
        location = f"{victim.url}/mcp" if target == "inside" else target
        async with outside(says(response(status=status, location=location))) as server, sessions() as pool:
            with pytest.raises(NoResponse, match="does not speak MCP"):
                await pool.listing(remote(f"{server.url}/mcp"))
        assert victim.connections == 0


EVENTS = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n"


@pytest.mark.parametrize(
    ("head", "piece", "seconds", "error"),
    [
        (EVENTS, b": and more\n\n" * 1000, 0.0, TooLarge),
        (EVENTS, b"data: x" * 1000, 0.0, TooLarge),
        (EVENTS, b": and more\n\n", 0.05, TimedOut),
        (b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n", b" " * 10_000, 0.0, TooLarge),
        (b"", b"", 60.0, TimedOut),
    ],
)
async def test_an_answer_without_end_ends(head: bytes, piece: bytes, seconds: float, error: type[NoResponse]) -> None:
    limits = replace(LIMITS, seconds=2.0 if error is TimedOut else 30.0)
    async with outside(for_ever(head, piece, seconds)) as server, sessions(listing_limits=limits) as pool:
        with pytest.raises(error):
            await pool.listing(remote(server.url))


async def test_an_encoding_that_was_not_asked_for_is_refused() -> None:
    head = EVENTS.replace(b"\r\n\r\n", b"\r\ncontent-encoding: gzip\r\n\r\n")
    async with outside(says(head)) as server, sessions() as pool:
        with pytest.raises(NoResponse):
            await pool.listing(remote(server.url))
        assert "accept-encoding: identity" in server.requests[0][0].lower()


async def test_a_server_that_is_down_is_an_observation() -> None:
    async with outside() as server:
        url = server.url
    async with sessions() as pool:
        reply = await ask(pool, remote(url), "mcp_add")
    assert (reply.outcome, reply.observation) == (
        "unreachable",
        "The tool could not be reached: the connection failed.",
    )


# commands


async def test_a_command_is_asked_like_a_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UMI_SECRET_X", SECRET)
    monkeypatch.setenv("UMI_DATABASE", "of the gateway's own")
    async with sessions() as pool:
        server = command(TOKEN="env:UMI_SECRET_X")
        assert names(await pool.listing(server)) == NAMES
        for tool, arguments, outcome, text in ANSWERS[:-1]:
            reply = await ask(pool, server, tool, **arguments)
            assert (reply.outcome, text in reply.observation) == (outcome, True), reply
        seen = (await ask(pool, server, "echo secret")).observation
    assert seen.startswith("you are [secret], ")
    variables = set(seen.partition("[")[2].partition("[")[2].replace("'", "").rstrip("]").split(", "))
    assert "TOKEN" in variables and variables <= {"TOKEN", "PATH", "HOME", "LANG", "TMPDIR", "TZ", "LC_CTYPE"}


async def test_a_command_that_the_operator_did_not_name_is_never_run(tmp_path: Path) -> None:
    for words in (("touch", str(tmp_path / "x")), (*WORDS, "-v"), WORDS[:1]):
        server = Command("acme", "x", words)
        async with sessions() as pool:
            with pytest.raises(BadInput, match="UMI_MCP_COMMANDS"):
                await pool.listing(server)
            assert (await ask(pool, server, "mcp_add")).outcome == "rejected"
    assert not (tmp_path / "x").exists()


async def test_a_child_that_dies_is_started_again_and_what_it_says_is_logged_without_secrets(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("UMI_SECRET_X", SECRET)
    caplog.set_level(logging.INFO, "umi.gateway.mcp")
    async with sessions() as pool:
        server = command(TOKEN="env:UMI_SECRET_X")
        reply = await ask(pool, server, "dies")
        assert (reply.outcome, reply.observation) == ("unreachable", "The tool broke off: its process has ended.")
        assert (await ask(pool, server, "mcp_add", a=1, b=1)).observation == '{"sum": 2}'
    assert "x of acme: dying with [secret]" in caplog.text
    assert SECRET not in caplog.text


async def test_a_child_that_writes_without_end_is_stopped() -> None:
    async with sessions() as pool:
        assert (await ask(pool, command(), "floods")).outcome == "too_large"
        assert (await ask(pool, command(), "mcp_add", a=1, b=1)).observation == '{"sum": 2}'


async def test_a_child_that_complains_without_end_fills_no_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "umi.gateway.mcp")
    async with sessions(SHORT) as pool:
        await pool.listing(command())
        assert (await ask(pool, command(), "complains")).outcome == "timeout"
    lines = [record for record in caplog.records if record.name == "umi.gateway.mcp"]
    assert 0 < len(lines) <= 200
    assert max(len(record.getMessage()) for record in lines) < 600


async def test_a_child_that_hangs_ends_with_its_call_and_none_is_left() -> None:
    async with sessions(SHORT) as pool:
        await pool.listing(command())
        reply = await ask(pool, command(), "pid")
        pid = int(reply.observation.removeprefix("process "))
        assert is_alive(pid)
        assert (await ask(pool, command(), "late")).outcome == "timeout"
    assert not is_alive(pid)


KILLED = """
import asyncio
from tests.contract.test_mcp import ask, command, sessions
async def main():
    async with sessions() as pool:
        print((await ask(pool, command(), "pid")).observation, flush=True)
        await asyncio.sleep(60)
asyncio.run(main())
"""


async def test_a_child_does_not_outlive_a_gateway_that_is_killed() -> None:
    gateway = await asyncio.create_subprocess_exec(sys.executable, "-c", KILLED, stdout=asyncio.subprocess.PIPE)
    assert gateway.stdout is not None
    pid = int((await gateway.stdout.readline()).decode().removeprefix("process "))
    assert is_alive(pid)
    gateway.kill()
    await gateway.communicate()
    await until(lambda: not is_alive(pid))


async def test_a_command_that_is_no_server_is_refused() -> None:
    words = (sys.executable, "-c", "print('hello')")
    async with sessions(commands=[words]) as pool:
        with pytest.raises(NoResponse, match="its process has ended"):
            await pool.listing(Command("acme", "x", words))
