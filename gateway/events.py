"""What happens in a run, as events: they are stored, streamed, and folded into what the API shows."""

import time
from enum import StrEnum
from typing import ClassVar

from pydantic import Field, SerializeAsAny, ValidationInfo, field_validator

from gateway.problems import RunProblem
from umi.mcp import McpRequest
from umi.openapi import HttpRequest
from umi.trajectory import Call, Frozen, Plan
from umi.wire import Usage


class Outcome(StrEnum):
    """How a run ended."""

    ANSWERED = "answered"
    GAVE_UP = "gave_up"
    MAX_STEPS = "max_steps"
    DEADLINE = "deadline"
    FAILED = "failed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"
    """Nobody approved a call, or refused it, in time."""


class RunStatus(StrEnum):
    """Where a run stands."""

    RUNNING = "running"
    REQUIRES_ACTION = "requires_action"
    """It waits until a person approves a call or refuses it."""
    ENDED = "ended"


class ToolOutcome(StrEnum):
    """How a tool call ended; the label of its metrics."""

    OK = "ok"
    ERROR = "error"
    TIMEOUT = "timeout"
    UNREACHABLE = "unreachable"
    TOO_LARGE = "too_large"
    REJECTED = "rejected"
    REFUSED = "refused"
    """By a person: it was not sent."""
    UNKNOWN = "unknown"


class Payload(Frozen):
    """What one event says. `type` is its name on the wire."""

    type: ClassVar[str]


class ToolSource(Frozen):
    """Which version of which toolset a tool is of."""

    toolset: str
    version: int


class RunCreated(Payload):
    """The run exists; nothing has been asked yet. `sources` tells of each tool what it means in this run."""

    type: ClassVar[str] = "run.created"
    query: str
    tools: list[str]
    sources: dict[str, ToolSource] = Field(default_factory=dict[str, ToolSource])
    max_steps: int
    deadline_seconds: float
    may_add: bool = False
    """Whether more tools may be offered when the planner misses one; not when the user named the tools."""
    traceparent: str | None = None
    """The run's span (W3C Trace Context), when traces are on: another gateway that goes on with the run links to it."""


class Planned(Payload):
    """The planner's turn; opens step `step` (from 1). `seconds` as seen from the gateway."""

    type: ClassVar[str] = "plan"
    step: int
    plan: Plan
    version: str
    usage: Usage
    seconds: float


class Offered(Payload):
    """More tools for the planner, which gave up in step `step` for want of one; that plan does not count."""

    type: ClassVar[str] = "tools"
    step: int
    tools: list[str]
    sources: dict[str, ToolSource] = Field(default_factory=dict[str, ToolSource])


class Called(Payload):
    """The caller's turn. `request` is about to be sent, once it is approved if it has to be; None when the call was
    rejected."""

    type: ClassVar[str] = "call"
    step: int
    call: Call
    version: str
    usage: Usage
    seconds: float
    toolset: str | None = None
    request: HttpRequest | McpRequest | None = None
    needs_approval: bool = False


class RequiresAction(Payload):
    """The run waits for an approval of this call until `expires_at` (seconds since the epoch).

    `request` is what will be sent, but for credentials, which are added when it is.
    """

    type: ClassVar[str] = "requires_action"
    step: int
    call: Call
    toolset: str
    request: HttpRequest | McpRequest
    expires_at: float


class Approval(Payload):
    """A person's decision on the call of step `step`; `by` is the id of their key, if the gateway has keys."""

    type: ClassVar[str] = "approval"
    step: int
    approve: bool
    reason: str | None = None
    by: str | None = None


class Sending(Payload):
    """An approved call is about to be sent."""

    type: ClassVar[str] = "sending"
    step: int


class Observed(Payload):
    """What came of the call. `status` is the HTTP status when there was a response."""

    type: ClassVar[str] = "observation"
    step: int
    observation: str
    outcome: ToolOutcome
    status: int | None = None
    seconds: float = 0.0


class RunCompleted(Payload):
    """The end. Version, usage and `summarize_seconds` belong to the summarizer, if it had its turn."""

    type: ClassVar[str] = "run.completed"
    outcome: Outcome
    answer: str | None = None
    problem: RunProblem | None = None
    version: str | None = None
    usage: Usage | None = None
    summarize_seconds: float | None = None
    seconds: float = 0.0


PAYLOADS: dict[str, type[Payload]] = {
    kind.type: kind
    for kind in (RunCreated, Planned, Offered, Called, RequiresAction, Approval, Sending, Observed, RunCompleted)
}


class Event(Frozen):
    """One entry of a run's log; `seq` counts from 0 without gaps, `at` is seconds since the epoch."""

    run_id: str
    seq: int
    type: str
    at: float = Field(default_factory=time.time)
    data: SerializeAsAny[Payload]

    @classmethod
    def of(cls, run_id: str, seq: int, payload: Payload) -> "Event":
        """The event that records `payload`."""
        return cls(run_id=run_id, seq=seq, type=payload.type, data=payload)

    @field_validator("data", mode="before")
    @classmethod
    def _typed(cls, value: object, info: ValidationInfo) -> Payload:
        kind = PAYLOADS.get(info.data.get("type", ""))
        if kind is None:
            raise ValueError("there are no events of this type")
        return kind.model_validate(value)

    @property
    def is_last(self) -> bool:
        """Whether the run ends with this event."""
        return self.type == RunCompleted.type
