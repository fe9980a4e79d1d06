"""Intervals and tests over tasks: whole tasks are drawn, and two systems are compared on the same ones."""

import numpy as np
import pytest

from training.statistics import bootstrap, by_task, compare
from umi.errors import BadInput

COIN = {str(n): [float(n % 2)] for n in range(400)}


def test_values_are_sorted_into_tasks_and_uncounted_steps_left_out() -> None:
    assert by_task("aabc", [1.0, None, None, 0.5]) == {"a": [1.0], "b": [], "c": [0.5]}
    with pytest.raises(ValueError, match="shorter"):
        by_task("ab", [1.0])


def test_the_figure_is_the_mean_over_steps_not_over_tasks() -> None:
    interval = bootstrap({"long": [1, 1, 1], "short": [0]}, seed=1)
    assert (interval.value, interval.tasks, interval.level) == (0.75, 2, 0.95)


def test_the_interval_of_independent_steps_is_the_textbook_one() -> None:
    interval = bootstrap(COIN, seed=1)
    half = 1.96 * np.sqrt(0.25 / 400)
    assert (interval.low, interval.high) == pytest.approx((0.5 - half, 0.5 + half), abs=0.004)
    narrow = bootstrap(COIN, seed=1, level=0.5)
    half = 0.674 * np.sqrt(0.25 / 400)
    assert (narrow.low, narrow.high) == pytest.approx((0.5 - half, 0.5 + half), abs=0.004)


def test_steps_that_stand_and_fall_with_their_task_widen_the_interval() -> None:
    clustered = bootstrap({str(n): [float(n % 2)] * 10 for n in range(40)}, seed=1)
    half = 1.96 * np.sqrt(0.25 / 40)
    assert (clustered.low, clustered.high) == pytest.approx((0.5 - half, 0.5 + half), abs=0.02)


def test_the_seed_decides_the_draw() -> None:
    values = {str(n): [n / 50] for n in range(50)}
    assert bootstrap(values, seed=1) == bootstrap(values, seed=1) != bootstrap(values, seed=2)
    other = {str(n): [n / 100] for n in range(50)}
    assert compare(values, other, seed=1) == compare(values, other, seed=1) != compare(values, other, seed=2)


def test_tasks_and_resamples_without_a_counted_step_do_no_harm() -> None:
    interval = bootstrap({"a": [1.0], "b": [], "c": []}, seed=1)
    assert (interval.value, interval.low, interval.high) == (1, 1, 1)
    comparison = compare({"a": [1.0], "b": []}, {"a": [], "b": [0.0]}, seed=1)
    assert (comparison.difference.low, comparison.difference.high) == (-1, -1)
    assert comparison.p_value == 1


def test_two_systems_with_the_same_results_do_not_differ() -> None:
    comparison = compare(COIN, COIN, seed=1)
    assert (comparison.difference.value, comparison.difference.low, comparison.difference.high) == (0, 0, 0)
    assert comparison.p_value == 1


def test_a_gain_on_every_task_is_certain_however_much_the_tasks_differ() -> None:
    better = {task: [values[0] + 0.1] for task, values in COIN.items()}
    up, down = compare(COIN, better, seed=1, resamples=999), compare(better, COIN, seed=1, resamples=999)
    assert (up.difference.low, up.difference.value, up.difference.high) == pytest.approx((0.1, 0.1, 0.1))
    assert down.difference.value == pytest.approx(-0.1)
    assert up.p_value == down.p_value == 0.001


def test_the_p_value_is_the_two_sided_share_of_exchanges_with_so_large_a_gap() -> None:
    one = compare({"a": [0.0], "b": [0.0], "c": [0.0]}, {"a": [1.0], "b": [1.0], "c": [1.0]}, seed=1)
    assert one.p_value == pytest.approx(2 / 8, abs=0.02)
    three = compare({"a": [0.1], "b": [0.2], "c": [0.3]}, {"a": [0.3], "b": [0.1], "c": [0.4]}, seed=1)
    assert three.p_value == pytest.approx(6 / 8, abs=0.02)  # gaps of ±(2, -1, 1): |sum| is 2, 0, 4, 2 for four of eight


def test_each_system_is_averaged_over_its_own_steps() -> None:
    comparison = compare({"a": [1.0, 0.0], "b": [1.0]}, {"a": [1.0], "b": [1.0, 1.0]}, seed=1)
    assert comparison.difference.value == pytest.approx(1 - 2 / 3)


def test_systems_on_different_tasks_or_without_any_step_are_refused() -> None:
    with pytest.raises(BadInput, match="same tasks"):
        compare({"a": [1.0]}, {"b": [1.0]}, seed=1)
    with pytest.raises(BadInput, match="no step counts"):
        compare({"a": [1.0]}, {"a": []}, seed=1)
    with pytest.raises(BadInput, match="no step counts"):
        bootstrap({}, seed=1)
