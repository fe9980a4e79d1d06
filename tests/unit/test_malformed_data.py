"""Data that is broken: what is reported, where, and that nothing else is lost by it."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.foreign import AGAIN, ANSWER, CHAIN, LINE, RUN, SAMPLES, function, message, reasons, with_chain
from training.formats import Form, Reading, read
from training.records import learnt
from umi.prompt import PromptTemplate
from umi.trajectory import JsonObject


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
