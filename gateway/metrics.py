"""Prometheus metrics, in a registry per app. Labels are bounded: outcomes, roles, states, and so many toolsets."""

import time
from collections.abc import Generator
from contextlib import contextmanager
from typing import Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from gateway.events import Outcome, ToolOutcome
from gateway.store.rows import DeliveryState
from umi.errors import RoleOverloaded
from umi.roles import Role
from umi.wire import Usage

_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)
_TOKENS = ("prompt", "cached", "completion")
_MOST_TOOLSETS, _OTHER = 200, "(other)"
"""Tenants may register toolsets without end: those beyond so many share one label, which no toolset can have."""


class Metrics:
    """What the gateway counts."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._runs = Counter("umi_runs", "Finished runs.", ["outcome"], registry=self.registry)
        self._running = Gauge("umi_runs_in_progress", "Runs going on now.", registry=self.registry)
        self._waiting = Gauge("umi_runs_waiting", "Runs that wait for their turn.", registry=self.registry)
        self._wait_seconds = Histogram(
            "umi_run_wait_seconds", "Time until a run's turn.", registry=self.registry, buckets=_SECONDS
        )
        self._run_seconds = Histogram(
            "umi_run_seconds", "Time of a run.", ["outcome"], registry=self.registry, buckets=_SECONDS
        )
        self._steps = Counter("umi_steps", "Planner turns taken.", registry=self.registry)
        self._roles = Histogram(
            "umi_role_seconds", "Time of a role request.", ["role", "outcome"], registry=self.registry, buckets=_SECONDS
        )
        self._first_texts = Histogram(
            "umi_first_text_seconds",
            "Time until the first words of a plan or an answer that is read while it is written.",
            ["role"],
            registry=self.registry,
            buckets=_SECONDS,
        )
        tokens = Counter("umi_tokens", "Tokens of roles' answers.", ["role", "kind"], registry=self.registry)
        self._toolsets: set[str] = set()
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
        self._embeddings = Counter(
            "umi_embedding_requests",
            "Requests to the embedding endpoint; resting: not sent, since it has failed.",
            ["of", "outcome"],
            registry=self.registry,
        )
        self._unapproved = Gauge(
            "umi_runs_requiring_action",
            "Runs that wait for approval, in all gateways of this database.",
            registry=self.registry,
        )
        self._approvals = Counter("umi_approvals", "Calls decided on.", ["decision"], registry=self.registry)
        for outcome in Outcome:
            self._runs.labels(outcome)
        for decision in ("approved", "refused"):
            self._approvals.labels(decision)
        self._tokens = {role: [tokens.labels(role, kind) for kind in _TOKENS] for role in Role}

    @contextmanager
    def run(self) -> Generator[None]:
        """Around a run, for as long as it goes on here."""
        with self._running.track_inprogress():
            yield

    @contextmanager
    def waiting(self) -> Generator[None]:
        """Around a run's wait for its turn."""
        with self._waiting.track_inprogress(), self._wait_seconds.time():
            yield

    def completed(self, outcome: Outcome, seconds: float) -> None:
        """A run ended after so much time, without what it waited for approval."""
        self._runs.labels(outcome).inc()
        self._run_seconds.labels(outcome).observe(seconds)

    def decided(self, approve: bool) -> None:
        """A call was approved, or refused."""
        self._approvals.labels("approved" if approve else "refused").inc()

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

    def first_text(self, role: Role, seconds: float) -> None:
        """The first words of a text that is read while it is written have come."""
        self._first_texts.labels(role).observe(seconds)

    def answered(self, role: Role, usage: Usage) -> None:
        """What a role's answer cost. The cached tokens are among those of the prompt."""
        tokens = (usage.prompt_tokens, usage.cached_tokens, usage.completion_tokens)
        for counter, count in zip(self._tokens[role], tokens, strict=True):
            counter.inc(count)

    def tool(self, toolset: str, outcome: ToolOutcome, seconds: float) -> None:
        """A tool call ended."""
        if toolset not in self._toolsets and len(self._toolsets) < _MOST_TOOLSETS:
            self._toolsets.add(toolset)
        label = toolset if toolset in self._toolsets else _OTHER
        self._tools.labels(label, outcome).observe(seconds)

    def webhook(self, state: DeliveryState, seconds: float) -> None:
        """An attempt to send a webhook ended, and left it in that state."""
        self._webhooks.labels(state).observe(seconds)

    def embedded(self, of: Literal["query", "tools"], outcome: Literal["ok", "failed", "resting"]) -> None:
        """A query or some tools were to be embedded."""
        self._embeddings.labels(of, outcome).inc()

    def forget_toolset(self, toolset: str) -> None:
        """Drop the series of a toolset that is no more."""
        self._toolsets.discard(toolset)
        self._tools.remove_by_labels({"toolset": toolset})

    def unapproved(self, count: int) -> None:
        """So many runs wait for approval now."""
        self._unapproved.set(count)

    def render(self) -> bytes:
        """The exposition in Prometheus' text format."""
        return generate_latest(self.registry)
