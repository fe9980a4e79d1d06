"""The planner: a rationale in one line, ending in whose turn is next."""

from services.engine import Constraint
from services.role import RoleBehaviour, finished_steps_only
from umi.grammar import parse_plan, plan_regex
from umi.roles import Role
from umi.trajectory import Trajectory
from umi.wire import PlanReply, Usage

_CONSTRAINT = Constraint("regex", plan_regex())


def _constrain(trajectory: Trajectory) -> Constraint:
    return _CONSTRAINT


def _reply(text: str, trajectory: Trajectory, version: str, usage: Usage) -> PlanReply:
    return PlanReply(version=version, usage=usage, plan=parse_plan(text))


PLANNER = RoleBehaviour(
    role=Role.PLANNER,
    max_tokens=160,
    reply_type=PlanReply,
    check=finished_steps_only,
    constrain=_constrain,
    reply=_reply,
)
