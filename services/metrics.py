"""What a role service counts, in Prometheus' terms. Labels are closed sets: no label ever carries a user's text."""

from collections.abc import Callable
from enum import StrEnum

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from umi.roles import Role
from umi.wire import Usage

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_BUCKETS = (0.05, 0.1, 0.25, 0.5, 1, 2, 4, 8, 15, 30, 60, 120)


class Outcome(StrEnum):
    """How a request ended."""

    OK = "ok"
    BAD_INPUT = "bad_input"
    OUTPUT_INVALID = "output_invalid"
    OVERLOADED = "overloaded"
    NOT_READY = "not_ready"
    ABORTED = "aborted"
    FAILED = "failed"


class Metrics:
    """The metrics of one app, in a registry of its own."""

    def __init__(self, role: Role, version: str, depth: Callable[[], float]) -> None:
        self.registry = registry = CollectorRegistry()
        self._requests = Counter("umi_role_requests", "Requests by outcome.", ["role", "outcome"], registry=registry)
        self._seconds = Histogram(
            "umi_role_seconds", "Time inside the service.", ["role"], buckets=_BUCKETS, registry=registry
        )
        self._tokens = Counter("umi_role_tokens", "Tokens of answered requests.", ["role", "kind"], registry=registry)
        self._retries = Counter("umi_role_retries", "Unusable texts, sampled again.", ["role"], registry=registry)
        waiting = Gauge("umi_role_queue_depth", "Requests waiting or running.", ["role"], registry=registry)
        waiting.labels(role).set_function(depth)
        info = Gauge("umi_role_info", "The weights that are served.", ["role", "version"], registry=registry)
        info.labels(role, version).set(1)
        self._role = role
        for outcome in Outcome:
            self._requests.labels(role, outcome)

    def count(self, outcome: Outcome) -> None:
        """One request ended."""
        self._requests.labels(self._role, outcome).inc()

    def retried(self) -> None:
        """One text was thrown away."""
        self._retries.labels(self._role).inc()

    def answered(self, usage: Usage) -> None:
        """What an answer cost."""
        self._seconds.labels(self._role).observe(usage.seconds)
        self._tokens.labels(self._role, "prompt").inc(usage.prompt_tokens)
        self._tokens.labels(self._role, "cached").inc(usage.cached_tokens)
        self._tokens.labels(self._role, "completion").inc(usage.completion_tokens)

    def text(self) -> bytes:
        """The exposition format."""
        return generate_latest(self.registry)
