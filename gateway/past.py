"""What a run had done when its gateway stopped, read from its log, so that another can go on from there."""

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from gateway.events import Called, Event, Observed, Offered, Planned, RunCreated
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
    """Finished steps, and how far the step after them had come: nothing, its plan, or its call as well."""

    trajectory: Trajectory
    step: int = 1
    plan: Plan | None = None
    called: Called | None = None
    versions: dict[Role, str] = field(default_factory=dict[Role, str])
    seen: Seen = field(default_factory=Seen)
    offers: int = 0
    """How often more tools were offered."""
    looked_again: bool = False
    """Whether the planner was shown the fitting tools alone, and `only` those of its next turn."""
    only: tuple[str, ...] = ()


def tools_of(events: Iterable[Event]) -> list[str]:
    """The names of all tools that a run was offered, in order."""
    payloads = (event.payload for event in events)
    offers = (
        each for each in payloads if isinstance(each, RunCreated) or (isinstance(each, Offered) and not each.only)
    )
    return [name for offer in offers for name in offer.tools]


def past_of(beginning: Trajectory, events: Iterable[Event]) -> Past:
    """The past of a run whose log is `events`; `beginning` has its query, all tools it was offered, and no steps."""
    past = Past(beginning)
    for event in events:
        match event.payload:
            case Planned() as planned:
                past.plan, past.only = planned.plan, ()
                past.versions[Role.PLANNER] = planned.version
                past.trajectory = past.trajectory.append(Step(plan=planned.plan))
            case Offered() as offered:
                past.trajectory = past.trajectory.offer(())
                past.step, past.plan = past.step + 1, None
                if offered.only:
                    past.looked_again, past.only = True, tuple(offered.tools)
                else:
                    past.offers += 1
            case Called() as called:
                past.called = called
                past.versions[Role.CALLER] = called.version
            case Observed() as observed:
                assert past.called is not None
                call = past.called.call
                past.trajectory = past.trajectory.replace_last(call=call, observation=observed.observation)
                past.seen[seen_key(call, observed.observation.removeprefix(REPEATED))] += 1
                past.step, past.plan, past.called = past.step + 1, None, None
            case _:
                pass
    return past
