"""Runs as lines: what training reads, without secrets, however many there are."""

import json
import time
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from typing import Any

import pytest
from fastapi import FastAPI, Request
from typer.testing import CliRunner

from gateway.cli import create_cli
from gateway.events import Event, Outcome, RunCompleted, RunCreated
from gateway.store import LOCAL, Lease, Selection, Store
from gateway.store.export import logs
from tests.fakes import call, plan, serve
from tests.world import World
from training.formats import runs
from umi.roles import Role, Turn

SECRET = "s3cr3t-word"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with ExitStack() as stack:
        yield World(tmp_path_factory.mktemp("gateway"), stack)


def export(world: World, *arguments: str) -> list[dict[str, Any]]:
    result = CliRunner(env={"UMI_GATEWAY": world.gateway}).invoke(create_cli(), ["runs", "export", *arguments])
    assert result.exit_code == 0, result.output
    return [json.loads(line) for line in result.output.splitlines()]


def test_what_is_exported_is_what_the_api_shows_and_what_training_reads(world: World) -> None:
    world.reset()
    world.script.calls = [call("add", a=2, b=3)]
    world.script.answer = "It is 5.\u2028Truly."
    first = world.run(query="What is 2 + 3?")["run_id"]
    world.script.plans = [plan(Turn.GIVE_UP)]
    second = world.run(query="hopeless")["run_id"]
    middle = datetime.now(UTC).isoformat()
    third = world.run(query="hopeless as well")["run_id"]
    world.script.delays[Role.PLANNER] = 3
    running = world.ask(background=True).json()["run_id"]
    found = export(world)
    assert [run["run_id"] for run in found] == [first, second, third]
    assert found[0] == world.client.get(f"/v1/runs/{first}").json()
    assert [run["run_id"] for run in export(world, "--outcome", "answered")] == [first]
    since = world.client.get("/v1/runs/export", params={"since": middle}).text.splitlines()
    until = world.client.get("/v1/runs/export", params={"until": middle}).text.splitlines()
    assert [json.loads(line)["run_id"] for line in since] == [third]
    assert [json.loads(line)["run_id"] for line in until] == [first, second]
    assert export(world, "--since", "2200-01-01") == []
    [record] = runs.records(export(world, "--with-tools")[0], "x")
    [tool] = [spec for spec in record.trajectory.tools if spec.name == "add"]
    assert (tool.description, list(tool.parameters["properties"])) == ("Add two whole numbers", ["a", "b"])
    world.client.post(f"/v1/runs/{running}/cancel")


def test_a_secret_of_a_tool_is_in_no_export_even_if_the_tool_repeats_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UMI_SECRET_WORD", SECRET)
    app, seen = FastAPI(), list[str]()

    @app.get("/echo", operation_id="echo")
    async def echo(request: Request) -> dict[str, str]:
        seen.append(str(request.url))
        return {"url": str(request.url)}

    with serve(app) as url:
        document = {**app.openapi(), "servers": [{"url": url}]}
        document["components"] = {"securitySchemes": {"s": {"type": "apiKey", "in": "query", "name": "key"}}}
        body = {"name": "echo", "document": document, "allow": ["127.0.0.1"], "secrets": {"s": "env:UMI_SECRET_WORD"}}
        assert world.client.post("/v1/toolsets", json=body).status_code == 201
        world.script.reset()
        world.script.calls = [call("echo")]
        run_id = world.run(tools=["echo"])["run_id"]
    assert [SECRET in address for address in seen] == [True]
    found = world.client.get("/v1/runs/export", params={"documents": True}).text
    assert run_id in found
    assert SECRET not in found


@pytest.mark.parametrize("parameters", [{"outcome": "running"}, {"since": "yesterday"}])
def test_a_selection_that_cannot_be_read_is_a_422_and_the_command_says_so(
    world: World, parameters: dict[str, str]
) -> None:
    response = world.client.get("/v1/runs/export", params=parameters)
    assert (response.status_code, response.json()["field"]) == (422, next(iter(parameters)))


async def test_many_runs_come_in_order_and_of_one_tenant(database: str) -> None:
    lease = Lease(owner="a", until=time.time() + 3600)
    async with Store(database) as store:
        for number in range(123):
            run_id = f"r{number * 37 % 123:03}"
            key = LOCAL.model_copy(update={"tenant": "other" if number % 4 == 0 else "acme"})
            created = RunCreated(query="q", tools=[], max_steps=8, deadline_seconds=60)
            at = float(number // 3)  # some began at the same time
            await store.runs.create(Event.of(run_id, 0, created).model_copy(update={"at": at}), key, None, lease)
            if number % 5:
                await store.runs.append("a", Event.of(run_id, 1, RunCompleted(outcome=Outcome.ANSWERED)))
        expected = sorted((n // 3, f"r{n * 37 % 123:03}") for n in range(123) if n % 4 and n % 5)
        found = [log async for log in logs(store.database, Selection(tenant="acme"))]
        assert [(log[0].at, log[0].run_id) for log in found] == expected
        assert {len(log) for log in found} == {2}
        some = Selection(tenant="acme", since=10.0, until=20.0)
        assert [log[0].run_id async for log in logs(store.database, some)] == [r for at, r in expected if 10 <= at < 20]
