"""The static metrics: what the original evaluator would print, and a result where it would crash."""

import json
from pathlib import Path

import pytest
import typer

from training.commands_metrics import metrics
from training.metrics import (
    Illegible,
    Mode,
    Output,
    StepScore,
    argument_f1,
    mean_scores,
    read_arguments,
    read_output,
    score_step,
)
from training.rouge import rouge_l
from umi.errors import BadInput
from umi.roles import Turn
from umi.trajectory import JsonObject

CALL = "assistant: Look. Next: caller.</s>caller: Action: find\nAction Input: {}</s>"
GIVEN_UP = Output(turn=Turn.GIVE_UP)


def called(tool: str | None, arguments: JsonObject | Illegible | None = None) -> Output:
    return Output(turn=Turn.CALLER, tool=tool, arguments={} if arguments is None else arguments)


def concluded(answer: str | None) -> Output:
    return Output(turn=Turn.CONCLUSION, answer=answer)


@pytest.mark.parametrize(
    ("text", "output"),
    [
        ("No. Next: give up.", GIVEN_UP),
        ("Next: conclusion. Next: give up", GIVEN_UP),
        ("Next: conclusion.</s>conclusion: Say conclusion: 4 km.</s>", concluded("4 km.")),
        ("Done. Next: conclusion.</s>", concluded("Done. Next: conclusion.")),
        (CALL, called("find")),
        ('So.</s>Action: find\nAction Input: {"q": "x"}', called("find", {"q": "x"})),
        ('So.</s>Action Input: {"q": 1}\nAction: find', called("find", Illegible.NOT_JSON)),
        ("So.</s>Action: old Action: find</s>Action: late", called("find")),
        ("So.</s>Action: find\nAction Input: {\nAction Input: {}", called("find")),
        ("So.</s>caller: none", called(None)),
        ("So.</s>Action: none", called(None)),
        ("So.</s>Action: \nAction Input: 3", called("", Illegible.NOT_AN_OBJECT)),
    ],
)
def test_the_text_form_is_read_as_the_original_reads_it(text: str, output: Output) -> None:
    assert read_output(text, Mode.ORIGINAL) == read_output(text, Mode.REPAIRED) == output


def test_arguments_that_nest_too_deep_are_no_json() -> None:
    assert read_arguments("[" * 100_000) is Illegible.NOT_JSON


@pytest.mark.parametrize(
    ("text", "repaired"),
    [
        ("Next: caller. Action: find", called(None)),
        ("Next: conclusion.</s>conclusion:42 conclusion:7</s>", concluded("7")),
    ],
)
def test_where_the_original_crashes_on_a_text_only_repaired_reads_on(text: str, repaired: Output) -> None:
    assert read_output(text, Mode.REPAIRED) == repaired
    with pytest.raises(BadInput):
        read_output(text, Mode.ORIGINAL)


def test_only_the_callers_turn_can_have_a_tool() -> None:
    with pytest.raises(ValueError, match="without the caller's turn"):
        Output(turn=Turn.CONCLUSION, tool="find")


@pytest.mark.parametrize(
    ("reference", "prediction", "f1"),
    [
        ('{"a": 1, "b": 2}', '{"b": 2, "a": 1}', 1),
        ('{"a": 1, "b": 2}', '{"a": 1, "b": 3}', 0.75),
        ('{"a": 1, "b": 2}', '{"a": 9}', 1 / 3),  # half a match: recall 1/4, precision 1/2
        ('{"a": 1}', '{"a": 1, "b": 2, "c": 3}', 0.5),  # recall 1, precision 1/3
        ('{"a": 1}', '{"b": 1}', 0),
        ('{"a": 1}', "{}", 0),
        ('{"a": 1}', '["a"]', 0),
        ('{"a": 1}', "{a: 1}", 0),
        ("{}", "{}", 1),
        ("{}", '{"a": 1}', 0),
        ("{}", "[]", 0),
        ("[1]", "[1]", 0),
        ("{a: 1}", "{a: 1}", None),
    ],
)
def test_argument_f1_gives_half_a_match_for_a_key_with_another_value(
    reference: str, prediction: str, f1: float | None
) -> None:
    assert argument_f1(read_arguments(reference), read_arguments(prediction)) == pytest.approx(f1)


def test_a_wrong_tool_counts_as_zero_even_where_the_reference_arguments_are_illegible() -> None:
    reference = called("find", Illegible.NOT_JSON)
    wrong = score_step({"find", "see"}, reference, called("see"))
    assert (wrong.action_em, wrong.argument_f1, wrong.easy_f1, wrong.hard_f1) == (0, 0, 0, 0)
    right = score_step({"find"}, reference, called("find"))
    assert (right.action_em, right.argument_f1, right.easy_f1, right.hard_f1) == (1, None, None, None)


def test_easy_f1_takes_calls_without_arguments_and_hard_f1_those_with() -> None:
    easy = score_step({"find"}, called("find"), called("find"))
    hard = score_step({"find"}, called("find", {"a": 1}), called("find", {"a": 2}))
    assert (easy.easy_f1, easy.hard_f1, hard.easy_f1, hard.hard_f1) == (1, None, None, 0.5)


def test_not_calling_where_the_reference_calls_is_a_wrong_action() -> None:
    expected = StepScore(plan_acc=0, hallucination=0, action_em=0, argument_f1=0, easy_f1=0, hard_f1=0)
    for prediction in (GIVEN_UP, concluded("x"), Output(turn=None)):
        assert score_step({"find"}, called("find"), prediction) == expected


