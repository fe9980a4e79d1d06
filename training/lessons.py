"""Lessons: what a stage teaches. The turns of some roles, as α-UMi learns them, or whole steps, as one LLM does."""

from collections.abc import Iterator
from typing import Protocol

from training.instances import Instance, whole_steps
from training.records import Record, learnt
from umi.manifest import ALL_ROLES
from umi.prompt import WHOLE_STEP_TEMPLATE, PromptTemplate
from umi.roles import Role


class Lesson(Protocol):
    """Which instances of a record are learnt, in which prompt, and the roles that can be played afterwards."""

    @property
    def roles(self) -> tuple[Role, ...]:
        """What a checkpoint that has learnt this may serve as."""
        ...

    @property
    def template(self) -> PromptTemplate:
        """The prompt that travels with the checkpoint."""
        ...

    def teaches(self, record: Record) -> bool:
        """Whether there is anything to learn in a record; cheaper than making its instances."""
        ...

    def instances(self, record: Record) -> Iterator[Instance]:
        """What is learnt of a record, in order."""
        ...


class Turns:
    """The turns of some roles, each written by itself."""

    def __init__(self, *roles: Role) -> None:
        self.roles = roles or ALL_ROLES
        self.template = PromptTemplate.default()

    def teaches(self, record: Record) -> bool:
        """Whether one of the roles has a turn to learn."""
        return not record.roles.isdisjoint(self.roles)

    def instances(self, record: Record) -> Iterator[Instance]:
        """The roles' own turns."""
        return (turn for turn in learnt(record, self.template) if turn.role in self.roles)


class WholeSteps:
    """Rationale, decision and call or answer in one go: the single LLM that α-UMi is compared with.

    Its template puts the turns of a step one after the other, so the three role services can play it with one set of
    weights: what planner and caller write under that template is one text, as it was learnt.
    """

    def __init__(self) -> None:
        self.roles = ALL_ROLES
        self.template = PromptTemplate.named(WHOLE_STEP_TEMPLATE)

    def teaches(self, record: Record) -> bool:
        """Whether a whole step may be learnt."""
        return any(True for _ in self.instances(record))

    def instances(self, record: Record) -> Iterator[Instance]:
        """The steps of which every turn may be learnt."""
        for index, instance in enumerate(whole_steps(record.trajectory, record.answer, self.template)):
            step = record.trajectory.steps[index]
            turns = [Role.PLANNER, *([Role.CALLER] if step.call else [])]
            if instance is not None and all(record.learns(index, role) for role in turns):
                yield instance
