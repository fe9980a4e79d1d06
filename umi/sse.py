"""Reading server-sent events (https://html.spec.whatwg.org/multipage/server-sent-events.html), as bytes come."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

_LINE_END = re.compile(rb"\r\n|\n|\r")


@dataclass(frozen=True)
class Message:
    """A message's data, and the last `id` that it or one before it had."""

    data: str
    id: str = ""


class Parser:
    """Takes a stream's bytes in any pieces and gives each message that is whole.

    What a broken connection leaves behind is dropped with the parser: only an empty line ends a message. Comments and
    other fields are skipped; the data itself says what is needed.
    """

    def __init__(self) -> None:
        self._rest = b""
        self._data: list[str] = []
        self._id = ""

    def feed(self, received: bytes) -> Iterator[Message]:
        """The messages that end in `received`."""
        held = self._rest + received
        whole = len(held) - 1 if held.endswith(b"\r") else len(held)  # a line feed may follow in the next piece
        start = 0
        for end in _LINE_END.finditer(held, 0, whole):
            line, start = held[start : end.start()].decode("utf-8", "replace"), end.end()
            if line:
                self._take(line)
            elif self._data:
                yield Message("\n".join(self._data), self._id)
                self._data.clear()
        self._rest = held[start:]

    def _take(self, line: str) -> None:
        name, _, value = line.partition(":")
        if name == "data":
            self._data.append(value.removeprefix(" "))
        elif name == "id":
            self._id = value.removeprefix(" ")
