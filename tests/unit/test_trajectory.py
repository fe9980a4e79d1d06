"""Trajectories are values: they grow by copies, and a misspelt field is never silently lost."""

import pytest
from pydantic import ValidationError

from umi.roles import Turn
from umi.trajectory import Call, Plan, Step, ToolSpec, Trajectory

PLANNED = Step(plan=Plan(rationale="Ask.", turn=Turn.CALLER))


def test_appending_leaves_the_shorter_trajectory_as_it_was() -> None:
    empty = Trajectory(query="q")
    one = empty.append(PLANNED)
    assert (len(empty.steps), one.steps, one.query) == (0, (PLANNED,), "q")


def test_call_and_observation_are_filled_into_the_newest_step_only() -> None:
    two = Trajectory(query="q", steps=(PLANNED, PLANNED))
    filled = two.replace_last(call=Call(tool="now")).replace_last(observation="noon")
    assert filled.steps == (PLANNED, Step(plan=PLANNED.plan, call=Call(tool="now"), observation="noon"))
    assert two.steps == (PLANNED, PLANNED)


def test_a_trajectory_survives_the_wire() -> None:
    sent = Trajectory(query="東京?", tools=(ToolSpec(name="now"),), steps=(PLANNED,))
    assert Trajectory.model_validate_json(sent.model_dump_json()) == sent


@pytest.mark.parametrize(
    "wrong",
    [
        {"query": "q", "step": []},
        {"steps": []},
        {"query": "q", "steps": [{"plan": {"rationale": "r", "turn": "summarizer"}}]},
        {"query": "q", "steps": [{"plan": {"rationale": "r", "turn": "caller"}, "observed": ""}]},
        {"query": "q", "tools": [{"name": "not a name"}]},
        {"query": "q", "tools": [{"name": "x" * 65}]},
        {"query": "q", "tools": [{"name": ""}]},
    ],
)
def test_unknown_fields_turns_and_names_are_errors(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Trajectory.model_validate(wrong)


def test_values_cannot_be_changed_in_place() -> None:
    with pytest.raises(ValidationError):
        PLANNED.observation = "forged"  # type: ignore[misc]
