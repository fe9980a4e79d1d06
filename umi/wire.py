"""Bodies that travel between the gateway and the role services."""

from collections.abc import Callable
from typing import Annotated, Any

from pydantic import Field

from umi.manifest import VERSION
from umi.roles import Role
from umi.trajectory import Call, Frozen, JsonObject, Plan, Trajectory
from umi.trial import Tally

ROLE_PATHS = {Role.PLANNER: "/v1/plan", Role.CALLER: "/v1/call", Role.SUMMARIZER: "/v1/summarize"}
EVENT_STREAM = "text/event-stream"
"""Accepted by whoever wants to read a planner's or summarizer's text while it is written: see `StreamedTurn`."""
RUN_ID = r"^[A-Za-z0-9_-]{1,64}$"


class RoleRequest(Frozen):
    """What every role is asked: its turn in this trajectory.

    A planner gets finished steps only; a caller and a summarizer get a newest step that holds just the plan.
    """

    run_id: Annotated[str, Field(pattern=RUN_ID)]
    trajectory: Trajectory
    version: Annotated[str, Field(pattern=VERSION)] | None = None
    """The weights that this run began with, once it has: a release in the middle of a run does not change them."""


class Usage(Frozen):
    """What one generation cost. Tokens are the role's own; `seconds` is time inside the service."""

    prompt_tokens: int
    cached_tokens: int = 0
    completion_tokens: int
    shortened_observations: int = 0
    """Observations that were cut to fit the prompt (`umi.context`), and the oldest steps that were left out."""
    dropped_steps: int = 0
    seconds: float


class RoleReply(Frozen):
    """Common part of every role's answer: the weights that made it and what it cost."""

    version: str
    usage: Usage


class PlanReply(RoleReply):
    """The planner's answer."""

    plan: Plan


class CallReply(RoleReply):
    """The caller's answer: an offered tool with arguments that satisfy its schema."""

    call: Call


class SummaryReply(RoleReply):
    """The summarizer's answer."""

    answer: str


Heard = Callable[[str], None]
"""Told the whole of a text so far, whenever there is more of it. The text may be begun anew."""


class Part(Frozen):
    """A part of a text that is being written: up to `offset`, in characters, it stays, and goes on as `text`.

    A part at 0 begins it anew.
    """

    offset: int
    text: str


class StreamedTurn(Frozen):
    """The data of a server-sent event of a turn: one of the three. The stream ends with the reply or a problem."""

    part: Part | None = None
    reply: JsonObject | None = None
    problem: JsonObject | None = None


class Agreement(Frozen):
    """How a shadow compares: turns taken again, those of them with the same decision, and those that failed.

    The decision is the planner's turn, the caller's tool with its arguments, the summarizer's answer; `same_tool`
    counts callers that differ at most in arguments.
    """

    version: str
    turns: int = 0
    same: int = 0
    same_tool: int = 0
    failed: int = 0
    skipped: int = 0
    """Turns not taken since the replica was busy: a shadow only uses what is spare."""


class Difference(Frozen):
    """A turn on which the shadow decided otherwise."""

    run_id: str
    trajectory: Trajectory
    served: JsonObject
    shadow: JsonObject


class Replica(Frozen):
    """What one replica of a role says of itself at `GET /v1/replica`.

    `generation` is that of the release it has taken over; None when it serves one checkpoint without a registry, or
    has taken over nothing yet. `problem` says why it is behind. `resident` are the versions in memory.
    """

    role: Role
    generation: int | None = None
    stable: str | None = None
    canary: str | None = None
    shadow: str | None = None
    resident: tuple[str, ...] = ()
    problem: str | None = None
    swaps: int = 0
    swap_seconds: float | None = None
    """What the newest take-over took, from seeing the release to serving it."""
    pause_seconds: float | None = None
    """How long no text was written while full weights were last replaced; None when there never were any."""
    tallies: dict[str, Tally] = Field(default_factory=dict[str, Tally])
    """What each resident version has done on this replica."""
    agreement: Agreement | None = None
    """How the shadow has done here, since it was released."""


class Problem(Frozen):
    """An error body after RFC 9457 (application/problem+json); `type` is stable, `detail` is for people."""

    type: str
    title: str
    status: int
    detail: str
    field: str | None = None
    errors: list[dict[str, Any]] | None = None
