"""The rules by which what is too long for a model is shortened: each observation by itself, then the trajectory."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from umi.errors import ContextOverflow
from umi.observation import cut, within
from umi.prompt import defuse
from umi.trajectory import Step, Trajectory

SHORT, LEAST = 200, 40
"""Characters that are left of an old observation, and at least of the newest one."""
LEAST_BUDGET = 32
"""Tokens that an observation needs to say anything, the note of what was left out included."""


@dataclass(frozen=True)
class Fitted:
    """A trajectory that fits, and what it cost: observations cut short, and steps that are gone."""

    trajectory: Trajectory
    shortened: int = 0
    dropped: int = 0


def compress(trajectory: Trajectory, tokens: Callable[[str], int], budget: int | None) -> Trajectory:
    """Shorten every observation to at most `budget` tokens, as `tokens` counts them in a prompt; None: to any length.

    Each by itself, so prompts still only grow, and the result compressed again is the same.
    """
    if budget is None:
        return trajectory

    def short(step: Step) -> Step:
        text = step.observation or ""
        kept = within(text, lambda shown: tokens(defuse(shown)), budget)
        return step if kept == text else step.model_copy(update={"observation": kept})

    return _of(trajectory, [short(step) for step in trajectory.steps])


def shortened(trajectory: Trajectory, kept: Trajectory) -> int:
    """How many observations of `kept`, which ends like `trajectory`, are not whole any more."""
    pairs = zip(reversed(trajectory.steps), reversed(kept.steps), strict=False)
    return sum(step.observation != left.observation for step, left in pairs)


def fit(trajectory: Trajectory, length: Callable[[Trajectory], int], limit: int) -> Fitted:
    """Shorten a trajectory until its prompt has at most `limit` tokens, as `length` counts them.

    Old observations are cut to their beginning first, the oldest before the others; then the oldest steps go; at last
    the newest observation is halved again and again. Tools, query and the newest step stay: raises ContextOverflow
    when they alone are too long.
    """
    kept, tokens = trajectory, length(trajectory)
    for shorter in _shorter(trajectory):
        if tokens <= limit:
            break
        kept, tokens = shorter, length(shorter)
    if tokens > limit:
        raise ContextOverflow(
            f"tools, query and the newest step need {tokens} tokens, the model reads {limit}: "
            "offer fewer tools or shorten the query",
            "trajectory",
        )
    return Fitted(kept, shortened(trajectory, kept), len(trajectory.steps) - len(kept.steps))


def _shorter(trajectory: Trajectory) -> Iterator[Trajectory]:
    """Ever shorter trajectories."""
    steps = list(trajectory.steps)
    for index, step in enumerate(steps[:-1]):
        if len(step.observation or "") > SHORT:
            steps[index] = _cut(step, SHORT)
            yield _of(trajectory, steps)
    for dropped in range(1, len(steps)):
        yield _of(trajectory, steps[dropped:])
    kept = len(steps[-1].observation or "") if steps else 0
    while (kept := kept // 2) >= LEAST:
        yield _of(trajectory, [_cut(steps[-1], kept)])


def _of(trajectory: Trajectory, steps: list[Step]) -> Trajectory:
    return trajectory.model_copy(update={"steps": tuple(steps)})


def _cut(step: Step, chars: int) -> Step:
    return step.model_copy(update={"observation": cut(step.observation or "", chars)})
