"""A task: a question, the tools on offer, a trajectory that answers it, and how an answer is checked."""

import re
from enum import StrEnum
from typing import Any

from training.records import Record
from training.tasks.entities import Split
from umi.trajectory import Call, Frozen, Trajectory


class Kind(StrEnum):
    """What makes a task hard."""

    SINGLE = "single call"
    CHAIN = "dependent calls"
    COMPARE = "comparison"
    CORRECTION = "error corrected"
    GIVE_UP = "unanswerable"


class Check(Frozen):
    """What a right result is.

    Unanswerable tasks: the run gave up. Effects: a call like `effect` succeeded. Otherwise the answer holds every
    one of `expected`, and none of `rivals` before it. An effect's arguments are those that matter; more are allowed.
    """

    gives_up: bool = False
    effect: Call | None = None
    expected: tuple[str, ...] = ()
    rivals: tuple[str, ...] = ()

    def passes(self, outcome: str, answer: str | None, successful_calls: list[Call]) -> bool:
        """Whether a finished run is right; `outcome` as the gateway names it."""
        if self.gives_up:
            return outcome == "gave_up"
        if outcome != "answered" or not answer:
            return False
        if self.effect is not None:
            return any(_same_call(call, self.effect) for call in successful_calls)
        places = [_find(answer, wanted) for wanted in self.expected]
        if any(place < 0 for place in places):
            return False
        return all(not 0 <= _find(answer, rival) < min(places) for rival in self.rivals)


class Task(Frozen):
    """One task. `trajectory` ends with the planner's last plan; `answer` is None when that plan gives up."""

    id: str
    split: Split
    kind: Kind
    intent: str
    trajectory: Trajectory
    answer: str | None
    check: Check
    setup: tuple[Call, ...] = ()
    """Calls that bring the services into the state the question is about; made before it is asked."""

    def record(self) -> Record:
        """What training learns from it."""
        return Record(id=self.id, source=self.kind, trajectory=self.trajectory, answer=self.answer)

    @property
    def needs(self) -> set[str]:
        """The tools that its reference trajectory calls."""
        return {step.call.tool for step in self.trajectory.steps if step.call}


def _find(answer: str, wanted: str) -> int:
    """Where `wanted` stands in the answer, or -1. Numbers match by value (to 0.1 %), words by letters, case ignored."""
    try:
        value = float(wanted)
    except ValueError:
        match = re.search(rf"(?<!\w){re.escape(wanted)}(?!\w)", answer, re.IGNORECASE)
        return match.start() if match else -1
    for match in re.finditer(r"-?\d[\d,]*(?:\.\d+)?(?:e[+-]?\d+)?", answer):
        if abs(float(match[0].replace(",", "")) - value) <= 0.001 * abs(value):
            return match.start()
    return -1


def _same_call(left: Call, right: Call) -> bool:
    made, wanted = _plain(left.arguments), _plain(right.arguments)
    return left.tool == right.tool and all(made.get(name) == value for name, value in wanted.items())


def _plain(value: Any) -> Any:
    match value:
        case dict():
            return {key: _plain(item) for key, item in value.items()}
        case str():
            return value.casefold().strip()
        case _:
            return value
