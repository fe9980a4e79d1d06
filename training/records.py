"""A record: one annotated trajectory from outside, whatever its form was, and which of its turns are to be learnt."""

from collections.abc import Callable, Iterator

from training.instances import Instance, instances
from umi.context import compress
from umi.grammar import MAX_RATIONALE_CHARS, closed
from umi.prompt import PromptTemplate
from umi.roles import Role
from umi.trajectory import Call, Frozen, Plan, Step, ToolSpec, Trajectory


class Record(Frozen):
    """One trajectory, its words as the data has them.

    What a user says again is kept where the roles read it: before the first step in the query, later at the end of
    the newest observation, set off by an empty line.
    """

    id: str
    source: str
    """The data set or domain, for mixing and for tables."""
    trajectory: Trajectory
    answer: str | None = None
    """What the summarizer is to write; None when the last plan does not conclude or the data has no answer."""
    unlearnt: tuple[tuple[int, Role], ...] = ()
    """Turns (step from 0, role) that stay in the history and are never a target."""
    user_turns: tuple[int, ...] = ()
    """Steps before which the user spoke again; a DFS search says there which calls it has tried."""
    remarks: int = 0
    """How many assistant turns decided nothing and were left out: a trajectory has no place for them."""

    def learns(self, step: int, role: Role) -> bool:
        """Whether the turn of `role` in step `step` may be a target."""
        return (step, role) not in self.unlearnt

    def compressed(self, tokens: Callable[[str], int], budget: int | None) -> "Record":
        """The record with every observation as a role with that budget reads it (`umi.context.compress`)."""
        return self.model_copy(update={"trajectory": compress(self.trajectory, tokens, budget)})

    @property
    def roles(self) -> set[Role]:
        """The roles that have a turn to learn here."""
        steps = list(enumerate(self.trajectory.steps))
        found = {Role.PLANNER for index, _ in steps if self.learns(index, Role.PLANNER)}
        found |= {Role.CALLER for index, step in steps if step.call and self.learns(index, Role.CALLER)}
        answered = steps and self.answer is not None and self.learns(steps[-1][0], Role.SUMMARIZER)
        return found | ({Role.SUMMARIZER} if answered else set())


def learnt(record: Record, template: PromptTemplate) -> Iterator[Instance]:
    """Those instances of a record that are to be learnt, in order."""
    step = -1
    for instance in instances(record.trajectory, record.answer, template):
        step += instance.role is Role.PLANNER  # every step begins with its plan
        if record.learns(step, instance.role):
            yield instance


def decodable(record: Record) -> Record:
    """The record in words that UMi's constrained decoder could have written (`umi.grammar`).

    Rationales become one line of at most MAX_RATIONALE_CHARS, cut after a whole sentence where there is one. What
    still cannot be written is not to be learnt: a plan without a rationale, a call of a tool that is not offered or
    with arguments that the tool does not have.
    """
    steps = tuple(_decodable(step) for step in record.trajectory.steps)
    tools = {tool.name: tool for tool in record.trajectory.tools}
    silent = [(index, Role.PLANNER) for index, step in enumerate(steps) if not step.plan.rationale]
    foreign = [
        (index, Role.CALLER) for index, step in enumerate(steps) if step.call and not _is_writable(step.call, tools)
    ]
    return record.model_copy(
        update={
            "trajectory": record.trajectory.model_copy(update={"steps": steps}),
            "answer": (record.answer or "").strip() or None,
            "unlearnt": tuple(sorted({*record.unlearnt, *silent, *foreign})),
        }
    )


def _decodable(step: Step) -> Step:
    line = " ".join(step.plan.rationale.split())
    if len(line) > MAX_RATIONALE_CHARS:
        line = line[:MAX_RATIONALE_CHARS]
        sentence = line.rfind(". ")
        line = line[: sentence + 1] if sentence > 0 else line.rsplit(" ", 1)[0]
    return step.model_copy(update={"plan": Plan(rationale=line, turn=step.plan.turn)})


def _is_writable(call: Call, tools: dict[str, ToolSpec]) -> bool:
    if call.tool not in tools:
        return False
    schema = closed(tools[call.tool].parameters)
    return schema["additionalProperties"] is not False or call.arguments.keys() <= schema["properties"].keys()
