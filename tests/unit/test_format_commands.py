"""Data beside the reference's own: the comparison, and the two commands."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from tests.foreign import CHAIN, LINE, message, with_chain
from training.commands_formats import compare_instances, inspect
from training.formats import Reading
from training.formats.reference import compare, targets


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
