"""Traces: one tree from the query through roles to tools, on every side of the wire."""

import json
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, Request, Response
from opentelemetry import trace
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, format_span_id, format_trace_id

from gateway.app import create_app
from services.app import create_app as create_role
from services.caller import CALLER
from services.planner import PLANNER
from services.role import RoleBehaviour
from services.scripted import ScriptedEngine
from services.settings import RoleSettings
from services.summarizer import SUMMARIZER
from tests.checkpoints import bare
from tests.contract.test_survival import gateway, wait
from tests.fakes import broken, call, serve
from tests.world import World
from umi.roles import Role

QUERY, ANSWER = "What is 2 + 3?", "It is five."
TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
ENGINES = {
    PLANNER: lambda prompt: f"Use add. Next: {'conclusion' if 'sum' in prompt else 'caller'}.",
    CALLER: lambda prompt: '{"name": "plus", "arguments": {"a": 2, "b": 3}}',
    SUMMARIZER: lambda prompt: ANSWER,
}


@dataclass
class Tools:
    """One tool, and the headers that its calls came with."""

    headers: list[dict[str, str]] = field(default_factory=list[dict[str, str]])

    def app(self) -> FastAPI:
        app = FastAPI()

        @app.get("/plus", operation_id="plus", summary="Add two whole numbers")
        async def plus(request: Request, a: int, b: int) -> dict[str, int]:
            self.headers.append(dict(request.headers))
            return {"sum": a + b}

        return app


@dataclass
class Traced:
    """A gateway between real role services and a tool; `url` is its own."""

    world: World
    tools: Tools
    url: str
    exporter: InMemorySpanExporter

    def ask(self, **headers: str) -> dict[str, Any]:
        body = {"query": QUERY, "tools": ["plus"]}
        response = httpx.post(f"{self.url}/v1/queries", json=body, headers=headers, timeout=20, trust_env=False)
        return response.json()

    def spans(self, count: int) -> list[ReadableSpan]:
        """So many spans, in the order of their beginnings; the newest may still be on their way."""
        wait(lambda: len(self.exporter.get_finished_spans()) >= count, 10)
        return sorted(self.exporter.get_finished_spans(), key=lambda span: span.start_time or 0)


@pytest.fixture(scope="module")
def exporter() -> InMemorySpanExporter:
    """OpenTelemetry lets a process choose once who records: spans are recorded here from now on, and asked for here."""
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    return exporter


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, exporter: InMemorySpanExporter) -> Iterator[Traced]:
    folder = tmp_path_factory.mktemp("traces")
    with ExitStack() as stack:
        world, tools = World(folder, stack), Tools()
        urls = {f"{each.role}_url": stack.enter_context(serve(role(each, folder))) for each in ENGINES}
        for url in urls.values():
            wait(lambda url=url: httpx.get(f"{url}/readyz", trust_env=False).status_code == 200, 20)
        url = stack.enter_context(serve(tools.app()))
        world.client.post("/v1/toolsets", json={"name": "sums", "url": f"{url}/openapi.json"})
        yield Traced(world, tools, world.start(tool_seconds=10, **urls), exporter)


@pytest.fixture
def traced(shared: Traced) -> Traced:
    shared.exporter.clear()
    shared.tools.headers.clear()
    shared.world.script.reset()
    return shared


def role(behaviour: RoleBehaviour, folder: Path) -> FastAPI:
    text = ENGINES[behaviour]
    engine = ScriptedEngine(lambda prompt, _, __: text(prompt), seconds_per_token=0.001)
    return create_role(behaviour, engine, bare(folder / behaviour.role), RoleSettings())


def children(spans: list[ReadableSpan], parent: ReadableSpan) -> list[ReadableSpan]:
    assert parent.context is not None
    return [span for span in spans if span.parent and span.parent.span_id == parent.context.span_id]


