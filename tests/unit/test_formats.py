"""Data in the forms of others: what becomes of a trajectory, and what is never a target."""

import json
from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest

from tests.foreign import (
    AGAIN,
    ALPACA,
    ANSWER,
    CHAIN,
    CONVERSATION,
    LINE,
    RUN,
    SAMPLES,
    function,
    message,
    reasons,
    with_chain,
)
from training.formats import Form, Reading
from training.records import Record, decodable, learnt
from umi.grammar import MAX_RATIONALE_CHARS
from umi.prompt import PromptTemplate
from umi.roles import Role, Turn
from umi.trajectory import Call, Plan, Step, ToolSpec, Trajectory


@pytest.mark.parametrize("form", Form)
def test_a_file_tells_its_form_by_itself(form: Form, reading: Callable[..., Reading]) -> None:
    found = reading([SAMPLES[form]])
    assert (found.report.malformed, list(found.report.records)) == ([], [form])
    assert found.records == reading([SAMPLES[form]], form=form).records


@pytest.mark.parametrize("form", [Form.TOOLBENCH, Form.ALPHA_UMI])
def test_a_chain_and_its_conversation_are_the_same_trajectory(form: Form, reading: Callable[..., Reading]) -> None:
    (record,) = reading([SAMPLES[form]]).records
    asked, known = record.trajectory.steps
    assert asked.plan == Plan(rationale="I ask for the tide.", turn=Turn.CALLER)
    assert asked.call == Call(tool="tide", arguments={"port": "Brest"})
    assert known == Step(plan=Plan(rationale="It is known.\n", turn=Turn.CONCLUSION))
    assert (record.answer, record.remarks, record.unlearnt) == ("At 6:10.", 1, ())
    assert record.trajectory.query == "High tide in Brest?"


def test_a_tool_document_becomes_json_schema_and_unknown_types_become_words(reading: Callable[..., Reading]) -> None:
    (record,) = reading([CONVERSATION]).records
    (tool,) = record.trajectory.tools
    assert (tool.name, tool.description) == ("tide", "Tide times.")
    assert tool.parameters["properties"] == {
        "port": {"type": "string", "description": "where"},
        "day": {"description": "moon day, when"},
    }


def test_what_the_user_says_again_is_read_in_its_place(reading: Callable[..., Reading]) -> None:
    early = with_chain({"role": "user", "content": AGAIN}, *CHAIN["chains"][3:5])
    late, first = reading([CHAIN, early]).records
    assert late.trajectory.steps[0].observation == "{'high': '6:10'}\n\n" + AGAIN
    assert (late.trajectory.query, late.user_turns) == ("High tide in Brest?", (1,))
    assert first.trajectory.query == "High tide in Brest?\n\n" + AGAIN
    assert (first.trajectory.steps[0].observation, first.user_turns) == ("{'high': '6:10'}", (0,))


def test_only_the_last_training_chain_of_an_answer_file_counts(reading: Callable[..., Reading]) -> None:
    (record,) = reading(ANSWER, "17_dfs.json").records
    (tool,) = record.trajectory.tools
    assert (record.id, record.answer, tool.name) == ("17_dfs", "At 6:10.", "tide" * 16)
    assert tool.parameters["required"] == ["port"]


@pytest.mark.parametrize(
    ("arguments", "turn", "answer"),
    [
        ({"return_type": "give_up_and_restart"}, Turn.GIVE_UP, None),
        ('{"return_type": "give_up_and_restart", ', Turn.GIVE_UP, None),
        ({"return_type": "give_answer"}, Turn.CONCLUSION, None),
        ('{"return_type": "give_answer", "final_answer": "At 6:', Turn.CONCLUSION, "At 6:"),
        ('{return_type: give_answer, "final_answer": "At 6:10."}', Turn.CONCLUSION, "At 6:10."),
        ('{"final_answer": "Two\nlines"}', Turn.CONCLUSION, "Two\nlines"),
    ],
)
def test_a_finish_ends_the_trajectory(
    arguments: Any, turn: Turn, answer: str | None, reading: Callable[..., Reading]
) -> None:
    (record,) = reading([with_chain(message("Enough.", "Finish", arguments))]).records
    assert (record.trajectory.steps[-1].plan.turn, record.answer) == (turn, answer)


@pytest.mark.parametrize(
    ("content", "observation"),
    [
        ('{"error": "lost", "response": ""}', ""),
        ('{"error": "", "response": "6:10 and then', ' "6:10 and then'),
        ('{"response": {"high": 6}}', '{"high": 6}'),
        ("gone", ""),
    ],
)
def test_an_observation_is_the_response_of_what_a_tool_returned(
    content: str, observation: str, reading: Callable[..., Reading]
) -> None:
    (record,) = reading([with_chain(message("I ask.", "tide", {}), function(content))]).records
    assert record.trajectory.steps[0].observation == observation


def test_a_made_up_call_stays_in_the_history_and_is_nobodys_target(reading: Callable[..., Reading]) -> None:
    made_up = message("I guess.", "invalid_hallucination_function_name", {})
    (record,) = reading([with_chain(made_up, function('{"response": "no such"}'), *CHAIN["chains"][3:])]).records
    taught = list(learnt(record, PromptTemplate.default()))
    assert [instance.role for instance in taught] == [Role.PLANNER, Role.CALLER, Role.PLANNER, Role.SUMMARIZER]
    assert not any("I guess." in instance.target for instance in taught)
    assert all("I guess." in instance.prompt for instance in taught)


