"""What α-UMi's preprocessing makes of records: the targets in its text form, and how they compare with its files.

The rules are those of X-PLUG/Multi-LLM-Agent, GLPFT/process_data/toolbench, `prepro_<role>.py`.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from itertools import zip_longest
from pathlib import Path

from training.formats.shapes import loads
from training.records import Record
from umi.errors import BadInput
from umi.roles import Role, Turn
from umi.trajectory import Call, Plan, Step

BACKBONE = "backbone"
"""The data of the global stage: a step's plan and what follows it as one target."""
KINDS = (*(role.value for role in Role), BACKBONE)


@dataclass(frozen=True)
class Comparison:
    """Our targets of one kind beside the reference's, matched in order; None where one side has none."""

    kind: str
    ours: int
    theirs: int
    equal: int
    differences: list[tuple[str | None, str | None]]


def plan_text(plan: Plan) -> str:
    """A plan in the reference's words: the turn stands on a line of its own."""
    return f"{plan.rationale}\n Next: {plan.turn}." if plan.rationale else f" Next: {plan.turn}."


def call_text(call: Call) -> str:
    """A call in the reference's words; its annotator wrote arguments as JSON indented by two."""
    return f"Action: {call.tool}\nAction Input: {json.dumps(call.arguments, indent=2, ensure_ascii=False)}"


def targets(records: Iterable[Record], kind: str) -> Iterator[str]:
    """The targets of `kind`, one of KINDS, in order. The backbone learns calls of made-up tools as well."""
    for record in records:
        for index, step in enumerate(record.trajectory.steps):
            match kind:
                case Role.PLANNER if record.learns(index, Role.PLANNER):
                    yield plan_text(step.plan)
                case Role.CALLER if step.call and record.learns(index, Role.CALLER):
                    yield call_text(step.call)
                case Role.SUMMARIZER if record.answer is not None and step.plan.turn is Turn.CONCLUSION:
                    yield record.answer
                case "backbone" if (text := _backbone_text(step, record.answer)) is not None:
                    yield text
                case _:
                    pass


def _backbone_text(step: Step, answer: str | None) -> str | None:
    match step:
        case Step(plan=Plan(turn=Turn.GIVE_UP)):
            rest = "conclusion: give up."
        case Step(plan=Plan(turn=Turn.CONCLUSION)) if answer is not None:
            rest = f"conclusion: {answer}"
        case Step(call=Call() as call):
            rest = call_text(call)
        case _:
            return None
    return f"{step.plan.rationale.strip()}\n{rest}"


def load(file: Path) -> tuple[str, list[str]]:
    """The kind, told by the file's name, and the targets of a reference file. Raises BadInput naming the file."""
    kinds = [kind for kind in KINDS if kind in file.stem]
    if len(kinds) != 1:
        raise BadInput(f"{file}: expected a name with one of {', '.join(KINDS)} in it")
    try:
        items = loads(file.read_text("utf-8"))
        return kinds[0], [item["target"] + "" for item in items]
    except (OSError, ValueError, TypeError, KeyError) as error:
        expected = 'a list of {"tools", "history", "input", "target"}'
        raise BadInput(f"{file}: expected {expected}; {type(error).__name__}: {error}") from error


def compare(kind: str, ours: Sequence[str], theirs: Sequence[str]) -> Comparison:
    """Both sides aligned so that one instance too many does not make all after it different."""
    differences: list[tuple[str | None, str | None]] = []
    equal = 0
    for tag, start, end, their_start, their_end in SequenceMatcher(None, ours, theirs, autojunk=False).get_opcodes():
        if tag == "equal":
            equal += end - start
        else:
            differences += zip_longest(ours[start:end], theirs[their_start:their_end])
    return Comparison(kind, len(ours), len(theirs), equal, differences)
