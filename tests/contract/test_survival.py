"""Runs that outlive their gateway: processes that are killed, and others on the same database that go on."""

import asyncio
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway.events import Called, Event, Planned, RunCreated
from gateway.store import LOCAL, Lease, Store
from tests.fakes import USAGE, call, free_port, plan
from tests.world import World
from umi.openapi import HttpRequest
from umi.roles import Role, Turn

LEASE = 1.0


@pytest.fixture
def world(tmp_path: Path, database: str) -> Iterator[World]:
    with ExitStack() as stack:
        yield World(tmp_path, stack, database)


@contextmanager
def gateway(world: World, tmp_path: Path, **changes: str) -> Generator[tuple[httpx.Client, "subprocess.Popen[bytes]"]]:
    """A gateway as a process of its own, on the world's roles, tools and database."""
    port = free_port()
    urls = {f"UMI_{role.upper()}_URL": world.roles for role in Role}
    settings = {"UMI_PORT": str(port), "UMI_DATABASE": world.database, "UMI_LEASE_SECONDS": str(LEASE), **changes}
    settings |= {"UMI_TOOL_ALLOW": "127.0.0.1"}
    with (tmp_path / f"{port}.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "gateway"], stdout=log, stderr=log, env={**os.environ, **urls, **settings}
        )
        try:
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60, trust_env=False) as client:
                wait(lambda: is_up(client), 120)
                yield client, process
        finally:
            process.kill()
            process.wait(10)


def is_up(client: httpx.Client) -> bool:
    try:
        return client.get("/healthz").status_code == 200
    except httpx.HTTPError:
        return False


def wait(condition: Callable[[], bool], seconds: float = 60) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "it does not come about"
        time.sleep(0.02)


def begin(client: httpx.Client) -> str:
    body = {"query": "What is 2 + 3?", "background": True, "max_steps": 6}
    return str(client.post("/v1/queries", json=body).raise_for_status().json()["run_id"])


def ended(client: httpx.Client, run_id: str) -> dict[str, Any]:
    wait(lambda: client.get(f"/v1/runs/{run_id}").json()["outcome"] is not None)
    return client.get(f"/v1/runs/{run_id}").json()


@pytest.mark.parametrize("seed", range(5))
def test_a_run_whose_gateway_is_killed_at_any_moment_ends_as_it_would_have(
    world: World, tmp_path: Path, seed: int
) -> None:
    world.script.calls = [call("add", a=2, b=3), call("add", a=5, b=5)]
    world.script.delays = dict.fromkeys(Role, 0.15)
    with gateway(world, tmp_path) as (client, process):
        run_id = begin(client)
        time.sleep(random.Random(seed).uniform(0, 1.0))
        process.kill()
    with gateway(world, tmp_path) as (client, _):
        run = ended(client, run_id)
        events = client.get(f"/v1/runs/{run_id}/events").text
    assert (run["outcome"], run["answer"]) == ("answered", world.script.answer)
    assert [step["observation"] for step in run["steps"]] == ['{"sum": 5}', '{"sum": 10}', None]
    numbers = [int(line[4:]) for line in events.splitlines() if line.startswith("id: ")]
    assert numbers == list(range(len(numbers))), "nothing is lost and nothing told twice"


@pytest.mark.parametrize(("tool", "path", "times"), [("make_slow_note", "/slow-notes", 1), ("slow", "/slow", 2)])
def test_a_call_in_flight_is_repeated_only_if_it_changes_nothing(
    world: World, tmp_path: Path, tool: str, path: str, times: int
) -> None:
    arguments = {"text": "buy milk"} if tool == "make_slow_note" else {}
    world.script.calls = [call(tool, **arguments)]
    with gateway(world, tmp_path) as (client, process):
        run_id = begin(client)
        wait(lambda: path in world.called)
        process.kill()
    with gateway(world, tmp_path, UMI_TOOL_SECONDS="0.5") as (client, _):
        run = ended(client, run_id)
    assert world.called.count(path) == times
    observed = "It is unknown whether" if times == 1 else "The tool did not answer within"
    assert run["steps"][0]["observation"].startswith(observed)
    assert run["outcome"] == "answered"


def test_a_gateway_that_lives_keeps_its_runs(world: World, tmp_path: Path) -> None:
    world.script.delays[Role.PLANNER] = 3 * LEASE
    with gateway(world, tmp_path) as (client, _), gateway(world, tmp_path) as (other, _):
        run_id = begin(client)
        assert other.get(f"/v1/runs/{run_id}").json()["outcome"] is None
        assert ended(client, run_id)["outcome"] == "answered"
    asked = [role for role, request in world.script.requests if request.run_id == run_id and role is Role.PLANNER]
    assert len(asked) == 1


def test_a_gateway_that_is_told_to_stop_hands_its_runs_over_at_once(world: World, tmp_path: Path) -> None:
    world.script.calls = [call("add", a=2, b=3)]
    world.script.delays[Role.CALLER] = 0.4
    with gateway(world, tmp_path, UMI_DRAIN_SECONDS="0") as (client, process), gateway(world, tmp_path) as (other, _):
        run_id = begin(client)
        process.send_signal(signal.SIGTERM)
        process.wait(60)
        assert ended(other, run_id)["outcome"] == "answered"


