"""One query out of a conversation, and the conversation back out of the query.

The agent reads one string. This is the only place where several messages become one, and this is the rule:

* A user's message alone is the query, without the white space around it.
* With anything before it, the query is a transcript: a heading, then instructions and system messages, then the others
  in their order, each as `User: …` or `Assistant: …`, the newest user's message last. Further lines of a message are
  indented by two spaces, so that no message can pass for another.
* A query has at most `LIMIT` characters. The oldest messages are left out first, and the heading says how many;
  instructions, system messages and the newest message are never left out or cut: when they alone are too long, the
  request is refused. Without instructions, a newest message that fits by itself only is the query.

The run's log keeps the query; `unfold` reads it back, so a response can be followed by another without a second store.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from gateway.bodies import QueryBody
from umi.errors import BadInput

LIMIT = int(QueryBody.model_json_schema()["properties"]["query"]["maxLength"])
HEADING = "The conversation so far, the newest message last"
_HEADING = re.compile(rf"{HEADING}(?: \(([0-9]+) older left out\))?:")


class Speaker(StrEnum):
    """Who says a message. Instructions are a system message for one response; the next one does not inherit them."""

    INSTRUCTIONS = "Instructions"
    SYSTEM = "System"
    USER = "User"
    ASSISTANT = "Assistant"


@dataclass(frozen=True)
class Said:
    """One message."""

    speaker: Speaker
    text: str

    @property
    def is_standing(self) -> bool:
        """Whether it holds for the whole conversation."""
        return self.speaker in {Speaker.INSTRUCTIONS, Speaker.SYSTEM}

    @property
    def entry(self) -> str:
        """Its place in the transcript."""
        return f"{self.speaker}: " + self.text.replace("\n", "\n  ")


@dataclass(frozen=True)
class Conversation:
    """Messages in their order. `left_out` counts older ones that did not fit and are gone."""

    said: tuple[Said, ...]
    left_out: int = 0


def conversation(said: Iterable[Said], left_out: int = 0) -> Conversation:
    """The conversation of `said`: white space around a message is dropped, and so is a message of nothing else."""
    stripped = (Said(message.speaker, message.text.strip()) for message in said)
    return Conversation(tuple(message for message in stripped if message.text), left_out)


def fold(whole: Conversation, field: str) -> str:
    """The query. Raises BadInput, naming `field`, when no user's message is last or the newest does not fit."""
    standing = [message.entry for message in whole.said if message.is_standing]
    turns = [message for message in whole.said if not message.is_standing]
    if not turns or turns[-1].speaker is not Speaker.USER:
        raise BadInput("the last message must be the user's, and have some text", field)
    newest = turns.pop()
    alone = not standing and not newest.text.startswith(HEADING) and len(newest.text) <= LIMIT
    if alone and not turns and not whole.left_out:
        return newest.text
    room = LIMIT - sum(len(entry) + 1 for entry in [_heading(whole.left_out + len(turns)), *standing, newest.entry])
    kept: list[str] = []
    while turns and len(turns[-1].entry) + 1 <= room:
        kept.append(turns.pop().entry)
        room -= len(kept[-1]) + 1
    if room >= 0:
        return "\n".join([_heading(whole.left_out + len(turns)), *standing, *reversed(kept), newest.entry])
    if alone:
        return newest.text
    raise BadInput(f"the newest message and the instructions have more than {LIMIT} characters: shorten them", field)


def unfold(query: str) -> Conversation:
    """The conversation that was folded into `query`; a query that is no transcript is a user's only message."""
    alone = Conversation((Said(Speaker.USER, query),))
    first, *lines = query.split("\n")
    if (heading := _HEADING.fullmatch(first)) is None:
        return alone
    said: list[Said] = []
    for line in lines:
        label, _, text = line.partition(": ")
        if line.startswith("  ") and said:
            said[-1] = Said(said[-1].speaker, f"{said[-1].text}\n{line[2:]}")
        elif label in list(Speaker):
            said.append(Said(Speaker(label), text))
        else:
            return alone
    return Conversation(tuple(said), int(heading[1] or 0)) if said else alone


def _heading(left_out: int) -> str:
    return f"{HEADING} ({left_out} older left out):" if left_out else f"{HEADING}:"