def test_a_tool_that_is_not_on_offer_is_hallucinated_whatever_the_reference_does() -> None:
    for reference in (called("find"), GIVEN_UP, concluded("Yes.")):
        assert score_step({"find"}, reference, called("seek")).hallucination == 1
        assert score_step({"find"}, reference, called("find")).hallucination == 0
    assert score_step({"find"}, called("find"), called(None)).hallucination == 0


def test_a_prediction_without_an_answer_is_compared_as_the_word_none() -> None:
    assert score_step((), concluded("none"), GIVEN_UP).rouge_l == pytest.approx(1)
    assert score_step((), concluded("none"), concluded(None)).rouge_l == pytest.approx(1)
    assert score_step((), GIVEN_UP, concluded("none")).rouge_l is None


@pytest.mark.parametrize(
    ("prediction", "reference", "precision", "recall"),
    [
        ("the cat sat", "the  cat\nran fast", 2 / 3, 2 / 4),
        ("a a a b", "b a", 1 / 2, 1 / 2),  # words are counted once; of a and b in either order one is common
        ("b. a", "a b", 1, 1),  # each sentence has its own common subsequence
        ("b a. a", "a b", 1, 1),  # the first sentence gives b, not a: ties fall as in the package
        ("4.5", "4 5", 1, 1),  # a dot ends a sentence even inside a number
        (" .x", "x", 1 / 2, 1),  # a sentence of white space is one empty word
        ("The", "the", 0, 0),
    ],
)
def test_rouge_l_counts_distinct_words_of_one_common_subsequence_per_pair_of_sentences(
    prediction: str, reference: str, precision: float, recall: float
) -> None:
    f = 2 * precision * recall / (precision + recall + 1e-8)
    assert rouge_l(prediction, reference) == pytest.approx(f, abs=1e-12)


@pytest.mark.parametrize(("prediction", "reference"), [("", "x"), ("..", "x"), ("x", ""), ("", "")])
def test_an_empty_answer_scores_nothing_and_crashes_the_original(prediction: str, reference: str) -> None:
    assert score_step((), concluded(reference), concluded(prediction), Mode.REPAIRED).rouge_l == 0
    with pytest.raises(BadInput, match="an empty answer"):
        score_step((), concluded(reference), concluded(prediction), Mode.ORIGINAL)


def test_every_mean_is_taken_over_the_steps_it_counts_and_says_how_many() -> None:
    call, answer = called("find", {"a": 1}), concluded("Yes.")
    pairs = [(call, call), (call, called("seek")), (call, GIVEN_UP), (answer, answer), (GIVEN_UP, GIVEN_UP)]
    scores = mean_scores((score_step({"find"}, *pair) for pair in pairs), Mode.ORIGINAL)
    rates = {name: (round(rate.value, 4), rate.count) for name, rate in scores}
    assert rates == {
        "plan_acc": (0.8, 5), "hallucination": (0.2, 5), "action_em": (0.3333, 3), "argument_f1": (0.3333, 3),
        "easy_f1": (0.0, 2), "hard_f1": (0.3333, 3), "rouge_l": (1.0, 1),
    }  # fmt: skip


def test_a_mean_over_nothing_is_zero_of_zero_and_crashes_the_original() -> None:
    steps = [score_step({"find"}, called("find"), called("find"))]
    scores = mean_scores(steps)
    assert (scores.hard_f1.value, scores.hard_f1.count, scores.rouge_l.count) == (0, 0, 0)
    with pytest.raises(BadInput, match="hard_f1"):
        mean_scores(steps, Mode.ORIGINAL)


def vectors(folder: Path, prediction: str, **changes: float) -> Path:
    """A file of two samples, the first predicted right, with the figures for a hallucinated tool in the second."""
    figures = {"plan_em": 1, "action_em": 0.5, "hallu_rate": 0.5, "f1": 0.5, "easy_f1": 0.5, "hard_f1": 0, "rouge": 0}
    samples = [
        {"tools": [{"Name": "find", "input": {}}], "reference": CALL, "predictions": text, "perturbation": "x"}
        for text in (CALL, prediction)
    ]
    path = folder / "vectors.json"
    path.write_text(json.dumps({"metrics": figures | changes, "samples": samples}))
    return path


def test_the_command_accepts_equal_figures_and_shows_both(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    metrics(vectors(tmp_path, CALL.replace("find", "seek")))
    assert "hallu_rate   0.5000000000  0.5000000000      0.0e+00      2" in capsys.readouterr().out


@pytest.mark.parametrize("wrong", [{"f1": 0.5 + 2e-9}, {"rouge": -1e-8}, {"easy_f1": float("nan")}])
def test_the_command_fails_when_a_figure_differs(tmp_path: Path, wrong: dict[str, float]) -> None:
    with pytest.raises(typer.Exit) as exit_:
        metrics(vectors(tmp_path, CALL.replace("find", "seek"), **wrong))
    assert exit_.value.exit_code == 1


def test_the_command_names_the_sample_that_the_original_cannot_score(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(typer.Exit) as exit_:
        metrics(vectors(tmp_path, "Next: caller."))
    assert exit_.value.exit_code == 2
    assert "sample 1: a call without </s>" in capsys.readouterr().err
