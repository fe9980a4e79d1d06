"""The sequential test of a canary: what it decides, and how often it is wrong."""

import random

import pytest

from umi.trial import Rules, Tally, Verdict, judge

RULES = Rules(least_turns=100)


def tally(turns: int, failed: int, seconds_each: float = 1.0, spread: float = 0.5) -> Tally:
    """Turns whose seconds have that mean and standard deviation."""
    squares = turns * (seconds_each**2 + spread**2)
    return Tally(turns=turns, failed=failed, seconds=turns * seconds_each, squared_seconds=squares)


STABLE = tally(2000, 20)


@pytest.mark.parametrize(
    ("canary", "verdict", "why"),
    [
        (tally(99, 0), Verdict.GO_ON, "too few turns yet"),
        (tally(100, 1), Verdict.GO_ON, "not clear yet"),
        (tally(400, 4), Verdict.PROMOTE, "as good as stable: 4 of 400 turns failed, stable 20 of 2000"),
        (tally(12, 6), Verdict.ROLL_BACK, "fails more often: 6 of 12"),
        (tally(400, 4, 1.6), Verdict.ROLL_BACK, "1.6 times slower"),
        (tally(400, 4, 1.6, spread=2.0), Verdict.PROMOTE, "as good"),
        (tally(400, 4, 1.4), Verdict.PROMOTE, "as good"),
        (tally(0, 0), Verdict.GO_ON, "too few turns yet"),
    ],
)
def test_the_verdict_follows_failures_and_seconds(canary: Tally, verdict: Verdict, why: str) -> None:
    found, reason = judge(STABLE, canary, RULES)
    assert found is verdict
    assert why in reason


@pytest.mark.parametrize(("steps", "verdict"), [(160, Verdict.ROLL_BACK), (140, Verdict.PROMOTE)])
def test_a_canary_whose_runs_take_many_more_steps_is_rolled_back(steps: int, verdict: Verdict) -> None:
    stable = STABLE.plus(Tally(runs=1000, steps=2000))
    canary = tally(400, 4).plus(Tally(runs=50, steps=steps))
    found, reason = judge(stable, canary, RULES)
    assert found is verdict
    assert found is Verdict.PROMOTE or "a run takes 3.2 steps, stable 2.0, over 50 runs" in reason


def test_a_single_turn_that_hung_rolls_nothing_back() -> None:
    hung = Tally(turns=1, seconds=600.0, squared_seconds=600.0**2)
    assert judge(STABLE, tally(399, 4).plus(hung), RULES)[0] is Verdict.PROMOTE


def test_nothing_is_promoted_before_stable_has_been_seen_as_well() -> None:
    assert judge(tally(10, 0), tally(1000, 0), RULES)[0] is Verdict.GO_ON


def test_a_stable_version_that_always_fails_can_be_compared_too() -> None:
    assert judge(tally(500, 500), tally(500, 500), RULES)[0] in set(Verdict)


@pytest.mark.parametrize(("rate", "wrong"), [(0.01, Verdict.ROLL_BACK), (0.04, Verdict.PROMOTE)])
def test_looking_after_every_turn_keeps_wrong_verdicts_as_rare_as_promised(rate: float, wrong: Verdict) -> None:
    mistakes = 0
    for trial in range(300):
        rng, failed, verdict = random.Random(trial), 0, Verdict.GO_ON
        for turns in range(1, 5000):
            failed += rng.random() < rate
            verdict, _ = judge(STABLE, tally(turns, failed), RULES)
            if verdict is not Verdict.GO_ON:
                break
        mistakes += verdict is wrong
    assert mistakes / 300 < 0.08  # 0.05 promised, and the noise of 300 trials


def test_replicas_add_up() -> None:
    both = tally(3, 1, 2.0, spread=0.0).plus(tally(1, 0, 4.0, spread=0.0))
    assert both == Tally(turns=4, failed=1, seconds=10.0, squared_seconds=28.0)
    assert both.mean_seconds_variance == pytest.approx(0.25)  # 2, 2, 2, 4: a variance of 1, over 4 turns