def test_a_run_is_one_tree_in_the_trace_of_whoever_asked(traced: Traced) -> None:
    run = traced.ask(traceparent=f"00-{TRACE}-{PARENT}-01", tracestate="vendor=x")
    assert run["answer"] == ANSWER
    spans = traced.spans(1 + 5 + 4 + 12)
    assert {format_trace_id(span.context.trace_id) for span in spans if span.context} == {TRACE}
    [root] = [span for span in spans if span.name == "invoke_agent umi"]
    assert (root.kind, format_span_id(root.parent.span_id if root.parent else 0)) == (SpanKind.SERVER, PARENT)
    assert root.attributes is not None
    assert (root.attributes["umi.run.id"], root.attributes["umi.run.outcome"]) == (run["run_id"], "answered")
    turns = ["planner", "caller", "plus", "planner", "summarizer"]
    taken = children(spans, root)
    assert [span.name.split()[1] for span in taken] == turns
    for span in taken:
        below = children(spans, span)
        if span.name == "execute_tool plus":
            assert below == []
            continue
        assert [(each.name, each.kind) for each in below] == [(span.name, SpanKind.SERVER)]
        assert [each.name for each in children(spans, below[0])] == ["queue", "prefill", "decode"]
    assert len(spans) == 22


def test_spans_say_what_a_turn_cost_and_how_a_call_ended_in_the_conventions_words(traced: Traced) -> None:
    run = traced.ask()
    spans = {(span.name, span.kind): dict(span.attributes or {}) for span in traced.spans(22)}
    caller = spans["invoke_agent caller", SpanKind.CLIENT]
    assert caller["gen_ai.operation.name"] == "invoke_agent"
    assert (caller["gen_ai.agent.name"], caller["gen_ai.response.model"]) == ("caller", "test-1")
    usage = run["usage"]["caller"]
    assert caller["gen_ai.usage.input_tokens"] == usage["prompt_tokens"]
    assert caller["gen_ai.usage.output_tokens"] == usage["completion_tokens"]
    served = spans["invoke_agent caller", SpanKind.SERVER]
    assert (served["umi.run.id"], served["umi.turn.outcome"]) == (run["run_id"], "ok")
    assert "gen_ai.usage.input_tokens" not in served, "what is summed over spans must not be counted twice"
    assert spans["execute_tool plus", SpanKind.CLIENT] == {
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.tool.name": "plus",
        "gen_ai.tool.type": "extension",
        "gen_ai.tool.call.id": f"{run['run_id']}-1",
        "umi.toolset": "sums",
        "umi.tool.outcome": "ok",
        "http.response.status_code": 200,
    }


def test_a_tool_is_told_the_span_and_nothing_else_of_the_trace(traced: Traced) -> None:
    run = traced.ask(traceparent=f"00-{TRACE}-{PARENT}-01", tracestate="vendor=x", baggage="user=ann")
    [sent] = [span for span in traced.spans(22) if span.name == "execute_tool plus"]
    assert sent.context is not None
    [headers] = traced.tools.headers
    assert headers["traceparent"] == f"00-{TRACE}-{format_span_id(sent.context.span_id)}-01"
    assert "tracestate" not in headers and "baggage" not in headers
    events = httpx.get(f"{traced.url}/v1/runs/{run['run_id']}/events", trust_env=False).text
    assert headers["traceparent"] not in events, "sent again, the call would belong to another span"


@pytest.mark.parametrize("captured", [False, True])
def test_what_was_asked_and_answered_is_in_the_spans_only_if_the_operator_wants_it(
    traced: Traced, monkeypatch: pytest.MonkeyPatch, captured: bool
) -> None:
    if captured:
        monkeypatch.setenv("OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT", "true")
    traced.ask()
    text = "".join(span.to_json() for span in traced.spans(22))
    words = (QUERY, ANSWER, '{"sum": 5}', '{"a": 2, "b": 3}')
    assert [word in text.replace("\\", "") for word in words] == [captured] * 4


def test_a_failure_is_told_by_its_kind(traced: Traced) -> None:
    world = traced.world
    world.script.failures = [(Role.PLANNER, broken("a secret word"))]
    world.client.base_url = world.gateway
    assert world.ask().status_code == 503
    spans = traced.spans(2)
    kinds = [(span.name, (span.attributes or {}).get("error.type")) for span in spans]
    assert kinds == [("invoke_agent umi", "role-failure"), ("invoke_agent planner", "RoleFailure")]
    assert not [span for span in spans if "secret word" in span.to_json()]


