"""The one rule by which a trajectory that is too long for a model is shortened."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from umi.errors import ContextOverflow
from umi.trajectory import Step, Trajectory

SHORT, LEAST = 200, 40
"""Characters that are left of an old observation, and at least of the newest one."""


@dataclass(frozen=True)
class Fitted:
    """A trajectory that fits, and what it cost: observations cut short, and steps that are gone."""

    trajectory: Trajectory
    shortened: int = 0
    dropped: int = 0


def fit(trajectory: Trajectory, length: Callable[[Trajectory], int], limit: int) -> Fitted:
    """Shorten a trajectory until its prompt has at most `limit` tokens, as `length` counts them.

    Old observations are cut to their beginning first, the oldest before the others; then the oldest steps go; at last
    the newest observation is halved again and again. Tools, query and the newest step stay: raises ContextOverflow
    when they alone are too long.
    """
    fitted, tokens = Fitted(trajectory), length(trajectory)
    for shorter in _shorter(trajectory):
        if tokens <= limit:
            break
        fitted, tokens = shorter, length(shorter.trajectory)
    if tokens > limit:
        raise ContextOverflow(
            f"tools, query and the newest step need {tokens} tokens, the model reads {limit}: "
            "offer fewer tools or shorten the query",
            "trajectory",
        )
    return fitted


def _shorter(trajectory: Trajectory) -> Iterator[Fitted]:
    """Ever shorter trajectories."""
    steps, shortened = list(trajectory.steps), 0
    for index, step in enumerate(steps[:-1]):
        if len(step.observation or "") > SHORT:
            steps[index], shortened = _cut(step, SHORT), shortened + 1
            yield Fitted(_of(trajectory, steps), shortened)
    for dropped in range(1, len(steps)):
        gone = sum(one is not other for one, other in zip(steps[:dropped], trajectory.steps, strict=False))
        yield Fitted(_of(trajectory, steps[dropped:]), shortened - gone, dropped)
    dropped, kept = max(0, len(steps) - 1), len(steps[-1].observation or "") if steps else 0
    while (kept := kept // 2) >= LEAST:
        yield Fitted(_of(trajectory, [_cut(steps[-1], kept)]), 1, dropped)


def _of(trajectory: Trajectory, steps: list[Step]) -> Trajectory:
    return trajectory.model_copy(update={"steps": tuple(steps)})


def _cut(step: Step, chars: int) -> Step:
    text = step.observation or ""
    return step.model_copy(update={"observation": f"{text[:chars]}… ({len(text)} characters)"})
