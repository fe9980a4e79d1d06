"""Texts while they are written: the rationale of a plan that is not there yet, the answer of a run that has not ended.

They are streamed and not stored: the event that they become has the whole text. A reader's place in a stream is the
newest event that it has read and how much of the next one's text. A checksum of that much tells whether a text is still
the one whose beginning was read, so that a stream which breaks in the middle of a word goes on there, on any gateway.
"""

import time
import zlib
from typing import Self

from pydantic import Field

from gateway.events import Event, Planned, RunCompleted
from umi.trajectory import Frozen

PLAN_DELTA, ANSWER_DELTA = "plan.delta", "answer.delta"
POSITION = r"^(-1|[0-9]{1,9}(\.[0-9]{1,9}\.[0-9a-f]{8})?)$"
"""What `Position` is written as: the `id` of a server-sent event."""


class Draft(Frozen):
    """What has been written of the text of event number `seq`; `type` is that of the events which tell of it."""

    seq: int
    type: str
    text: str = ""


class Written(Frozen):
    """A part of a text: up to `offset`, in characters, it stays, and goes on as `text`. At 0 it begins anew."""

    offset: int
    text: str


class Position(Frozen):
    """How far a stream has been read: event number `after`, and of the next one's text so many characters."""

    after: int = -1
    characters: int = 0
    checksum: int = 0

    @classmethod
    def parse(cls, text: str) -> Self:
        """From its written form, which must match POSITION."""
        after, _, begun = text.partition(".")
        characters, _, checksum = begun.partition(".")
        return cls(after=int(after), characters=int(characters or 0), checksum=int(checksum or "0", 16))

    def __str__(self) -> str:
        return f"{self.after}.{self.characters}.{self.checksum:08x}" if self.characters else str(self.after)

    def is_in(self, text: str) -> bool:
        """Whether `text` begins with what has been read."""
        begun = text[: self.characters]
        return len(begun) == self.characters and zlib.crc32(begun.encode()) == self.checksum

    def at_end_of(self, text: str) -> "Position":
        """When all of `text` has been read."""
        return Position(after=self.after, characters=len(text), checksum=zlib.crc32(text.encode()))


START = Position()


class Delta(Frozen):
    """A part of a text that is being written, in the form of the event, number `seq`, that will have the whole."""

    run_id: str
    seq: int
    type: str
    at: float = Field(default_factory=time.time)
    data: Written
    position: Position = Field(exclude=True)
    """Where a reader is who has read it."""


def next_delta(run_id: str, draft: Draft | None, read: Position) -> Delta | None:
    """What a reader does not know of the next event's draft; None when there is nothing, or events before it."""
    if draft is None or draft.seq != read.after + 1:
        return None
    offset = read.characters if read.is_in(draft.text) else 0
    if len(draft.text) == offset:
        return None
    written = Written(offset=offset, text=draft.text[offset:])
    return Delta(run_id=run_id, seq=draft.seq, type=draft.type, data=written, position=read.at_end_of(draft.text))


def finished(event: Event) -> Draft | None:
    """The text of an event, if it is one that is shown while it is written."""
    match event.data:
        case Planned(plan=plan):
            return Draft(seq=event.seq, type=PLAN_DELTA, text=plan.rationale)
        case RunCompleted(answer=str(answer)):
            return Draft(seq=event.seq, type=ANSWER_DELTA, text=answer)
        case _:
            return None
