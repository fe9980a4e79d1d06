"""The static metrics of α-UMi (arXiv 2401.07324): each step is predicted from the annotated history.

Scoring works on structured outputs (turn, tool, arguments, answer); `read_output` brings the text form of the reference
code (X-PLUG/Multi-LLM-Agent, `evaluate-multi_agent.py`) into that structure.
"""

import json
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from training.rouge import rouge_l
from umi.errors import BadInput
from umi.roles import Turn
from umi.trajectory import Frozen, JsonObject


class Mode(StrEnum):
    """What happens where the original evaluator has no result. Wherever it has one, both modes give that one.

    `original` raises BadInput. `repaired` reads and scores on, in these four places:

    * a call without `</s>`, thus without a caller's part: no tool and arguments `{}`, as for an empty part;
    * `conclusion:` that no space ever follows: the answer is what follows the last `conclusion:`;
    * an answer or a reference without a sentence (empty, or dots only): ROUGE-L 0;
    * a mean over no steps: 0 with count 0, as the original itself does for Plan ACC, Action EM and ROUGE-L.

    Not imitated: the 1e-30 that the original adds to its F1 means, and its RecursionError on sentences of hundreds of
    words, which are scored like any other.
    """

    ORIGINAL = "original"
    REPAIRED = "repaired"


class Illegible(StrEnum):
    """Why a caller's arguments are no JSON object."""

    NOT_JSON = "not JSON"
    NOT_AN_OBJECT = "not an object"


@dataclass(frozen=True)
class Output:
    """One step as predicted or annotated. `turn` is None when a planner's text names none: it equals no reference.

    Raises ValueError for a tool without the caller's turn.
    """

    turn: Turn | None
    tool: str | None = None
    arguments: JsonObject | Illegible = field(default_factory=JsonObject)
    answer: str | None = None

    def __post_init__(self) -> None:
        if self.tool is not None and self.turn is not Turn.CALLER:
            raise ValueError("a tool without the caller's turn")


class StepScore(Frozen):
    """A step's part in each metric, 0 to 1; None where the metric leaves the step out."""

    plan_acc: float
    hallucination: float
    action_em: float | None = None
    argument_f1: float | None = None
    easy_f1: float | None = None
    """Argument F1 of the calls with a wrong tool or without reference arguments."""
    hard_f1: float | None = None
    """Argument F1 of the calls with a wrong tool or with reference arguments."""
    rouge_l: float | None = None


class Rate(Frozen):
    """A mean from 0 to 1, and over how many steps it was taken."""

    value: float
    count: int


class Scores(Frozen):
    """The means over all steps; the fields are those of StepScore."""

    plan_acc: Rate
    hallucination: Rate
    action_em: Rate
    argument_f1: Rate
    easy_f1: Rate
    hard_f1: Rate
    rouge_l: Rate


_CRASHES_WHEN_EMPTY = {"hallucination", "argument_f1", "easy_f1", "hard_f1"}


def read_output(text: str, mode: Mode = Mode.REPAIRED) -> Output:
    """Read `assistant: … Next: <turn>.</s>caller: Action: …\\nAction Input: …</s>` or `…</s>conclusion: …</s>`.

    Anything that neither gives up nor concludes is a call. Raises BadInput in mode `original` where `Mode` says so.
    """
    if "Next: give up" in text:
        return Output(turn=Turn.GIVE_UP)
    if "Next: conclusion" in text:
        return Output(turn=Turn.CONCLUSION, answer=_answer(text, mode).replace("</s>", ""))
    parts = text.split("</s>")
    if len(parts) == 1 and mode is Mode.ORIGINAL:
        raise BadInput("a call without </s>", "predictions")
    part = parts[1] if len(parts) > 1 else ""
    # Either label may turn up inside the other's text, so each is looked for in the whole part.
    name = part.rpartition("Action:")[2].partition("Action Input:")[0].strip() if "Action:" in part else "none"
    arguments = part.rpartition("Action Input:")[2].strip() if "Action Input:" in part else "{}"
    return Output(turn=Turn.CALLER, tool=None if name == "none" else name, arguments=read_arguments(arguments))


def _answer(text: str, mode: Mode) -> str:
    if "conclusion:" not in text:
        return text
    _, found, answer = text.rpartition("conclusion: ")
    if found:
        return answer
    if mode is Mode.ORIGINAL:
        raise BadInput("no space after conclusion:", "predictions")
    return text.rpartition("conclusion:")[2]


def read_arguments(text: str) -> JsonObject | Illegible:
    """A JSON object, or why it is none. NaN and Infinity count as JSON, as they do for the original."""
    try:
        data = json.loads(text)
    except (ValueError, RecursionError):
        return Illegible.NOT_JSON
    return data if isinstance(data, dict) else Illegible.NOT_AN_OBJECT


def score_step(tools: Collection[str], reference: Output, prediction: Output, mode: Mode = Mode.REPAIRED) -> StepScore:
    """Score one prediction; `tools` are the names on offer. Raises BadInput in mode `original` for an empty answer."""
    plan_acc = float(prediction.turn is reference.turn)
    hallucination = float(prediction.tool is not None and prediction.tool not in tools)
    match reference.turn:
        case Turn.CALLER:
            right_tool = prediction.tool == reference.tool
            f1 = argument_f1(reference.arguments, prediction.arguments) if right_tool else 0.0
            bare = reference.arguments == {}
            return StepScore(
                plan_acc=plan_acc,
                hallucination=hallucination,
                action_em=float(right_tool),
                argument_f1=f1,
                easy_f1=f1 if bare or not right_tool else None,
                hard_f1=f1 if not bare or not right_tool else None,
            )
        case Turn.CONCLUSION:
            said = "none" if prediction.answer is None else prediction.answer
            overlap = _overlap(said, reference.answer or "", mode)
            return StepScore(plan_acc=plan_acc, hallucination=hallucination, rouge_l=overlap)
        case _:
            return StepScore(plan_acc=plan_acc, hallucination=hallucination)


def argument_f1(reference: JsonObject | Illegible, prediction: JsonObject | Illegible) -> float | None:
    """F1 over the keys, a key with another value being half a match; None (left out) if the reference is not JSON."""
    if reference is Illegible.NOT_JSON:
        return None
    if not isinstance(reference, dict) or not isinstance(prediction, dict):
        return 0.0
    if not reference:
        return float(not prediction)
    matched = sum(1.0 if prediction[key] == value else 0.5 for key, value in reference.items() if key in prediction)
    if not matched:
        return 0.0
    recall, precision = matched / len(reference), matched / len(prediction)
    return 2 * recall * precision / (recall + precision)


def _overlap(prediction: str, reference: str, mode: Mode) -> float:
    try:
        return rouge_l(prediction, reference)
    except BadInput:
        if mode is Mode.ORIGINAL:
            raise
        return 0.0


def mean_scores(steps: Iterable[StepScore], mode: Mode = Mode.REPAIRED) -> Scores:
    """The mean of each metric over the steps it counts. Raises BadInput in mode `original` where that divides by 0."""
    steps = tuple(steps)
    return Scores(**{name: _rate(name, steps, mode) for name in Scores.model_fields})


def _rate(name: str, steps: Sequence[StepScore], mode: Mode) -> Rate:
    values = [value for step in steps if (value := getattr(step, name)) is not None]
    if not values and mode is Mode.ORIGINAL and name in _CRASHES_WHEN_EMPTY:
        raise BadInput(f"no step counts for {name}", "samples")
    return Rate(value=sum(values) / len(values) if values else 0.0, count=len(values))
