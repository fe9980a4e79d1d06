"""Data in the forms of others: what becomes of a trajectory, what is never a target, what is reported as malformed."""

import json
from collections.abc import Callable, Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from training.commands_formats import compare_instances, inspect
from training.formats import Form, Reading, read
from training.formats.reference import compare, targets
from training.records import Record, decodable, learnt
from umi.grammar import MAX_RATIONALE_CHARS
from umi.prompt import PromptTemplate
from umi.roles import Role, Turn
from umi.trajectory import Call, JsonObject, Plan, Step, ToolSpec, Trajectory

AGAIN = "You tried this before; do otherwise."


def message(rationale: str | None, name: str, arguments: Any) -> JsonObject:
    """An assistant's message of ToolBench."""
    text = arguments if isinstance(arguments, str) else json.dumps(arguments)
    return {"role": "assistant", "content": rationale, "function_call": {"name": name, "arguments": text}}


def function(content: str) -> JsonObject:
    return {"role": "function", "name": "tide", "content": content}


DOCUMENT = {"Name": "tide", "function": "Tide times.", "input": {"port": "STRING, where", "day": "moon day, when"}}
CHAIN: JsonObject = {
    "tools": [DOCUMENT],
    "instruction": "High tide in Brest?",
    "chains": [
        {"role": "system", "content": "You may use tools."},
        {"role": "user", "content": "\nHigh tide in Brest?\nBegin!\n"},
        {"role": "assistant", "content": "Let me think."},
        message("I ask for the tide.", "tide", {"port": "Brest"}),
        function('{"error": "", "response": "{\'high\': \'6:10\'}"}'),
        {"role": "user", "content": AGAIN},
        message("It is known.\n", "Finish", {"return_type": "give_answer", "final_answer": "At 6:10."}),
    ],
}
SCHEMA = {
    "type": "object",
    "properties": {"port": {"type": "string", "description": "where"}},
    "required": ["port", "gone"],
}
ANSWER: JsonObject = {
    "answer_generation": {
        "query": "High tide in Brest?",
        "function": [{"name": "x" * 10 + "tide" * 16, "parameters": SCHEMA}, {"name": "Finish", "parameters": SCHEMA}],
        "train_messages": [[message("No.", "tide", {})], CHAIN["chains"]],
    }
}
CONVERSATION: JsonObject = {
    "tools": [DOCUMENT],
    "instruction": "High tide in Brest?",
    "conversations": [
        {"from": "user", "value": "High tide in Brest?"},
        {"from": "assistant", "value": "Let me think.\n"},
        {"from": "assistant", "value": "I ask for the tide.\n Next: caller."},
        {"from": "caller", "value": 'Action: tide\nAction Input: {\n  "port": "Brest"\n}'},
        {"from": "observation", "value": "{'high': '6:10'}"},
        {"from": "user", "value": AGAIN},
        {"from": "assistant", "value": "It is known.\n\n Next: conclusion."},
        {"from": "conclusion", "value": "At 6:10."},
    ],
}
SERVICE = {
    "openapi": "3.0.0",
    "paths": {"/tide": {"get": {"operationId": "tide", "parameters": [{"name": "port", "in": "query"}]}}},
}
ALPACA: JsonObject = {
    "Name": "Sea",
    "Documentation": json.dumps(SERVICE),
    "Instructions": ["High tide in Brest?", "And where I am?"],
    "Golden_Answers": [
        [{"Action": "tide", "Action_Input": '{"port": "Brest"}'}],
        [
            {"Action": "getDetails", "Action_Input": '{"question": "Where are you?"}'},
            {"Action": "tide", "Action_Input": '{"port": ${port from getDetails}, "deep": ${a depth}"}'},
        ],
    ],
}
LINE: JsonObject = {
    "source": "sea",
    "id": 4,
    "tools": [
        '{"apiCode": "tide", "description": "Tide times.", "parameters": {"port": {"type": "str"}}}',
        "finish[x]",
    ],
    "query": "High tide in Brest?",
    "steps": [
        {"thought": "I ask.", "action": "tide", "args": {"port": "Brest"}, "observation": "6:10"},
        {"thought": "", "action": "tide", "args": "port=Brest, day=first, at noon", "observation": "18:30"},
    ],
    "answer": "At 6:10.",
}
RUN: JsonObject = {
    "run_id": "r1",
    "query": "High tide in Brest?",
    "tools": ["tide"],
    "outcome": "answered",
    "answer": "At 6:10.",
    "steps": [
        {
            "rationale": "I ask.",
            "turn": "caller",
            "call": {"tool": "tied", "arguments": {}},
            "observation": "Not sent.",
            "tool_outcome": "rejected",
        },
        {
            "rationale": "I ask again.",
            "turn": "caller",
            "call": {"tool": "tide", "arguments": {}},
            "observation": "6:10",
            "tool_outcome": "ok",
        },
        {"rationale": "Known.", "turn": "conclusion", "call": None, "observation": None, "tool_outcome": None},
    ],
}
SAMPLES = {
    Form.TOOLBENCH: CHAIN,
    Form.ALPHA_UMI: CONVERSATION,
    Form.TOOLALPACA: ALPACA,
    Form.STEPS: LINE,
    Form.RUNS: RUN,
}


