"""α-UMi's conversations: tools, instruction, and turns of user, assistant, caller, observation and conclusion."""

import re
from collections.abc import Iterator

from training.formats.chain import Chain
from training.formats.shapes import arguments, objects, take
from training.formats.toolbench import documented
from training.records import Record
from umi.errors import BadInput
from umi.roles import Turn
from umi.trajectory import JsonObject

EXPECTS = '{"tools", "instruction", "conversations": [{"from", "value"}]}'
_NEXT = re.compile(rf"\n? ?Next: (?P<turn>{'|'.join(Turn)})\.\s*\Z")
_CALL = re.compile(r"Action: (?P<tool>[^\n]*)\nAction Input: (?P<arguments>.*)", re.DOTALL)


def recognises(entry: JsonObject) -> bool:
    """Whether the object has this form's fields."""
    return "conversations" in entry and "instruction" in entry


def records(entry: JsonObject, id: str) -> Iterator[Record]:
    """The one record of an entry. Raises BadInput."""
    tools = [documented(where, document) for where, document in objects(entry, "tools")]
    chain = Chain(take(entry, "instruction", str), tools)
    turns = objects(entry, "conversations")
    first = turns[0][1] if turns else {}
    if first.get("from") != "user" or first.get("value") != entry["instruction"]:
        raise BadInput("conversations[0]: expected the user's instruction", "conversations[0]")
    for where, turn in turns[1:]:
        _turn(chain, where, take(turn, "from", str, where), take(turn, "value", str, where))
    yield chain.record(id, "toolbench")


def _turn(chain: Chain, where: str, speaker: str, text: str) -> None:
    match speaker:
        case "user":
            chain.user(text)
        case "assistant" if found := _NEXT.search(text):
            chain.plan(text[: found.start()], Turn(found["turn"]))
        case "assistant":
            chain.remark()
        case "caller":
            found = _CALL.fullmatch(text)
            if found is None:
                raise BadInput(f'{where}: expected "Action: …" and "Action Input: …" on lines of their own', where)
            chain.call(found["tool"].strip(), arguments(found["arguments"], f"{where}, Action Input"))
        case "observation":
            chain.observe(text)
        case "conclusion":
            chain.answer(text)
        case _:
            raise BadInput(f"{where}.from: {speaker!r} is not a speaker of this format", where)
