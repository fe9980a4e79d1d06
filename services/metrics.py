"""What a role service counts, in Prometheus' terms. Labels are closed sets: no label ever carries a user's text."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from enum import StrEnum

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Metric, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from umi.roles import Role
from umi.wire import Replica, RoleReply

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_TOKENS = ("prompt", "cached", "completion")
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


class Metrics(Collector):
    """The metrics of one app, in a registry of its own."""

    def __init__(self, role: Role, depth: Callable[[], float]) -> None:
        self.registry = registry = CollectorRegistry()
        self._requests = Counter("umi_role_requests", "Requests by outcome.", ["role", "outcome"], registry=registry)
        self._seconds = Histogram(
            "umi_role_seconds", "Time inside the service.", ["role", "version"], buckets=_BUCKETS, registry=registry
        )
        self._tokens = Counter(
            "umi_role_tokens", "Tokens of answered requests.", ["role", "version", "kind"], registry=registry
        )
        self._retries = Counter("umi_role_retries", "Unusable texts, sampled again.", ["role"], registry=registry)
        waiting = Gauge("umi_role_queue_depth", "Requests waiting or running.", ["role"], registry=registry)
        waiting.labels(role).set_function(depth)
        self._role, self._replica = role, lambda: Replica(role=role)
        registry.register(self)
        for outcome in Outcome:
            self._requests.labels(role, outcome)

    def count(self, outcome: Outcome) -> None:
        """One request ended."""
        self._requests.labels(self._role, outcome).inc()

    def retried(self) -> None:
        """One text was thrown away."""
        self._retries.labels(self._role).inc()

    def answered(self, reply: RoleReply) -> None:
        """What an answer cost, and which weights gave it."""
        usage, version = reply.usage, reply.version
        self._seconds.labels(self._role, version).observe(usage.seconds)
        for kind, tokens in zip(
            _TOKENS, (usage.prompt_tokens, usage.cached_tokens, usage.completion_tokens), strict=True
        ):
            self._tokens.labels(self._role, version, kind).inc(tokens)

    def watch(self, replica: Callable[[], Replica]) -> None:
        """Where to look, at every scrape, for what is served."""
        self._replica = replica

    def forget(self, version: str) -> None:
        """A version was unloaded: its series end, so that releases do not add up to labels without end."""
        with suppress(KeyError):
            self._seconds.remove(self._role, version)
            for kind in _TOKENS:
                self._tokens.remove(self._role, version, kind)

    def collect(self) -> Iterator[Metric]:
        """The replica's state, as metrics."""
        replica = self._replica()
        info = GaugeMetricFamily("umi_role_info", "The weights that are served.", labels=["role", "version", "used_as"])
        used = {"stable": replica.stable, "canary": replica.canary, "shadow": replica.shadow}
        for used_as, version in used.items():
            if version is not None:
                info.add_metric([self._role, version, used_as], 1)
        yield info
        swaps = CounterMetricFamily("umi_role_swaps", "Releases taken over.", labels=["role"])
        swaps.add_metric([self._role], replica.swaps)
        yield swaps
        behind = GaugeMetricFamily("umi_role_behind", "1 while the release is not served.", labels=["role"])
        behind.add_metric([self._role], float(replica.problem is not None))
        yield behind
        if (shadow := replica.agreement) is not None:
            turns = GaugeMetricFamily(
                "umi_role_shadow_turns", "What the shadow did.", labels=["role", "version", "what"]
            )
            for what in ("turns", "same", "same_tool", "failed", "skipped"):
                turns.add_metric([self._role, shadow.version, what], getattr(shadow, what))
            yield turns
        if replica.pause_seconds is not None:
            pause = GaugeMetricFamily(
                "umi_role_pause_seconds", "Without a text, when full weights were last replaced.", labels=["role"]
            )
            pause.add_metric([self._role], replica.pause_seconds)
            yield pause
        if replica.swap_seconds is not None:
            took = GaugeMetricFamily("umi_role_swap_seconds", "What the newest take-over took.", labels=["role"])
            took.add_metric([self._role], replica.swap_seconds)
            yield took

    def text(self) -> bytes:
        """The exposition format."""
        return generate_latest(self.registry)
