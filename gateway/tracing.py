"""OpenTelemetry traces: a span for a run, and in it one for each turn of a role and each tool call.

Nothing is recorded and nothing sent until somebody starts it (`umi.tracing`). Attributes have the names of the GenAI
semantic conventions where there are any; what was asked and answered is left out unless
OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT is true.
"""

import json
import os
from collections.abc import Callable, Generator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext

from opentelemetry import context, trace
from opentelemetry.trace import Link, Span, SpanKind, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from opentelemetry.util.types import AttributeValue
from starlette.types import ASGIApp, Receive, Scope, Send

from gateway.events import Outcome, RequiresAction, RunCompleted, ToolOutcome
from umi.roles import Role
from umi.tracing import is_on
from umi.wire import RoleReply

_tracer = trace.get_tracer("umi.gateway")
_context = TraceContextTextMapPropagator()
_PARENT = "traceparent"
_AGENT = {"gen_ai.operation.name": "invoke_agent", "gen_ai.provider.name": "umi"}


def headers() -> dict[str, str]:
    """What tells whoever is called which span it is called from (W3C Trace Context)."""
    carrier: dict[str, str] = {}
    if _is_traced():
        _context.inject(carrier)
    return carrier


def headers_for_tools() -> dict[str, str]:
    """As `headers`, without what other systems have added to the trace's state: tools may be anybody's."""
    return {name: value for name, value in headers().items() if name == _PARENT}


class Joined:
    """ASGI middleware: a run that a request begins belongs to the request's trace, if it names one."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, within its trace."""
        if scope["type"] != "http" or not is_on():
            return await self.app(scope, receive, send)
        given = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        token = context.attach(_context.extract(given))
        try:
            await self.app(scope, receive, send)
        finally:
            context.detach(token)


class RunSpan:
    """The span of a run, from its beginning in this gateway to its end or to where this gateway leaves it."""

    def __init__(self, span: Span) -> None:
        self._span = span

    @classmethod
    def begin(cls, run_id: str, tenant: str, query: str, first: str | None = None) -> "RunSpan":
        """A span in the trace of whoever asks; with `first`, the traceparent that the run began with, one that links
        to it."""
        if not is_on():
            return cls(trace.INVALID_SPAN)
        attributes = {**_AGENT, "gen_ai.agent.name": "umi", "umi.run.id": run_id, "umi.tenant": tenant}
        if _with_content():
            attributes["gen_ai.input.messages"] = _message("user", query)
        links: list[Link] = []
        if first is not None:
            before = trace.get_current_span(_context.extract({_PARENT: first})).get_span_context()
            links = [Link(before)] if before.is_valid else []
        return cls(_tracer.start_span("invoke_agent umi", kind=SpanKind.SERVER, attributes=attributes, links=links))

    @property
    def traceparent(self) -> str | None:
        """What names the span, to be kept with the run; None when it is not recorded."""
        carrier: dict[str, str] = {}
        _context.inject(carrier, trace.set_span_in_context(self._span))
        return carrier.get(_PARENT)

    @property
    def trace_id(self) -> str | None:
        """The trace's id for logs; None when nothing is recorded."""
        found = self._span.get_span_context()
        return trace.format_trace_id(found.trace_id) if found.is_valid else None

    @contextmanager
    def current(self) -> Generator[None]:
        """Tasks that are begun within have it as the parent of their spans."""
        with trace.use_span(self._span, record_exception=False, set_status_on_exception=False):
            yield

    def completed(self, end: RunCompleted) -> None:
        """The run has ended."""
        self._span.set_attribute("umi.run.outcome", end.outcome)
        if end.outcome is Outcome.FAILED:
            _fail(self._span, end.problem.type if end.problem else "failed")
        if end.answer is not None and _with_content():
            self._span.set_attribute("gen_ai.output.messages", _message("assistant", end.answer))
        self._span.end()

    def asked(self) -> None:
        """The run waits for a person; what follows their decision is another span."""
        self._span.set_attribute("umi.run.outcome", RequiresAction.type)
        self._span.end()

    def left(self) -> None:
        """The run has not ended, but does not go on here. Harmless after its end."""
        if self._span.is_recording():
            _fail(self._span, "left")
            self._span.end()


def role(role: Role, version: str | None) -> AbstractContextManager[Callable[[RoleReply], None]]:
    """Around one request to a role; the reply is to be told."""
    return _role(role, version) if _is_traced() else _UNTRACED


@contextmanager
def _role(role: Role, version: str | None) -> Generator[Callable[[RoleReply], None]]:
    attributes = {**_AGENT, "gen_ai.agent.name": role.value}
    if version is not None:
        attributes["gen_ai.request.model"] = version
    with _span(f"invoke_agent {role}", attributes) as span:

        def answered(reply: RoleReply) -> None:
            span.set_attribute("gen_ai.response.model", reply.version)
            span.set_attribute("gen_ai.usage.input_tokens", reply.usage.prompt_tokens)
            span.set_attribute("gen_ai.usage.cache_read.input_tokens", reply.usage.cached_tokens)
            span.set_attribute("gen_ai.usage.output_tokens", reply.usage.completion_tokens)

        yield answered


def tool(
    name: str, toolset: str, call_id: str, arguments: Mapping[str, object]
) -> AbstractContextManager[Callable[[ToolOutcome, int | None, str], None]]:
    """Around one tool call; its outcome, status and observation are to be told."""
    return _tool(name, toolset, call_id, arguments) if _is_traced() else _UNTRACED


@contextmanager
def _tool(
    name: str, toolset: str, call_id: str, arguments: Mapping[str, object]
) -> Generator[Callable[[ToolOutcome, int | None, str], None]]:
    attributes = {
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.tool.name": name,
        "gen_ai.tool.type": "extension",
        "gen_ai.tool.call.id": call_id,
        "umi.toolset": toolset,
    }
    if _with_content():
        attributes["gen_ai.tool.call.arguments"] = json.dumps(arguments)
    with _span(f"execute_tool {name}", attributes) as span:

        def answered(outcome: ToolOutcome, status: int | None, observation: str) -> None:
            span.set_attribute("umi.tool.outcome", outcome)
            if status is not None:
                span.set_attribute("http.response.status_code", status)
            if outcome is not ToolOutcome.OK:
                _fail(span, outcome)
            if _with_content():
                span.set_attribute("gen_ai.tool.call.result", observation)

        yield answered


@contextmanager
def _span(name: str, attributes: Mapping[str, AttributeValue]) -> Generator[Span]:
    """A request that leaves the gateway. An error is told by its kind: its words may hold anything."""
    with _tracer.start_as_current_span(
        name, kind=SpanKind.CLIENT, attributes=attributes, record_exception=False, set_status_on_exception=False
    ) as span:
        try:
            yield span
        except BaseException as error:
            _fail(span, type(error).__name__.lstrip("_"))
            raise


def _nothing(*_: object) -> None:
    """There is no span to tell."""


_UNTRACED = nullcontext(_nothing)


def _is_traced() -> bool:
    """Whether what goes on is part of a run's trace; cheaper than `is_on`, which reads the environment."""
    return trace.get_current_span() is not trace.INVALID_SPAN


def _fail(span: Span, kind: str) -> None:
    span.set_attribute("error.type", kind)
    span.set_status(StatusCode.ERROR)


def _with_content() -> bool:
    return os.environ.get("OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT", "").lower() == "true"


def _message(author: str, text: str) -> str:
    return json.dumps([{"role": author, "parts": [{"type": "text", "content": text}]}])
