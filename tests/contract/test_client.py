"""The Python client against a real gateway, over connections that break."""

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi import FastAPI, Response

from gateway.app import create_app
from gateway.deltas import ANSWER_DELTA, PLAN_DELTA, Written
from gateway.events import PAYLOADS
from tests.cutting import cutting
from tests.fakes import broken, call, free_port, plan, serve
from tests.world import World
from umi.client import (
    AsyncClient,
    BadRequest,
    Client,
    Conflict,
    NotConnected,
    NotFound,
    Patience,
    RunFailed,
    Unauthorized,
    events,
    results,
)
from umi.roles import Role, Turn

ONCE = Patience(retries=0)


@pytest.fixture
def world(shared: World) -> World:
    shared.reset()
    shared.script.calls = [call("add", a=2, b=3), call("make_note", text="five")]
    return shared


@pytest.fixture
def client(world: World) -> Iterator[Client]:
    with Client(world.gateway) as client:
        yield client


def test_a_query_is_answered_with_its_typed_run(client: Client) -> None:
    run = client.queries.ask("What is 2 + 3?", tools=["add", "make_note"], max_steps=5)
    assert (run.outcome, run.answer, run.max_steps) == ("answered", "It is done.", 5)
    first = run.steps[0]
    assert (first.call and first.call.arguments, first.observation) == ({"a": 2, "b": 3}, '{"sum": 5}')
    assert (run.usage["planner"].requests, first.usage["caller"].prompt_tokens) == (3, 10)
    assert client.runs.get(run.run_id) == run


def test_a_run_is_begun_watched_cancelled_listed_and_deleted(world: World, client: Client) -> None:
    world.script.delays[Role.PLANNER] = 30
    run = client.queries.start("q")
    with pytest.raises(Conflict):
        client.runs.delete(run.run_id)
    assert client.runs.cancel(run.run_id).outcome == "cancelled"
    assert [event.type for event in client.runs.events(run.run_id)] == ["run.created", "run.completed"]
    assert list(client.runs.events(run.run_id, after=1)) == []
    world.script.delays.clear()
    made = [client.queries.ask(f"query {number}").run_id for number in range(3)]
    listed = [each.run_id for each in client.runs.list(page_size=2)]
    assert listed[:4] == [*reversed(made), run.run_id]
    assert next(client.runs.list(outcome="cancelled")).run_id == run.run_id
    client.runs.delete(run.run_id)
    with pytest.raises(NotFound):
        client.runs.get(run.run_id)


def test_toolsets_tools_and_models_are_typed(world: World, client: Client) -> None:
    document = {"openapi": "3.1.0", "paths": {"/w": {"get": {"operationId": "weather", "summary": "Say it"}}}}
    added = client.toolsets.register("sky", document=document, base_url="http://127.0.0.1:9", allow=["127.0.0.1"])
    assert (added.tools, added.report[0].status) == (["weather"], "imported")
    assert "sky" in [toolset.name for toolset in client.toolsets.list()]
    assert "weather" in [tool.name for tool in client.tools.list()]
    assert client.tools.list(query="add two whole numbers")[0].toolset == "test"
    assert client.toolsets.get("sky") == added
    client.toolsets.delete("sky")
    (kept,) = client.toolsets.versions("sky")
    assert (kept.version, kept.current, kept.operations) == (1, False, {"imported": 1})
    was = client.toolsets.version("sky", 1)
    assert (was.specs[0].spec.description, was.digest, was.document) == ("Say it", kept.digest, document | was.document)
    assert "sky" not in [toolset.name for toolset in client.toolsets.list()]
    assert [model.id for model in client.models.list()] == ["umi"]


@pytest.mark.parametrize("allow", [1600, 1900, 2500])
def test_a_stream_whose_connection_is_cut_again_and_again_loses_and_doubles_nothing(world: World, allow: int) -> None:
    with cutting(world.gateway, allow) as (cutter, url), Client(url) as client:
        seen = list(client.queries.stream("q"))
    assert [event.seq for event in seen] == list(range(len(seen)))
    assert [event.type for event in seen] == [
        "run.created",
        *("plan", "call", "observation") * 2,
        "plan",
        "run.completed",
    ]
    assert len({event.run_id for event in seen}) == 1
    assert cutter.connections > 1
    assert world.called == ["/add", "/notes"]


def test_a_stream_goes_on_through_another_gateway(world: World) -> None:
    other = world.start()
    with cutting(world.gateway, 1300) as (cutter, url), Client(url) as client, client.queries.stream("q") as stream:
        first = next(stream)
        cutter.target, cutter.allow = other, None
        assert [first.seq, *(event.seq for event in stream)] == list(range(9))
    assert cutter.connections == 2


async def test_the_async_client_resumes_the_same_way_while_others_stream(world: World) -> None:
    with cutting(world.gateway, 1300) as (cutter, url):
        async with AsyncClient(url) as client:

            async def watch(number: int) -> list[int]:
                return [event.seq async for event in client.queries.stream(f"query {number}")]

            assert await asyncio.gather(*(watch(number) for number in range(8))) == [list(range(9))] * 8
    assert cutter.connections > 16


async def test_the_async_client_does_what_the_sync_one_does(world: World) -> None:
    async with AsyncClient(world.gateway) as client:
        run = await client.queries.ask("q")
        assert await client.runs.get(run.run_id) == run
        assert (await anext(client.runs.list(page_size=1))).run_id == run.run_id
        async with client.runs.events(run.run_id) as stream:
            first = await anext(stream)
        assert isinstance(first.data, events.RunCreated)
        with pytest.raises(NotFound):
            await client.runs.get("none")
        with pytest.raises(NotFound):
            await anext(client.runs.events("none"))


