"""The systems that the paper compares, as a table: which stages each trains, on what part of the data, from what.

A stage is named by the folder of its checkpoint, so what two systems share is trained once.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from training.lessons import Lesson, Turns, WholeSteps
from training.records import Record
from umi.roles import Role

_NEIGHBOURS = 3
"""Records that stay together when data is parted: neighbours are offered the same tools (`training.tasks.files`)."""


class Part(StrEnum):
    """Which trajectories a stage learns from."""

    ALL = "all"
    ONE_HALF = "one half"
    OTHER_HALF = "the other half"

    def of(self, records: Sequence[Record]) -> list[Record]:
        """This part of the data; the halves share no record."""
        if self is Part.ALL:
            return list(records)
        parity = 0 if self is Part.ONE_HALF else 1
        return [record for index, record in enumerate(records) if index // _NEIGHBOURS % 2 == parity]


@dataclass(frozen=True)
class Stage:
    """What is taught, from which part of the data, going on from which other stage (None: from the backbone)."""

    lesson: Lesson
    part: Part = Part.ALL
    parent: str | None = None


@dataclass(frozen=True)
class System:
    """The stage that each role's weights come from, and what the paper calls the system."""

    title: str
    plays: dict[Role, str]

    def stages(self) -> list[str]:
        """Every stage that is needed, parents first."""
        found: dict[str, None] = {}
        for name in self.plays.values():
            if (parent := STAGES[name].parent) is not None:
                found[parent] = None
            found[name] = None
        return list(found)

    def options(self, folder: Path) -> list[str]:
        """How `umi up` serves the system out of the folder that holds its stages."""
        if len(set(self.plays.values())) == 1:
            return ["--single", str(folder / self.plays[Role.PLANNER])]
        return ["--checkpoints", str((folder / self.plays[Role.PLANNER]).parent)]

    def checkpoints(self, folder: Path) -> list[Path]:
        """The checkpoints that it serves."""
        return [folder / name for name in dict.fromkeys(self.plays.values())]


def _roles(folder: str) -> dict[Role, str]:
    return {role: f"{folder}/{role}" for role in Role}


def _locals(folder: str, part: Part, parent: str | None) -> dict[str, Stage]:
    return {name: Stage(Turns(role), part, parent) for role, name in _roles(folder).items()}


STAGES = {
    "single-llm/single": Stage(WholeSteps()),
    **_locals("multi-one-stage", Part.ALL, parent=None),
    "umi/global": Stage(Turns()),
    **_locals("umi", Part.ALL, parent="umi/global"),
    "umi-without-reuse/global": Stage(Turns(), Part.ONE_HALF),
    **_locals("umi-without-reuse", Part.OTHER_HALF, parent="umi-without-reuse/global"),
}
SYSTEMS = {
    "single-llm": System("Single-LLM", dict.fromkeys(Role, "single-llm/single")),
    "single-multi-task": System("Single-LLM, multi-task", dict.fromkeys(Role, "umi/global")),
    "multi-one-stage": System("Multi-LLM, one stage", _roles("multi-one-stage")),
    "umi-without-reuse": System("α-UMi without reuse", _roles("umi-without-reuse")),
    "umi": System("α-UMi with reuse", _roles("umi")),
}
