"""The one rule by which a trajectory that is too long for a model is shortened."""

from collections.abc import Callable

from umi.errors import ContextOverflow
from umi.trajectory import Trajectory


def fit(trajectory: Trajectory, length: Callable[[Trajectory], int], limit: int) -> tuple[Trajectory, int]:
    """Drop the oldest steps until the prompt has at most `limit` tokens; returns the rest and how many were dropped.

    `length` counts the tokens of the rendered prompt. Tools, query and the newest step are never dropped: raises
    ContextOverflow when they alone are too long.
    """
    for dropped in range(max(1, len(trajectory.steps))):
        shorter = trajectory.model_copy(update={"steps": trajectory.steps[dropped:]}) if dropped else trajectory
        if (tokens := length(shorter)) <= limit:
            return shorter, dropped
    raise ContextOverflow(
        f"tools, query and the newest step need {tokens} tokens, the model reads {limit}: "  # pyright: ignore[reportPossiblyUnboundVariable]
        "offer fewer tools or shorten the query",
        "trajectory",
    )
