"""Strings with a space in front: which ones have it, and that nothing is lost by it."""

import json

import jsonschema

from training.instances import instances
from umi.grammar import call_schema, call_text
from umi.prompt import PromptTemplate
from umi.roles import Role, Turn
from umi.spacing import spaced, unspaced, with_room
from umi.trajectory import Call, JsonObject, Plan, Step, ToolSpec, Trajectory

STRING: JsonObject = {"type": "string"}
FIELDS: JsonObject = {
    "city": {"type": "string", "maxLength": 7},
    "variable": {"type": "string", "minLength": 1, "maxLength": 1},
    "unit": {"enum": ["km", "miles"]},
    "day": {"type": "string", "format": "date"},
    "code": {"type": "string", "pattern": "^[A-Z]{3}$"},
    "note": {"anyOf": [STRING, {"type": "null"}]},
    "names": {"type": "array", "items": STRING},
    "person": {"type": "object", "properties": {"name": STRING, "age": {"type": "integer"}}},
    "anything": True,
}
TOOL = ToolSpec(name="weather", parameters={"type": "object", "properties": FIELDS})
ARGUMENTS: JsonObject = {
    "city": "Lucknow",
    "variable": "x",
    "unit": "km",
    "day": "2026-01-01",
    "code": "LHR",
    "note": " kept",
    "names": ["Ada", ""],
    "person": {"name": "Bo", "age": 3},
    "anything": "at all",
}
CALL = Call(tool="weather", arguments=ARGUMENTS)


def test_free_strings_have_a_space_in_front_and_those_their_schema_fixes_have_none() -> None:
    assert spaced(CALL, [TOOL]).arguments == ARGUMENTS | {
        "city": " Lucknow",
        "variable": " x",
        "note": "  kept",
        "names": [" Ada", " "],
        "person": {"name": " Bo", "age": 3},
    }


def test_what_was_spaced_comes_back_as_it_was() -> None:
    assert unspaced(spaced(CALL, [TOOL]), [TOOL]) == CALL


def test_a_forgotten_space_is_not_missed_and_an_unknown_tool_is_left_alone() -> None:
    assert unspaced(Call(tool="weather", arguments={"city": "Pune"}), [TOOL]).arguments == {"city": "Pune"}
    stranger = Call(tool="other", arguments={"city": " Pune"})
    assert unspaced(stranger, [TOOL]) == spaced(stranger, [TOOL]) == stranger


def test_the_constraint_admits_the_longest_string_with_its_space_and_no_longer_one() -> None:
    admitted = jsonschema.Draft202012Validator(call_schema(with_room([TOOL])))
    assert admitted.is_valid(json.loads(call_text(spaced(CALL, [TOOL]))))
    for city in ("Lucknowx", ""):
        longer = CALL.model_copy(update={"arguments": {"city": city, "variable": city}})
        assert not admitted.is_valid(json.loads(call_text(spaced(longer, [TOOL]))))


def test_a_caller_learns_spaced_strings_and_reads_earlier_calls_without() -> None:
    plan = Plan(rationale="I ask.", turn=Turn.CALLER)
    call = Call(tool="weather", arguments={"city": "Pune"})
    trajectory = Trajectory(query="Pune?", tools=(TOOL,), steps=(Step(plan=plan, call=call, observation="dry"),) * 2)
    learnt = [each for each in instances(trajectory, None, PromptTemplate.default()) if each.role is Role.CALLER]
    assert [each.target for each in learnt] == ['{"name": "weather", "arguments": {"city": " Pune"}}'] * 2
    assert call_text(call) in learnt[1].prompt