def test_an_answer_that_was_lost_is_asked_for_again_and_is_the_same_run(world: World) -> None:
    with cutting(world.gateway, 5) as (cutter, url), Client(url, patience=Patience(retries=1)) as client:
        with pytest.raises(NotConnected, match="broke"):
            client.queries.ask("q", idempotency_key="lost-answers")
        assert cutter.connections == 2
        cutter.allow = None
        run = client.queries.ask("q", idempotency_key="lost-answers")
    assert run.outcome == "answered"
    assert world.called == ["/add", "/notes"]


def test_leaving_a_stream_early_leaves_the_run_alone(world: World, client: Client) -> None:
    with client.queries.stream("q") as stream:
        run_id = next(stream).run_id
    assert list(stream) == []
    assert [event.seq for event in client.runs.events(run_id)] == list(range(9))
    assert client.runs.get(run_id).outcome == "answered"


def test_errors_are_told_apart_and_say_what_is_wrong(world: World) -> None:
    with Client(world.gateway, patience=ONCE) as client:
        with pytest.raises(BadRequest) as bad:
            client.queries.ask("  ")
        assert (bad.value.type, bad.value.field) == ("bad-input", "query")
        with pytest.raises(BadRequest) as unknown:
            client.queries.ask("q", tools=["nonsense"])
        assert unknown.value.type == "unknown-tool"
        world.script.failures = [(Role.PLANNER, broken("broken"))]
        with pytest.raises(RunFailed) as failed:
            client.queries.ask("q")
        assert failed.value.role == "planner"
        assert client.runs.get(str(failed.value.run_id)).outcome == "failed"
        world.script.plans = [plan(Turn.GIVE_UP)]
        assert client.queries.ask("q").outcome == "gave_up"
    nowhere = f"http://127.0.0.1:{free_port()}"
    with (
        Client(nowhere, patience=ONCE) as client,
        pytest.raises(NotConnected, match=f"no gateway answers at {nowhere}"),
    ):
        client.tools.list()
    with pytest.raises(ValueError, match="not a URL"):
        Client("localhost:8000")


def test_the_key_is_an_argument_or_in_the_environment_and_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    app, given = FastAPI(), list[str | None]()

    @app.get("/v1/tools")
    async def tools(request: Any = None) -> list[str]:
        return []

    @app.middleware("http")
    async def look(request: Any, further: Any) -> Response:
        given.append(request.headers.get("authorization"))
        if given[-1] is None:
            return Response('{"type":"unauthorized","title":"t","status":401,"detail":"no key"}', 401)
        return Response("[]", media_type="application/json")

    with serve(app) as url:
        monkeypatch.setenv("UMI_API_KEY", "umi_environment\n")
        with Client(url) as client:
            client.tools.list()
        with Client(url, api_key="umi_argument") as client:
            client.tools.list()
            assert "umi_argument" not in repr(vars(client))
        monkeypatch.delenv("UMI_API_KEY")
        with Client(url) as client, pytest.raises(Unauthorized, match="no key"):
            client.tools.list()
    assert given == ["Bearer umi_environment", "Bearer umi_argument", None]


PAIRS = {
    "RunView": results.Run,
    "StepView": results.Step,
    "SentRequest": results.SentRequest,
    "StepSeconds": results.StepSeconds,
    "UsageTotal": results.UsageTotal,
    "Usage": results.Usage,
    "Timings": results.Timings,
    "RunProblem": results.Problem,
    "Call": results.Call,
    "RunRow": results.RunSummary,
    "RunList": results.RunPage,
    "ToolView": results.Tool,
    "ToolSpec": results.ToolSpec,
    "ToolsetView": results.Toolset,
    "RegisteredToolset": results.RegisteredToolset,
    "ToolsetVersion": results.ToolsetVersion,
    "ToolsetVersionView": results.VersionContent,
    "ToolSource": results.ToolSource,
    "OperationReport": results.OperationReport,
}


def test_no_result_lacks_a_field_that_the_gateway_documents(world: World) -> None:
    schemas = create_app(world.settings()).openapi()["components"]["schemas"]
    documented = {name: set(schemas[name]["properties"]) for name in PAIRS}
    assert {name: set(ours.model_fields) for name, ours in PAIRS.items()} == documented


def test_no_event_lacks_a_field_that_the_gateway_writes() -> None:
    ours = {name: set(kind.model_fields) for name, kind in events.PAYLOADS.items()}
    kinds = {**PAYLOADS, **dict.fromkeys((PLAN_DELTA, ANSWER_DELTA), Written)}
    assert ours == {name: set(kind.model_fields) for name, kind in kinds.items()}


def test_a_newer_gateway_is_understood() -> None:
    read = events.read_event('{"run_id":"r","seq":4,"type":"from.the.future","at":1.5,"data":{"a":1},"new":true}')
    assert isinstance(read.data, events.Unknown)
    assert (read.data.model_extra, read.model_dump()["data"]) == ({"a": 1}, {"a": 1})


def test_the_kernel_needs_no_httpx_and_the_client_says_where_to_get_it() -> None:
    code = "import sys; sys.modules['httpx'] = None; import umi, umi.wire, umi.prompt\nimport umi.client"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert ended.returncode == 1
    assert "umi.client needs httpx: pip install 'umi-agent[client]'" in ended.stderr
