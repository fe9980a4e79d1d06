"""A role's release: who gets which version, and what each change makes of it."""

import pytest

from umi.errors import BadInput
from umi.release import (
    KEPT,
    Action,
    Change,
    Release,
    first,
    promoted,
    released,
    rolled_back,
    shadowed,
    tried,
    unshadowed,
)
from umi.roles import Role

RUNS = [f"run-{number}" for number in range(2000)]


def by(action: Action, why: str = "") -> Change:
    return Change(action=action, who="ada", why=why)


@pytest.fixture
def stable() -> Release:
    return first(Role.PLANNER, "v1", by(Action.RELEASE))


def test_without_a_canary_every_run_gets_the_stable_version(stable: Release) -> None:
    assert {stable.version_for(run) for run in RUNS} == {"v1"}


def test_a_canary_gets_its_share_of_the_runs_and_always_the_same_ones(stable: Release) -> None:
    trial = tried(stable, "v2", 0.2, by(Action.CANARY))
    chosen = [run for run in RUNS if trial.version_for(run) == "v2"]
    assert 0.16 < len(chosen) / len(RUNS) < 0.24
    wider = tried(stable, "v2", 0.5, by(Action.CANARY))
    assert all(wider.version_for(run) == "v2" for run in chosen)


def test_two_roles_try_their_canaries_on_different_runs(stable: Release) -> None:
    planner = tried(stable, "v2", 0.5, by(Action.CANARY))
    caller = tried(first(Role.CALLER, "v1", by(Action.RELEASE)), "v2", 0.5, by(Action.CANARY))
    both = sum(planner.version_for(run) == caller.version_for(run) for run in RUNS)
    assert 0.4 < both / len(RUNS) < 0.6


def test_promoting_makes_the_canary_stable(stable: Release) -> None:
    after = promoted(tried(stable, "v2", 0.2, by(Action.CANARY)), by(Action.PROMOTE))
    assert (after.stable, after.canary, after.generation) == ("v2", None, 3)
    with pytest.raises(BadInput, match="no canary"):
        promoted(after, by(Action.PROMOTE))


def test_rolling_back_ends_a_trial_first_and_then_returns_to_the_version_before(stable: Release) -> None:
    second = released(stable, "v2", by(Action.RELEASE))
    trial = tried(second, "v3", 0.2, by(Action.CANARY))
    ended = rolled_back(trial, by(Action.ROLLBACK))
    assert (ended.stable, ended.canary) == ("v2", None)
    before = rolled_back(ended, by(Action.ROLLBACK))
    assert before.stable == "v1"
    with pytest.raises(BadInput, match="no earlier version"):
        rolled_back(stable, by(Action.ROLLBACK))


def test_the_stable_version_cannot_be_tried_on_itself(stable: Release) -> None:
    with pytest.raises(BadInput, match="stable already"):
        tried(stable, "v1", 0.2, by(Action.CANARY))


def test_a_shadow_stays_through_other_changes_until_its_version_is_served(stable: Release) -> None:
    followed = shadowed(stable, "v3", 0.5, by(Action.SHADOW))
    assert followed.versions == ("v1", "v3")
    assert 0.4 < sum(followed.is_shadowed(run) for run in RUNS) / len(RUNS) < 0.6
    trial = tried(followed, "v2", 0.2, by(Action.CANARY))
    assert trial.versions == ("v1", "v2", "v3")
    assert released(trial, "v3", by(Action.RELEASE)).shadow is None
    assert unshadowed(trial, by(Action.SHADOW)).versions == ("v1", "v2")
    with pytest.raises(BadInput, match="served already"):
        shadowed(trial, "v2", 0.5, by(Action.SHADOW))
    with pytest.raises(BadInput, match="no shadow"):
        unshadowed(stable, by(Action.SHADOW))


def test_the_shadow_follows_other_runs_than_those_of_the_canary(stable: Release) -> None:
    both = shadowed(tried(stable, "v2", 0.5, by(Action.CANARY)), "v3", 0.5, by(Action.SHADOW))
    followed = [run for run in RUNS if both.is_shadowed(run)]
    assert 0.4 < sum(both.version_for(run) == "v2" for run in followed) / len(followed) < 0.6


def test_the_history_forgets_what_is_oldest(stable: Release) -> None:
    after = stable
    for _ in range(KEPT + 2):
        after = released(after, "v1", by(Action.RELEASE))
    assert (after.generation, len(after.history), after.history[0].generation) == (KEPT + 3, KEPT, 3)


def test_the_history_tells_every_earlier_state_with_who_and_why(stable: Release) -> None:
    after = released(released(stable, "v2", by(Action.RELEASE, "faster")), "v3", by(Action.RELEASE))
    assert [(state.generation, state.stable, state.who, state.why) for state in after.history] == [
        (1, "v1", "ada", ""), (2, "v2", "ada", "faster"),
    ]  # fmt: skip