@pytest.fixture
def reading(tmp_path: Path) -> Callable[..., Reading]:
    """Read entries, written as a JSON list, or a file's own text."""

    def of(content: Any, name: str = "data.json", form: Form | None = None) -> Reading:
        path = tmp_path / name
        path.write_text(content if isinstance(content, str) else json.dumps(content), "utf-8")
        return read(path, form)

    return of


def with_chain(*messages: JsonObject) -> JsonObject:
    """ToolBench's sample with other turns after the question."""
    return CHAIN | {"chains": [*CHAIN["chains"][:2], *messages]}


def reasons(reading: Reading) -> list[str]:
    return [f"{item.place}: {item.reason}" for item in reading.report.malformed]


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


def test_one_truncated_line_costs_that_line_only(reading: Callable[..., Reading]) -> None:
    line = json.dumps(LINE)
    found = reading(f"{line}\n\n{line[:80]}\n{line}\n", "data.jsonl")
    assert (len(found.records), [item.place for item in found.report.malformed]) == (2, ["line 3"])
    assert "data.jsonl, line 3: not JSON" in str(found.report.malformed[0])


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("", "file: is empty"),
        ("[]", "file: is an empty list"),
        (json.dumps([LINE])[:-40], "line 1: not JSON"),
        ("[" * 100_000, "file: not JSON"),
        ("[3]", "index 0: expected a JSON object"),
        ('{"weather": "fine"}', "file: expected toolbench: {"),
        ('{"tools": "\\ud800", "query": "q", "steps": []}', "file: not JSON"),
        ('{"tools": [NaN], "query": "q", "steps": []}', "file: not JSON"),
        ('{"tools": [1e999], "query": "q", "steps": []}', "file: not JSON"),
    ],
)
def test_what_is_no_data_says_what_was_expected(content: str, reason: str, reading: Callable[..., Reading]) -> None:
    (found,) = reasons(reading(content))
    assert found.startswith(reason)


def test_bytes_that_are_no_text_are_malformed(tmp_path: Path) -> None:
    path = tmp_path / "data.json"
    path.write_bytes(b"\xff\xfe\x00")
    (item,) = read(path).report.malformed
    assert (item.file, item.place) == (path, "file")


def test_entries_of_another_form_in_a_file_are_malformed(reading: Callable[..., Reading]) -> None:
    found = reading([{"weather": "fine"}, LINE, RUN])
    assert len(found.records) == 1
    assert sorted(item.place for item in found.report.malformed) == ["index 0", "index 2"]
    assert all('"thought", "action"' in item.reason for item in found.report.malformed)


def test_a_folder_is_read_with_a_form_for_each_file(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "a.json").write_text(json.dumps([CHAIN]))
    (tmp_path / "b.jsonl").write_text(json.dumps(RUN))
    (tmp_path / "notes.txt").write_text("no data")
    assert read(tmp_path).report.records == {Form.RUNS: 1, Form.TOOLBENCH: 1}
    assert read(tmp_path / "deep").report.malformed == []


def test_a_folder_without_data_is_not_silence(tmp_path: Path) -> None:
    assert "holds no" in read(tmp_path).report.malformed[0].reason
    with pytest.raises(FileNotFoundError, match="nowhere does not exist"):
        read(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("messages", "reason"),
    [
        ([message("a", "Finish", {"final_answer": "b"}), message("c", "tide", {})], "go on after Next: conclusion."),
        ([message("a", "Finish", {"final_answer": "b"}), function("{}")], "go on after Next: conclusion."),
        ([message("a", "tide", {}), message("c", "tide", {})], "without an observation"),
        ([message("a", "tide", {}), {"role": "user", "content": AGAIN}], "without an observation"),
        ([function("{}")], "an observation without a call"),
        ([message("a", "tide", "[1]")], "chains[2].function_call.arguments: expected an object, found a list"),
        ([{"role": "assistant", "content": "hm"}], "no turn of the assistant"),
        ([], "no turn of the assistant"),
    ],
)
def test_turns_that_cannot_follow_make_an_entry_malformed(
    messages: list[JsonObject], reason: str, reading: Callable[..., Reading]
) -> None:
    found = reading([with_chain(*messages)])
    assert found.records == []
    assert reason in reasons(found)[0]