def test_a_gateway_that_is_told_to_stop_lets_its_runs_end_if_they_soon_do(world: World, tmp_path: Path) -> None:
    world.script.calls = [call("add", a=2, b=3)]
    world.script.delays[Role.CALLER] = 1.0
    with gateway(world, tmp_path, UMI_DRAIN_SECONDS="20") as (client, process), gateway(world, tmp_path) as (other, _):
        run_id = begin(client)
        process.send_signal(signal.SIGTERM)
        process.wait(60)
        assert other.get(f"/v1/runs/{run_id}").json()["outcome"] == "answered"
    assert [role for role, _ in world.script.requests].count(Role.CALLER) == 1


def guard(world: World, **exceptions: str) -> None:
    """Let what changes something need approval."""
    url = f"{world.tools}/openapi.json"
    body = {"name": "test", "url": url, "policy": "needs_approval", "tool_policy": exceptions}
    world.client.post("/v1/toolsets", json=body).raise_for_status()


def waiting(client: httpx.Client, run_id: str) -> None:
    wait(lambda: client.get(f"/v1/runs/{run_id}").json()["status"] == "requires_action")


def approve(client: httpx.Client, run_id: str) -> None:
    client.post(f"/v1/runs/{run_id}/approve", json={"approve": True, "step": 1}).raise_for_status()


def test_a_run_that_waits_for_approval_outlives_its_gateway(world: World, tmp_path: Path) -> None:
    guard(world)
    world.script.calls = [call("make_note", text="buy milk")]
    with gateway(world, tmp_path) as (client, process):
        run_id = begin(client)
        waiting(client, run_id)
        process.kill()
    time.sleep(2 * LEASE)
    with gateway(world, tmp_path) as (client, _):
        assert client.get(f"/v1/runs/{run_id}").json()["status"] == "requires_action"
        assert world.called == []
        approve(client, run_id)
        run = ended(client, run_id)
    assert (run["outcome"], run["steps"][0]["observation"]) == ("answered", '{"kept": "buy milk"}')
    assert world.called == ["/notes"]


def test_an_approved_call_that_was_not_yet_sent_is_sent_by_the_next_gateway(world: World, tmp_path: Path) -> None:
    guard(world)
    world.script.calls = [call("make_note", text="buy milk")]
    with gateway(world, tmp_path, UMI_MAX_RUNNING="1") as (client, process):
        run_id = begin(client)
        waiting(client, run_id)
        world.script.delays[Role.PLANNER] = 120
        begin(client)  # has the only turn
        wait(lambda: len(world.script.requests) == 3)
        approve(client, run_id)
        assert "event: sending" not in written(client, run_id)
        process.kill()
    world.script.delays.clear()
    with gateway(world, tmp_path) as (client, _):
        assert ended(client, run_id)["steps"][0]["observation"] == '{"kept": "buy milk"}'
    assert world.called == ["/notes"]


def written(client: httpx.Client, run_id: str) -> str:
    """The events that are there."""
    with client.stream("GET", f"/v1/runs/{run_id}/events") as response:
        text = ""
        for line in response.iter_lines():
            text += line + "\n"
            if line == "event: approval":
                return text
    return text


def test_an_approved_call_in_flight_is_not_repeated(world: World, tmp_path: Path) -> None:
    guard(world)
    world.script.calls = [call("make_slow_note", text="buy milk")]
    with gateway(world, tmp_path, UMI_TOOL_SECONDS="60") as (client, process):
        run_id = begin(client)
        waiting(client, run_id)
        approve(client, run_id)
        wait(lambda: "/slow-notes" in world.called)
        process.kill()
    with gateway(world, tmp_path) as (client, _):
        run = ended(client, run_id)
    assert run["steps"][0]["observation"].startswith("It is unknown whether")
    assert (run["outcome"], world.called) == ("answered", ["/slow-notes"])


async def test_a_gateway_that_died_before_it_asked_leaves_nothing_that_is_sent_unasked(world: World) -> None:
    guard(world, add="needs_approval")
    request = HttpRequest(method="GET", url=f"{world.tools}/add?a=2&b=3", headers={})
    events = [
        RunCreated(query="What is 2 + 3?", tools=["add"], max_steps=6, deadline_seconds=300),
        Planned(step=1, plan=plan(Turn.CALLER), version="v1", usage=USAGE, seconds=0.1),
        Called(
            step=1,
            call=call("add", a=2, b=3),
            version="v1",
            usage=USAGE,
            seconds=0.1,
            toolset="test",
            request=request,
            needs_approval=True,
        ),
    ]
    log = [Event.of("died", number, payload) for number, payload in enumerate(events)]
    async with Store(world.database) as store:
        await store.runs.create(log[0], LOCAL, None, Lease(owner="dead", until=time.time() + 60))
        for event in log[1:]:
            await store.runs.append("dead", event)
        await store.runs.release("dead")
    await asyncio.to_thread(waiting, world.client, "died")
    assert world.called == []
    approve(world.client, "died")
    assert (await asyncio.to_thread(ended, world.client, "died"))["steps"][0]["observation"] == '{"sum": 5}'


def test_every_tool_call_carries_a_key_of_its_own(world: World) -> None:
    world.script.calls = [call("add", a=2, b=3), call("add", a=2, b=3)]
    run = world.run()
    events = world.client.get(f"/v1/runs/{run['run_id']}/events").text
    assert [f'"idempotency-key":"{run["run_id"]}-{step}"' in events for step in (1, 2, 3)] == [True, True, False]
