"""What each role may write, as a constraint for decoding and as a parser for what came out.

The writer (`plan_text`, `call_text`), the constraint and the parser of a role stand side by side so that the trainer's
targets, the decoder's grammar and the reader can never disagree.
"""

import json
import re
from collections.abc import Iterable

from umi.errors import RoleOutputInvalid
from umi.roles import Role, Turn
from umi.trajectory import Call, JsonObject, Plan, ToolSpec

MAX_RATIONALE_CHARS = 600

_NEXT = "Next:"
_TURNS = "|".join(Turn)
# A digit before the stop is the number of a list's line.
_SENTENCE = re.compile(r".+?(?:(?<!\s\d)[.!?](?=\s)|(?=\n)|$)\s*", re.DOTALL)
_PLAN = re.compile(rf"(?P<rationale>.*?)\s*Next: (?P<turn>{_TURNS})\.?\s*", re.DOTALL)


def plan_text(plan: Plan) -> str:
    """A plan as the planner writes it: `<rationale> Next: <turn>.`"""
    return f"{plan.rationale} Next: {plan.turn}."


def plan_regex(max_chars: int = MAX_RATIONALE_CHARS) -> str:
    """A regular expression for decoding: one line of rationale, then exactly one legal turn."""
    return rf"[^\n]{{1,{max_chars}}} Next: ({_TURNS})\."


def parse_plan(text: str) -> Plan:
    """Read a planner's text; the last `Next:` counts.

    Raises RoleOutputInvalid when the text does not end in a legal turn: nobody's turn is ever guessed.
    """
    start = text.rfind(_NEXT)
    match = _PLAN.fullmatch(text[start:]) if start >= 0 else None
    if match is None:
        raise RoleOutputInvalid(Role.PLANNER, f"does not end in one of {', '.join(f'Next: {t}.' for t in Turn)}")
    return Plan(rationale=text[:start].strip(), turn=Turn(match["turn"]))


def rationale_so_far(text: str) -> str:
    """What of an unfinished planner's text is its rationale, however it goes on: nothing that may become `Next:`."""
    end = text.rfind(_NEXT)
    if end < 0:
        begun = next((size for size in range(len(_NEXT) - 1, 0, -1) if text.endswith(_NEXT[:size])), 0)
        end = len(text) - begun
    return text[:end].strip()


def call_text(call: Call) -> str:
    """A call as the caller writes it: one line of JSON."""
    return json.dumps({"name": call.tool, "arguments": call.arguments}, ensure_ascii=False)


def call_schema(tools: Iterable[ToolSpec]) -> JsonObject:
    """A JSON Schema for decoding: one of the offered tools with arguments of that tool's own schema."""
    return {
        "anyOf": [
            {
                "type": "object",
                "properties": {"name": {"const": tool.name}, "arguments": closed(tool.parameters)},
                "required": ["name", "arguments"],
                "additionalProperties": False,
            }
            for tool in tools
        ]
    }


def closed(schema: JsonObject) -> JsonObject:
    """An arguments schema that admits no properties beyond those it lists, unless it says otherwise itself."""
    return {"type": "object", "properties": {}, "additionalProperties": False, **schema}


def parse_call(text: str) -> Call:
    """Read a caller's text. Raises RoleOutputInvalid when it is not a JSON object with a name and arguments."""
    try:
        data = json.loads(text, parse_constant=_no_number)
        json.dumps(data, ensure_ascii=False).encode()  # a lone surrogate can be escaped, but not sent
    except (ValueError, RecursionError) as error:
        raise RoleOutputInvalid(Role.CALLER, f"not JSON: {error}") from error
    match data:
        case {"name": str(name), "arguments": dict(arguments), **rest} if not rest:
            return Call(tool=name, arguments=arguments)
        case _:
            raise RoleOutputInvalid(Role.CALLER, 'expected {"name": …, "arguments": {…}}')


def _no_number(name: str) -> None:
    raise ValueError(f"{name} is not a JSON number")


def parse_answer(text: str) -> str:
    """Read a summarizer's text. Raises RoleOutputInvalid when there is none."""
    answer = text.strip()
    if not answer:
        raise RoleOutputInvalid(Role.SUMMARIZER, "wrote an empty answer")
    return answer


def whole_sentences(text: str) -> str:
    """What serves of an answer that was cut off: its sentences (or lines) before the unfinished one.

    Small models that do not end go round in circles, so it ends before the first sentence that it has said already.
    An answer without a whole sentence ends in an ellipsis after its last whole word.
    """
    *sentences, unfinished = _SENTENCE.findall(text) or [""]
    kept = dict[str, str]()
    for sentence in sentences:
        if sentence.strip() in kept:
            break
        kept[sentence.strip()] = sentence
    if kept or not unfinished.strip():
        return "".join(kept.values()).rstrip()
    return f"{unfinished.rpartition(' ')[0] or unfinished} …"