def mutants(value: Any) -> Iterator[Any]:
    """`value` with any one part of it replaced by something of another type."""
    yield from (None, 3, True, "x", [], [None], {}, {"x": 3})
    if isinstance(value, dict):
        for key in value:
            yield from (value | {key: mutant} for mutant in mutants(value[key]))
            yield {name: item for name, item in value.items() if name != key}
    elif isinstance(value, list):
        for index in range(len(value)):
            yield from ([*value[:index], mutant, *value[index + 1 :]] for mutant in mutants(value[index]))


@pytest.mark.parametrize(("form", "sample"), [*SAMPLES.items(), (Form.TOOLBENCH, ANSWER)])
def test_wrong_types_anywhere_are_reported_and_never_lost(
    form: Form, sample: JsonObject, reading: Callable[..., Reading]
) -> None:
    template = PromptTemplate.default()
    broken = list(mutants(sample))
    found = reading(broken, form=form)
    for record in found.records:
        assert all(instance.target for instance in learnt(record, template))
    places = {item.place for item in found.report.malformed}
    assert len(places) + len(found.records) >= len(broken)  # an entry of ToolAlpaca can be both
    assert len(places) > len(broken) / 3


def test_reference_targets_are_in_the_text_form_of_the_reference(reading: Callable[..., Reading]) -> None:
    records = reading([CHAIN, with_chain(message(None, "Finish", {"return_type": "give_up_and_restart"}))]).records
    call = 'Action: tide\nAction Input: {\n  "port": "Brest"\n}'
    assert list(targets(records, "planner")) == [
        "I ask for the tide.\n Next: caller.",
        "It is known.\n\n Next: conclusion.",
        " Next: give up.",
    ]
    assert list(targets(records, "caller")) == [call]
    assert list(targets(records, "summarizer")) == ["At 6:10."]
    assert list(targets(records, "backbone")) == [
        f"I ask for the tide.\n{call}",
        "It is known.\nconclusion: At 6:10.",
        "\nconclusion: give up.",
    ]


def test_one_instance_too_many_does_not_make_the_others_different() -> None:
    found = compare("planner", ["a", "b", "c"], ["b", "x", "d"])
    assert (found.ours, found.theirs, found.equal) == (3, 3, 1)
    assert found.differences == [("a", None), ("c", "x"), (None, "d")]


@pytest.fixture
def app() -> typer.Typer:
    app = typer.Typer()
    app.command("inspect")(inspect)
    app.command("compare-instances")(compare_instances)
    return app


def test_the_comparison_shows_every_difference_and_fails_on_one(tmp_path: Path, app: typer.Typer) -> None:
    (raw := tmp_path / "raw.json").write_text(json.dumps([CHAIN]))
    good, bad = tmp_path / "train_summarizer.json", tmp_path / "train_backbone.json"
    good.write_text(json.dumps([{"target": "At 6:10."}]))
    bad.write_text(json.dumps([{"target": "something else"}]))
    assert CliRunner().invoke(app, ["compare-instances", str(raw), str(good)]).exit_code == 0
    found = CliRunner().invoke(app, ["compare-instances", str(raw), str(good), str(bad)])
    assert found.exit_code == 1
    assert "'something else'" in found.output
    bad.write_text('{"target"')
    found = CliRunner().invoke(app, ["compare-instances", str(raw), str(bad)])
    assert (found.exit_code, "train_backbone.json: expected a list of" in found.output) == (2, True)


def test_inspecting_prints_counts_and_what_is_malformed(tmp_path: Path, app: typer.Typer) -> None:
    (path := tmp_path / "data.jsonl").write_text(json.dumps(LINE) + "\n{\n{\n")
    found = CliRunner().invoke(app, ["inspect", str(path), "--show", "1"])
    row = found.output.splitlines()[1].split()
    assert row[1:] == ["steps", "1", "2", "2", "1", "0", "2/0", "0"]
    assert "data.jsonl, line 2: not JSON" in found.output
    assert "1 more malformed" in found.output
    assert CliRunner().invoke(app, ["inspect", str(tmp_path / "nowhere")]).exit_code == 2
