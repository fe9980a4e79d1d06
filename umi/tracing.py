"""Starting OpenTelemetry. For gateway and role services; nothing else in `umi` needs it.

The rest speaks OpenTelemetry's API alone. Until somebody starts its SDK, nothing is recorded and nothing sent.
"""

import os
import threading
from collections.abc import Callable

from opentelemetry import trace

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
        try:
            from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
        except ImportError as error:  # not a dependency: gRPC is a tenth of the gateway's image
            raise SystemExit(
                "OTEL_EXPORTER_OTLP_PROTOCOL=grpc needs opentelemetry-exporter-otlp-proto-grpc: install it, or "
                "leave the variable out and name the collector's HTTP port (4318)"
            ) from error
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
