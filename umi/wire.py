"""Bodies that travel between the gateway and the role services."""

from typing import Annotated, Any

from pydantic import Field

from umi.roles import Role
from umi.trajectory import Call, Frozen, Plan, Trajectory

ROLE_PATHS = {Role.PLANNER: "/v1/plan", Role.CALLER: "/v1/call", Role.SUMMARIZER: "/v1/summarize"}
RUN_ID = r"^[A-Za-z0-9_-]{1,64}$"


class RoleRequest(Frozen):
    """What every role is asked: its turn in this trajectory.

    A planner gets finished steps only; a caller and a summarizer get a newest step that holds just the plan.
    """

    run_id: Annotated[str, Field(pattern=RUN_ID)]
    trajectory: Trajectory


class Usage(Frozen):
    """What one generation cost. Tokens are the role's own; `seconds` is time inside the service."""

    prompt_tokens: int
    cached_tokens: int = 0
    completion_tokens: int
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


class Problem(Frozen):
    """An error body after RFC 9457 (application/problem+json); `type` is stable, `detail` is for people."""

    type: str
    title: str
    status: int
    detail: str
    field: str | None = None
    errors: list[dict[str, Any]] | None = None
