"""OpenTelemetry traces of a role: a turn is a span in the trace of whoever asks, with the engine's phases in it.

This speaks OpenTelemetry's API alone. `start` sets its SDK up when the environment names a collector; until somebody
does, nothing is recorded and nothing sent. Prompts and texts are in no attribute.
"""

import os
import threading
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager

from opentelemetry import trace
from opentelemetry.trace import Span, SpanKind, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from services.engine import Phases
from umi.roles import Role

_tracer = trace.get_tracer("umi.services")
_context = TraceContextTextMapPropagator()
_FLUSH_SECONDS = 2.0


def start(service: str) -> Callable[[], None]:
    """Send spans to OTEL_EXPORTER_OTLP_ENDPOINT, if it is set; the result ends that and waits a moment for the last."""
    named = any(os.environ.get(f"OTEL_EXPORTER_OTLP_{which}ENDPOINT") for which in ("", "TRACES_"))
    if not named or os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return lambda: None
    from opentelemetry.sdk.resources import SERVICE_NAME, Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    if os.environ.get("OTEL_EXPORTER_OTLP_PROTOCOL", "") == "grpc":
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
    else:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    resource = Resource.create({} if "OTEL_SERVICE_NAME" in os.environ else {SERVICE_NAME: service})
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)

    def end() -> None:
        ending = threading.Thread(target=provider.shutdown, daemon=True)  # half a minute, when the collector is gone
        ending.start()
        ending.join(_FLUSH_SECONDS)

    return end


def is_on() -> bool:
    """Whether somebody records spans."""
    return not isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider)


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
