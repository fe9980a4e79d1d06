"""From a trajectory to what each role learns of it: (prompt, target) pairs, rendered as the services render them."""

from collections.abc import Iterator
from dataclasses import dataclass

from umi.grammar import call_text, plan_text
from umi.prompt import PromptTemplate
from umi.roles import Role, Turn
from umi.spacing import spaced
from umi.trajectory import Call, Trajectory


@dataclass(frozen=True)
class Instance:
    """One turn of one role: the text it reads and the text it should write. `before` is what the text was made of."""

    role: Role
    before: Trajectory
    prompt: str
    target: str


def instances(trajectory: Trajectory, answer: str | None, template: PromptTemplate) -> Iterator[Instance]:
    """Every turn of a finished trajectory, in order. The last step holds a plan only; `answer` follows a conclusion."""
    for index, step in enumerate(trajectory.steps):
        before = trajectory.model_copy(update={"steps": trajectory.steps[:index]})
        yield Instance(Role.PLANNER, before, template.render(Role.PLANNER, before), plan_text(step.plan))
        planned = before.append(step.model_copy(update={"call": None, "observation": None}))
        if step.call is not None:
            yield Instance(Role.CALLER, planned, template.render(Role.CALLER, planned), _written(step.call, before))
        if step.plan.turn is Turn.CONCLUSION and answer is not None:
            yield Instance(Role.SUMMARIZER, planned, template.render(Role.SUMMARIZER, planned), answer)


def whole_steps(trajectory: Trajectory, answer: str | None, template: PromptTemplate) -> Iterator[Instance | None]:
    """Every step as one instance: the plan, a newline, and the call or the answer. None for a step without its end."""
    for index, step in enumerate(trajectory.steps):
        before = trajectory.model_copy(update={"steps": trajectory.steps[:index]})
        parts = [plan_text(step.plan)]
        match step.plan.turn:
            case Turn.CALLER:
                parts.append(_written(step.call, before) if step.call else "")
            case Turn.CONCLUSION:
                parts.append(answer or "")
            case Turn.GIVE_UP:
                pass
        target = "\n".join(parts)
        yield Instance(Role.PLANNER, before, template.render(Role.PLANNER, before), target) if all(parts) else None


def _written(call: Call, before: Trajectory) -> str:
    """A call as the caller learns to write it; in prompts it stands without the spaces."""
    return call_text(spaced(call, before.tools))
