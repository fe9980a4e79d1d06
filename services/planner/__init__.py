"""The planner: a rationale in one line, ending in whose turn is next."""

import re

from services.engine import Constraint
from services.role import RoleBehaviour, finished_steps_only
from umi.grammar import parse_plan, plan_regex, rationale_so_far
from umi.manifest import Manifest
from umi.roles import Role, Turn
from umi.trajectory import Plan, Trajectory
from umi.wire import PlanReply, Usage

_CONSTRAINT = Constraint("regex", plan_regex())


def _constrain(trajectory: Trajectory, manifest: Manifest) -> Constraint:
    return _CONSTRAINT


def _reply(text: str, trajectory: Trajectory, manifest: Manifest, usage: Usage) -> PlanReply:
    plan = within_offer(parse_plan(text), trajectory, manifest.tool_mention)
    return PlanReply(version=manifest.version, usage=usage, plan=plan)


def within_offer(plan: Plan, trajectory: Trajectory, mention: str | None) -> Plan:
    """The plan; one that wants a tool which is not offered gives up instead, saying so.

    The caller could only take another tool, with arguments that were meant for the one it has not.
    """
    named = re.findall(mention, plan.rationale) if mention and plan.turn is Turn.CALLER else []
    if not named or named[-1] in {tool.name for tool in trajectory.tools}:
        return plan
    return Plan(rationale=f"{plan.rationale} {named[-1]} is not offered.", turn=Turn.GIVE_UP)


PLANNER = RoleBehaviour(
    role=Role.PLANNER,
    max_tokens=160,
    reply_type=PlanReply,
    check=finished_steps_only,
    constrain=_constrain,
    reply=_reply,
    written=rationale_so_far,
)
