"""Shortening a trajectory that is too long."""

import json

import pytest

from umi.context import LEAST, SHORT, Fitted, compress, fit, shortened
from umi.errors import ContextOverflow
from umi.roles import Turn
from umi.trajectory import Plan, Step, ToolSpec, Trajectory


def trajectory(*chars: int) -> Trajectory:
    """Steps with observations of so many characters."""
    steps = tuple(Step(plan=Plan(rationale=f"{i}", turn=Turn.CALLER), observation="w" * n) for i, n in enumerate(chars))
    return Trajectory(query="q" * 5, tools=(ToolSpec(name="a"),), steps=steps)


def length(given: Trajectory) -> int:
    return len(given.query) + sum(len(step.observation or "") for step in given.steps)


def observations(fitted: Fitted) -> list[int]:
    """How much is left of each, without the note of how long it was."""
    return [len((step.observation or "").partition("…")[0]) for step in fitted.trajectory.steps]


def test_what_fits_is_left_alone() -> None:
    given = trajectory(10, 20, 30)
    assert fit(given, length, 65) == Fitted(given)


def test_old_observations_are_shortened_first_the_oldest_before_the_others() -> None:
    given = trajectory(900, 50, 900, 900)
    first = fit(given, length, 2100)
    assert observations(first) == [SHORT, 50, 900, 900]
    assert (first.shortened, first.dropped) == (1, 0)
    assert "(900 characters)" in (first.trajectory.steps[0].observation or "")
    second = fit(given, length, 1400)
    assert (observations(second), second.shortened) == ([SHORT, 50, SHORT, 900], 2)


def test_then_the_oldest_steps_go_and_no_more_than_needed() -> None:
    fitted = fit(trajectory(900, 50, 900, 900), length, 1180)
    assert (observations(fitted), fitted.shortened, fitted.dropped) == ([50, SHORT, 900], 1, 1)
    assert (fitted.trajectory.query, fitted.trajectory.tools) == ("q" * 5, (ToolSpec(name="a"),))


@pytest.mark.parametrize(("limit", "dropped"), [(64, 1), (55, 1), (54, 2), (35, 2)])
def test_short_observations_are_not_worth_shortening(limit: int, dropped: int) -> None:
    given = trajectory(10, 20, 30)
    fitted = fit(given, length, limit)
    assert (fitted.trajectory.steps, fitted.shortened, fitted.dropped) == (given.steps[dropped:], 0, dropped)


def test_at_last_the_newest_observation_is_halved_until_it_fits() -> None:
    fitted = fit(trajectory(30, 1000), length, 300)
    assert (observations(fitted), fitted.shortened, fitted.dropped) == ([250], 1, 1)


def test_the_newest_step_is_never_dropped() -> None:
    with pytest.raises(ContextOverflow, match="need 35 tokens, the model reads 34") as caught:
        fit(trajectory(10, 20, 30), length, 34)
    assert caught.value.field == "trajectory"
    with pytest.raises(ContextOverflow):
        fit(trajectory(1000), length, LEAST)


def test_a_query_that_is_too_long_by_itself_raises() -> None:
    assert fit(trajectory(), length, 5) == Fitted(trajectory())
    with pytest.raises(ContextOverflow):
        fit(trajectory(), length, 4)


def test_an_observation_beyond_its_budget_is_shortened_by_itself_the_same_at_every_step() -> None:
    long = json.dumps({"rows": [{"name": f"row {i}", "text": "word " * 40} for i in range(30)], "total": 30})
    steps = [step.model_copy(update={"observation": long}) for step in trajectory(1, 1, 1).steps]
    whole = trajectory().model_copy(update={"steps": (*steps, *trajectory(20).steps)})
    compressed = compress(whole, len, 400)
    first, *others = [step.observation or "" for step in compressed.steps]
    assert others == [first, first, "w" * 20]
    read = json.loads(first)
    assert (read["rows"][0]["name"], read["total"]) == ("row 0", 30)
    assert len(first) <= 400
    assert shortened(whole, compressed) == 3
    for steps_so_far in range(4):  # a prompt only grows
        earlier = whole.model_copy(update={"steps": whole.steps[:steps_so_far]})
        assert compress(earlier, len, 400).steps == compressed.steps[:steps_so_far]
    assert compress(compressed, len, 400) == compressed
    assert compress(whole, len, None) is whole


def test_an_observation_is_counted_as_the_prompt_shows_it() -> None:
    tokens: list[str] = []
    compress(trajectory(40), lambda text: tokens.append(text) or 1, 32)
    assert tokens == ["w" * 40]
    control = trajectory(1).replace_last(observation="<|im_end|>" * 4)
    tokens.clear()
    compress(control, lambda text: tokens.append(text) or 1, 32)
    assert tokens == ["< |im_end|>" * 4]


def test_what_is_shortened_twice_is_counted_once_and_not_when_it_is_gone() -> None:
    given = trajectory(900, 900, 900)
    compressed = compress(given, len, 600)
    fitted = fit(compressed, length, 850)
    assert (fitted.dropped, len(fitted.trajectory.steps)) == (1, 2)
    assert shortened(given, fitted.trajectory) == 2
    assert "(900 characters)" in (fitted.trajectory.steps[0].observation or "")
