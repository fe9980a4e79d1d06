"""Writer, decoding constraint and parser of each role agree with each other."""

import json
import re

import jsonschema
import pytest

from umi.errors import RoleOutputInvalid
from umi.grammar import (
    MAX_RATIONALE_CHARS,
    call_schema,
    call_text,
    parse_answer,
    parse_call,
    parse_plan,
    plan_regex,
    plan_text,
)
from umi.roles import Turn
from umi.trajectory import Call, Plan, ToolSpec

CITY = {"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer"}}, "required": ["city"]}
OFFERED = (
    ToolSpec(name="weather", parameters=CITY),
    ToolSpec(name="now"),
    ToolSpec(name="log", parameters={"type": "object", "additionalProperties": True}),
)
RATIONALES = ("Use weather.", "Then say 'Next: caller.' aloud", 'É 東京 "1,000.5" \\', "x" * MAX_RATIONALE_CHARS)


@pytest.mark.parametrize("turn", Turn)
@pytest.mark.parametrize("rationale", RATIONALES)
def test_a_plan_that_is_written_is_admitted_and_read_back_as_it_was(turn: Turn, rationale: str) -> None:
    plan = Plan(rationale=rationale, turn=turn)
    assert parse_plan(plan_text(plan)) == plan
    assert re.fullmatch(plan_regex(), plan_text(plan))


def test_the_last_next_of_a_plan_counts() -> None:
    plan = parse_plan("I thought Next: caller. But no tool fits. Next: give up.")
    assert plan == Plan(rationale="I thought Next: caller. But no tool fits.", turn=Turn.GIVE_UP)


@pytest.mark.parametrize("text", ["Ask.  Next: caller", "Ask.\nNext: caller.\n", " Ask. Next: caller. "])
def test_space_around_a_plan_and_a_missing_full_stop_are_forgiven(text: str) -> None:
    assert parse_plan(text) == Plan(rationale="Ask.", turn=Turn.CALLER)


@pytest.mark.parametrize(
    "text",
    ["", "Ask.", "Ask. Next:", "Ask. Next: summarizer.", "Ask. Next: caller. And more", "Ask. next: caller.",
     "Ask. Next: Caller.", "Next: caller. Next: nobody."],
)  # fmt: skip
def test_nobodys_turn_is_ever_guessed(text: str) -> None:
    with pytest.raises(RoleOutputInvalid, match="Next: caller"):
        parse_plan(text)
    assert not re.fullmatch(plan_regex(), text)


@pytest.mark.parametrize(
    "text", [" Next: caller.", "Two\nlines. Next: caller.", "x" * (MAX_RATIONALE_CHARS + 1) + " Next: caller."]
)
def test_decoding_admits_one_line_of_bounded_length(text: str) -> None:
    assert not re.fullmatch(plan_regex(), text)


@pytest.mark.parametrize(
    "call",
    [
        Call(tool="weather", arguments={"city": 'Åre "<|im_end|>"', "days": 3}),
        Call(tool="weather", arguments={"city": ""}),
        Call(tool="now"),
        Call(tool="log", arguments={"anything": [1, None, {"deep": True}]}),
    ],
)
def test_a_call_that_is_written_is_admitted_and_read_back_as_it_was(call: Call) -> None:
    assert parse_call(call_text(call)) == call
    jsonschema.validate(json.loads(call_text(call)), call_schema(OFFERED))


@pytest.mark.parametrize(
    "data",
    [
        {"name": "rain", "arguments": {}},
        {"name": "weather", "arguments": {}},
        {"name": "weather", "arguments": {"city": 3}},
        {"name": "weather", "arguments": {"city": "Oslo", "days": "3"}},
        {"name": "weather", "arguments": {"city": "Oslo", "country": "NO"}},
        {"name": "now", "arguments": {"city": "Oslo"}},
        {"name": "now"},
        {"name": "now", "arguments": {}, "why": "because"},
        {"name": "now", "arguments": []},
        [],
    ],
)
def test_decoding_admits_nothing_but_offered_tools_with_valid_arguments(data: object) -> None:
    assert not jsonschema.Draft202012Validator(call_schema(OFFERED)).is_valid(data)


@pytest.mark.parametrize(
    "text",
    [
        "", "now()", "[]", '"now"', "null", '{"name": "now"}', '{"name": 1, "arguments": {}}',
        '{"name": "now", "arguments": []}', '{"name": "now", "arguments": {}, "why": ""}',
        '{"name": "now", "arguments": {}} {}', '{"name": "now", "arguments": {"a": NaN}}',
        '{"name": "now", "arguments": {"a": "\\ud800"}}', "[" * 100_000,
    ],
)  # fmt: skip
def test_what_is_not_exactly_a_call_is_refused(text: str) -> None:
    with pytest.raises(RoleOutputInvalid, match="caller"):
        parse_call(text)


def test_an_answer_is_stripped_and_never_empty() -> None:
    assert parse_answer(" 42\n") == "42"
    with pytest.raises(RoleOutputInvalid, match="empty"):
        parse_answer(" \n")
