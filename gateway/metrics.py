"""Prometheus metrics, in a registry per app. Labels are bounded: outcomes, roles, and the toolsets registered now."""

import time
from collections.abc import Generator
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from gateway.events import Outcome, ToolOutcome
from gateway.store.rows import DeliveryState
from umi.errors import RoleOverloaded
from umi.roles import Role

_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)


class Metrics:
    """What the gateway counts."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._runs = Counter("umi_runs", "Finished runs.", ["outcome"], registry=self.registry)
        self._running = Gauge("umi_runs_in_progress", "Runs going on now.", registry=self.registry)
        self._waiting = Gauge("umi_runs_waiting", "Runs that wait for their turn.", registry=self.registry)
        self._run_seconds = Histogram("umi_run_seconds", "Time of a run.", registry=self.registry, buckets=_SECONDS)
        self._steps = Counter("umi_steps", "Planner turns taken.", registry=self.registry)
        self._roles = Histogram(
            "umi_role_seconds", "Time of a role request.", ["role", "outcome"], registry=self.registry, buckets=_SECONDS
        )
        self._tools = Histogram(
            "umi_tool_seconds", "Time of a tool call.", ["toolset", "outcome"], registry=self.registry, buckets=_SECONDS
        )
        self._webhooks = Histogram(
            "umi_webhook_seconds",
            "Time of an attempt to send a webhook; pending: to be tried again.",
            ["state"],
            registry=self.registry,
            buckets=_SECONDS,
        )
        for outcome in Outcome:
            self._runs.labels(outcome)

    @contextmanager
    def run(self) -> Generator[None]:
        """Around a run."""
        with self._running.track_inprogress(), self._run_seconds.time():
            yield

    @contextmanager
    def waiting(self) -> Generator[None]:
        """Around a run's wait for its turn."""
        with self._waiting.track_inprogress():
            yield

    def completed(self, outcome: Outcome) -> None:
        """A run ended."""
        self._runs.labels(outcome).inc()

    def step(self) -> None:
        """A planner turn was taken."""
        self._steps.inc()

    @contextmanager
    def role(self, role: Role) -> Generator[None]:
        """Around one request to a role."""
        started, outcome = time.monotonic(), "error"
        try:
            yield
            outcome = "ok"
        except RoleOverloaded:
            outcome = "overloaded"
            raise
        finally:
            self._roles.labels(role, outcome).observe(time.monotonic() - started)

    def tool(self, toolset: str, outcome: ToolOutcome, seconds: float) -> None:
        """A tool call ended."""
        self._tools.labels(toolset, outcome).observe(seconds)

    def webhook(self, state: DeliveryState, seconds: float) -> None:
        """An attempt to send a webhook ended, and left it in that state."""
        self._webhooks.labels(state).observe(seconds)

    def forget_toolset(self, toolset: str) -> None:
        """Drop the series of a toolset that is no more."""
        self._tools.remove_by_labels({"toolset": toolset})

    def render(self) -> bytes:
        """The exposition in Prometheus' text format."""
        return generate_latest(self.registry)
