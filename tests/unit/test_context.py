"""Shortening a trajectory that is too long."""

import pytest

from umi.context import fit
from umi.errors import ContextOverflow
from umi.roles import Turn
from umi.trajectory import Plan, Step, ToolSpec, Trajectory


def trajectory(*words: int) -> Trajectory:
    steps = tuple(
        Step(plan=Plan(rationale=f"{i}", turn=Turn.CALLER), observation="w " * n) for i, n in enumerate(words)
    )
    return Trajectory(query="q " * 5, tools=(ToolSpec(name="a"),), steps=steps)


def length(given: Trajectory) -> int:
    return len(given.query.split()) + sum(len((step.observation or "").split()) for step in given.steps)


def test_what_fits_is_left_alone() -> None:
    given = trajectory(10, 20, 30)
    assert fit(given, length, 65) == (given, 0)


@pytest.mark.parametrize(("limit", "dropped"), [(64, 1), (55, 1), (54, 2), (35, 2)])
def test_the_oldest_steps_go_first_and_no_more_than_needed(limit: int, dropped: int) -> None:
    given = trajectory(10, 20, 30)
    shorter, count = fit(given, length, limit)
    assert count == dropped
    assert shorter.steps == given.steps[dropped:]
    assert (shorter.query, shorter.tools) == (given.query, given.tools)


def test_the_newest_step_is_never_dropped() -> None:
    with pytest.raises(ContextOverflow, match="need 35 tokens, the model reads 34") as caught:
        fit(trajectory(10, 20, 30), length, 34)
    assert caught.value.field == "trajectory"


def test_a_query_that_is_too_long_by_itself_raises() -> None:
    assert fit(trajectory(), length, 5) == (trajectory(), 0)
    with pytest.raises(ContextOverflow):
        fit(trajectory(), length, 4)
