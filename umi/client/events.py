"""What happens in a run, as a stream tells it. Open like the results: an event of an unknown type is `Unknown`."""

from typing import ClassVar

from pydantic import Field, SerializeAsAny

from umi.client.results import Call, Problem, Result, ToolSource, Usage
from umi.trajectory import JsonObject


class Payload(Result):
    """What one event says. `type` is its name on the wire."""

    type: ClassVar[str]


class Unknown(Payload):
    """Something that this version of the client does not know; its fields are in `model_extra`."""

    type: ClassVar[str] = ""


class RunCreated(Payload):
    """The run exists; nothing has been asked yet."""

    type: ClassVar[str] = "run.created"
    query: str
    tools: list[str]
    sources: dict[str, ToolSource] = Field(default_factory=dict[str, ToolSource])
    max_steps: int
    deadline_seconds: float
    may_add: bool = False
    traceparent: str | None = None


class Plan(Result):
    """Why, and whose turn is next: caller, conclusion or give up."""

    rationale: str
    turn: str


class Planned(Payload):
    """The planner's turn; opens step `step` (from 1)."""

    type: ClassVar[str] = "plan"
    step: int
    plan: Plan
    version: str
    usage: Usage
    seconds: float


class Offered(Payload):
    """More tools for the planner, which gave up for want of one."""

    type: ClassVar[str] = "tools"
    step: int
    tools: list[str]
    sources: dict[str, ToolSource] = Field(default_factory=dict[str, ToolSource])


class Called(Payload):
    """The caller's turn. `request` is about to be sent; None when the call was rejected."""

    type: ClassVar[str] = "call"
    step: int
    call: Call
    version: str
    usage: Usage
    seconds: float
    toolset: str | None = None
    request: JsonObject | None = None
    needs_approval: bool = False


class RequiresAction(Payload):
    """The run waits for an approval of this call until `expires_at` (seconds since the epoch)."""

    type: ClassVar[str] = "requires_action"
    step: int
    call: Call
    toolset: str
    request: JsonObject
    expires_at: float


class Approval(Payload):
    """A person's decision on the call of step `step`."""

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
    """What came of the call; `outcome` is ok, error, timeout, unreachable, too_large, rejected or unknown."""

    type: ClassVar[str] = "observation"
    step: int
    observation: str
    outcome: str
    status: int | None = None
    seconds: float = 0.0


class PlanDelta(Payload):
    """A part of a plan's rationale while that is written: up to `offset`, in characters, what came before stays, and
    goes on as `text`. At 0 it begins anew. The plan, the event of the same number, follows whole."""

    type: ClassVar[str] = "plan.delta"
    offset: int
    text: str


class AnswerDelta(Payload):
    """A part of the answer while that is written, as in `PlanDelta`; `run.completed` follows with the whole."""

    type: ClassVar[str] = "answer.delta"
    offset: int
    text: str


class RunCompleted(Payload):
    """The end. Version, usage and `summarize_seconds` belong to the summarizer, if it had its turn."""

    type: ClassVar[str] = "run.completed"
    outcome: str
    answer: str | None = None
    problem: Problem | None = None
    version: str | None = None
    usage: Usage | None = None
    summarize_seconds: float | None = None
    seconds: float = 0.0


_KINDS = (RunCreated, Planned, Offered, Called, RequiresAction, Approval, Sending, Observed, RunCompleted)
_PARTS = (PlanDelta, AnswerDelta)
PAYLOADS: dict[str, type[Payload]] = {kind.type: kind for kind in (*_KINDS, *_PARTS)}


class _Entry(Result):
    run_id: str
    seq: int
    type: str
    at: float
    data: JsonObject


class Event(Result):
    """One entry of a run's log. `seq` counts from 0 without gaps, `at` is seconds since the epoch.

    A part of a text has the number of the entry that will hold the whole.
    """

    run_id: str
    seq: int
    type: str
    at: float
    data: SerializeAsAny[Payload]

    @property
    def is_part(self) -> bool:
        """Whether it is a part of a text that is being written, and not in the log."""
        return isinstance(self.data, _PARTS)

    @property
    def is_last(self) -> bool:
        """Whether the run ends with this event."""
        return self.type == RunCompleted.type


def read_event(text: str) -> Event:
    """The event that a message of the stream carries. Raises pydantic's ValidationError."""
    entry = _Entry.model_validate_json(text)
    data = PAYLOADS.get(entry.type, Unknown).model_validate(entry.data)
    return Event(run_id=entry.run_id, seq=entry.seq, type=entry.type, at=entry.at, data=data)