def test_a_run_that_goes_on_elsewhere_links_to_the_trace_that_it_began_in(traced: Traced, tmp_path: Path) -> None:
    world = traced.world
    settings = world.settings(database=f"sqlite:///{tmp_path}/umi.db", lease_seconds=1)
    world.script.delays[Role.PLANNER] = 1.0
    body = {"query": QUERY, "background": True}
    with serve(create_app(settings)) as url, httpx.Client(base_url=url, trust_env=False) as client:
        client.post("/v1/toolsets", json={"name": "test", "url": f"{world.tools}/openapi.json"})
        run_id = client.post("/v1/queries", json=body).json()["run_id"]
    with serve(create_app(settings)) as url, httpx.Client(base_url=url, trust_env=False) as client:
        wait(lambda: client.get(f"/v1/runs/{run_id}").json()["outcome"] == "answered", 20)
        assert "traceparent" not in client.get(f"/v1/runs/{run_id}").json()
        runs = [span for span in traced.spans(3) if span.name == "invoke_agent umi"]
    first, second = runs
    assert [dict(span.attributes or {})["umi.run.id"] for span in runs] == [run_id, run_id]
    assert (first.attributes or {})["error.type"] == "left"
    assert second.parent is None and first.context is not None and second.context is not None
    assert second.context.trace_id != first.context.trace_id
    assert [link.context.span_id for link in second.links] == [first.context.span_id]


def test_a_gateway_sends_its_spans_to_the_collector_that_the_environment_names(tmp_path: Path) -> None:
    received: list[bytes] = []
    collector = FastAPI()

    @collector.post("/v1/traces")
    async def take(request: Request) -> Response:
        received.append(await request.body())
        return Response(media_type="application/x-protobuf")

    tools = Tools()
    with ExitStack() as stack:
        world = World(tmp_path, stack)
        url = stack.enter_context(serve(tools.app()))
        world.client.post("/v1/toolsets", json={"name": "sums", "url": f"{url}/openapi.json"})
        world.script.calls = [call("plus", a=2, b=3)]
        endpoint = stack.enter_context(serve(collector))
        with gateway(world, tmp_path, OTEL_EXPORTER_OTLP_ENDPOINT=endpoint) as (client, process):
            run = client.post("/v1/queries", json={"query": QUERY, "tools": ["plus"]}).json()
            process.send_signal(signal.SIGTERM)
            process.wait(30)
    found = [ExportTraceServiceRequest.FromString(body).resource_spans for body in received]
    spans = [span for groups in found for group in groups for scope in group.scope_spans for span in scope.spans]
    named = [value for groups in found for group in groups for value in group.resource.attributes]
    assert {each.value.string_value for each in named if each.key == "service.name"} == {"umi-gateway"}
    [root] = [span for span in spans if span.name == "invoke_agent umi"]
    log = next(path for path in tmp_path.glob("*.log") if path.stat().st_size)
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    [ended] = [line for line in lines if line["message"].startswith(f"run {run['run_id']}: answered after")]
    assert (ended["run_id"], ended["tenant"], ended["trace_id"]) == (run["run_id"], "default", root.trace_id.hex())
    asked = [line for line in lines if line.get("path") == "/v1/queries"]
    assert [(line["method"], line["status"], line["tenant"]) for line in asked] == [("POST", 200, "default")]


def test_without_a_collector_nothing_is_recorded_and_tools_are_told_nothing(tmp_path: Path) -> None:
    tools = Tools()
    with ExitStack() as stack:
        world = World(tmp_path, stack)
        url = stack.enter_context(serve(tools.app()))
        world.client.post("/v1/toolsets", json={"name": "sums", "url": f"{url}/openapi.json"})
        world.script.calls = [call("plus", a=2, b=3)]
        with gateway(world, tmp_path) as (client, _):
            headers = {"traceparent": f"00-{TRACE}-{PARENT}-01"}
            run = client.post("/v1/queries", json={"query": QUERY, "tools": ["plus"]}, headers=headers).json()
            events = client.get(f"/v1/runs/{run['run_id']}/events").text
    assert len(tools.headers) == 1 and "traceparent" not in tools.headers[0]
    assert '"traceparent":null' in events.replace(" ", "")
