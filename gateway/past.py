"""What a run had done when its gateway stopped, read from its log, so that another can go on from there."""

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from gateway.events import (
    Approval,
    Called,
    Event,
    Observed,
    Offered,
    Planned,
    RequiresAction,
    RunCreated,
    Sending,
    ToolSource,
)
from umi.roles import Role
from umi.trajectory import Call, Plan, Step, Trajectory

REPEATED = "You have already made this call; it gives the same result again. Do something else. "
"""Begins an observation that the planner has read before."""
Seen = Counter[tuple[str, str]]
"""How often a call gave an observation."""


def seen_key(call: Call, observation: str) -> tuple[str, str]:
    """Equal for calls that are the same and were answered the same."""
    return json.dumps([call.tool, call.arguments], sort_keys=True), observation


@dataclass
class Past:
    """Finished steps, and how far the step after them had come: nothing, its plan, its call, the decision on it."""

    trajectory: Trajectory
    step: int = 1
    plan: Plan | None = None
    called: Called | None = None
    approval: Approval | None = None
    was_sending: bool = False
    """Whether the approved call may have been sent."""
    versions: dict[Role, str] = field(default_factory=dict[Role, str])
    seen: Seen = field(default_factory=Seen)
    offers: int = 0
    """How often more tools were offered."""


def tools_of(events: Iterable[Event]) -> dict[str, ToolSource | None]:
    """All tools that a run was offered, in order; None for one from before versions were kept."""
    payloads = (event.data for event in events)
    offers = [each for each in payloads if isinstance(each, RunCreated | Offered)]
    return {name: each.sources.get(name) for each in offers for name in each.tools}


def past_of(beginning: Trajectory, events: Iterable[Event]) -> Past:
    """The past of a run whose log is `events`; `beginning` has its query, all tools it was offered, and no steps."""
    past = Past(beginning)
    for event in events:
        match event.data:
            case Planned() as planned:
                past.plan = planned.plan
                past.versions[Role.PLANNER] = planned.version
                past.trajectory = past.trajectory.append(Step(plan=planned.plan))
            case Offered():
                past.trajectory = past.trajectory.offer(())
                past.step, past.plan, past.offers = past.step + 1, None, past.offers + 1
            case Called() as called:
                past.called = called
                past.versions[Role.CALLER] = called.version
            case Approval() as approval:
                past.approval = approval
            case Sending():
                past.was_sending = True
            case Observed() as observed:
                assert past.called is not None
                call = past.called.call
                past.trajectory = past.trajectory.replace_last(call=call, observation=observed.observation)
                past.seen[seen_key(call, observed.observation.removeprefix(REPEATED))] += 1
                past.step, past.plan, past.called = past.step + 1, None, None
                past.approval, past.was_sending = None, False
            case _:
                pass
    return past


def seconds_of_work(events: Iterable[Event], now: float) -> float:
    """How long a run has gone on, without the time in which it waited for a person."""
    began, waited, asked_at = None, 0.0, None
    for event in events:
        began = event.at if began is None else began
        if event.type == RequiresAction.type:
            asked_at = event.at
        elif asked_at is not None:
            waited, asked_at = waited + event.at - asked_at, None
    return 0.0 if began is None else (now if asked_at is None else asked_at) - began - waited
