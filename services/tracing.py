"""OpenTelemetry traces of a role: a turn is a span in the trace of whoever asks, with the engine's phases in it.

Nothing is recorded and nothing sent until somebody starts it (`umi.tracing`). Prompts and texts are in no attribute.
"""

import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager

from opentelemetry import trace
from opentelemetry.trace import Span, SpanKind, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from services.engine import Phases
from umi.roles import Role
from umi.tracing import is_on

_tracer = trace.get_tracer("umi.services")
_context = TraceContextTextMapPropagator()


class TurnSpan:
    """The span of a turn. `trace_id` is None when nothing is recorded."""

    def __init__(self, span: Span) -> None:
        self._span = span
        found = span.get_span_context()
        self.trace_id = trace.format_trace_id(found.trace_id) if found.is_valid else None

    def ended(self, outcome: str, is_error: bool, version: str | None) -> None:
        """How the turn ended, and which weights took it, if any did."""
        self._span.set_attribute("umi.turn.outcome", outcome)
        if version is not None:
            self._span.set_attribute("gen_ai.response.model", version)
        if is_error:
            self._span.set_attribute("error.type", outcome)
            self._span.set_status(StatusCode.ERROR)


@contextmanager
def turn(role: Role, run_id: str, headers: Mapping[str, str]) -> Generator[TurnSpan]:
    """Around a turn that the request with these headers asks for."""
    if not is_on():
        yield TurnSpan(trace.INVALID_SPAN)
        return
    attributes = {
        "gen_ai.operation.name": "invoke_agent",
        "gen_ai.provider.name": "umi",
        "gen_ai.agent.name": role.value,
        "umi.run.id": run_id,
    }
    with _tracer.start_as_current_span(
        f"invoke_agent {role}",
        _context.extract(headers),
        kind=SpanKind.SERVER,
        attributes=attributes,
        record_exception=False,
    ) as span:
        yield TurnSpan(span)


def generated(phases: Phases | None) -> None:
    """A generation has just ended that had these phases: a span for each."""
    if phases is None or not is_on():
        return
    at = time.time_ns() - int(1e9 * (phases.queue + phases.prefill + phases.decode))
    for name, seconds in (("queue", phases.queue), ("prefill", phases.prefill), ("decode", phases.decode)):
        span = _tracer.start_span(name, start_time=at)
        at += int(1e9 * seconds)
        span.end(at)