def test_golden_calls_keep_their_open_values_and_are_never_learnt(reading: Callable[..., Reading]) -> None:
    first, second = reading([ALPACA]).records
    assert [tool.name for tool in first.trajectory.tools] == ["tide"]
    assert second.trajectory.steps[1].call == Call(
        tool="tide", arguments={"port": "${port from getDetails}", "deep": "${a depth}"}
    )
    assert list(learnt(second, PromptTemplate.default())) == []


def test_a_bad_golden_answer_costs_its_own_instruction_only(reading: Callable[..., Reading]) -> None:
    broken = deepcopy(ALPACA)
    broken["Golden_Answers"][0][0]["Action_Input"] = '{"port": '
    found = reading([broken])
    assert [record.trajectory.query for record in found.records] == ["And where I am?"]
    assert [reason[:42] for reason in reasons(found)] == ["index 0: Golden_Answers[0][0].Action_Input"]


def test_steps_without_a_thought_teach_the_caller_but_not_the_planner(reading: Callable[..., Reading]) -> None:
    (record,) = reading(json.dumps(LINE) + "\n", "data.jsonl").records
    assert (record.id, record.source) == ("sea:4", "sea")
    assert [tool.name for tool in record.trajectory.tools] == ["tide"]
    assert record.trajectory.steps[1].call == Call(tool="tide", arguments={"port": "Brest", "day": "first, at noon"})
    assert record.unlearnt == ((1, Role.PLANNER), (2, Role.PLANNER))


def test_a_rejected_call_of_a_run_is_not_learnt_and_a_failed_run_teaches_nothing(
    reading: Callable[..., Reading],
) -> None:
    failed = RUN | {"outcome": "failed", "answer": None, "steps": [RUN["steps"][1], RUN["steps"][0] | {"call": None}]}
    good, bad = reading([RUN, failed]).records
    assert good.unlearnt == ((0, Role.CALLER),)
    assert list(learnt(bad, PromptTemplate.default())) == []


def test_a_call_that_a_person_refused_is_not_learnt_nor_the_plan_that_led_to_it(
    reading: Callable[..., Reading],
) -> None:
    refused = RUN["steps"][0] | {"tool_outcome": "refused", "approval": {"approve": False}, "needs_approval": True}
    (record,) = reading([RUN | {"steps": [refused, *RUN["steps"][1:]]}]).records
    assert record.unlearnt == ((0, Role.CALLER), (0, Role.PLANNER))
    assert record.trajectory.steps[0].observation == "Not sent.", "what came of it stays in the history"
    expired = RUN | {"outcome": "expired", "answer": None, "steps": [RUN["steps"][1], refused | {"observation": None}]}
    assert list(learnt(reading([expired]).records[0], PromptTemplate.default())) == []
    assert reasons(reading([RUN | {"outcome": None, "status": "requires_action"}])) == [
        "index 0: the run has not ended"
    ]


def test_a_run_may_carry_the_documents_of_its_tools(reading: Callable[..., Reading]) -> None:
    spec = ToolSpec(name="tide", parameters={"type": "object", "properties": {"port": {"type": "string"}}})
    (record,) = reading([RUN | {"tools": [spec.model_dump()]}]).records
    assert record.trajectory.tools == (spec,)


def test_a_run_that_goes_on_is_malformed(reading: Callable[..., Reading]) -> None:
    assert reasons(reading([RUN | {"outcome": None}])) == ["index 0: the run has not ended"]


def recorded(rationale: str, call: Call) -> Record:
    parameters = {"type": "object", "properties": {"port": {"type": "string"}}}
    tools = (ToolSpec(name="tide", parameters=parameters),)
    step = Step(plan=Plan(rationale=rationale, turn=Turn.CALLER), call=call, observation="6:10")
    return Record(id="1", source="sea", trajectory=Trajectory(query="High tide?", tools=tools, steps=(step,)))


def test_rationales_become_what_the_decoder_can_write() -> None:
    long = "First this.\n\nThen " + "that " * MAX_RATIONALE_CHARS
    (step,) = decodable(recorded(long, Call(tool="tide"))).trajectory.steps
    assert step.plan.rationale == "First this."
    (step,) = decodable(recorded("word " * MAX_RATIONALE_CHARS, Call(tool="tide"))).trajectory.steps
    assert MAX_RATIONALE_CHARS - 6 < len(step.plan.rationale) <= MAX_RATIONALE_CHARS
    assert step.plan.rationale.endswith("word")


@pytest.mark.parametrize(
    ("rationale", "call", "unlearnt"),
    [
        ("I ask.", Call(tool="tide", arguments={"port": "Brest"}), ()),
        (" \n", Call(tool="tide"), ((0, Role.PLANNER),)),
        ("I ask.", Call(tool="tied"), ((0, Role.CALLER),)),
        ("I ask.", Call(tool="tide", arguments={"moon": 1}), ((0, Role.CALLER),)),
    ],
)
def test_what_the_decoder_cannot_write_is_not_learnt(
    rationale: str, call: Call, unlearnt: tuple[tuple[int, Role], ...]
) -> None:
    assert decodable(recorded(rationale, call)).unlearnt == unlearnt


@pytest.mark.parametrize("form", Form)
def test_a_record_survives_being_written_down(form: Form, reading: Callable[..., Reading]) -> None:
    for record in reading([SAMPLES[form]]).records:
        assert Record.model_validate_json(record.model_dump_json()) == record
