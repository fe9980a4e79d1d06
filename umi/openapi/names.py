"""Names and texts of tools: short, safe and the same on every import."""

import re

MAX_TOOL_TEXT = 300
MAX_ARGUMENT_TEXT = 200
MAX_SEARCH_TEXT = 2_000
_MAX_NAME = 64
_TAG = re.compile(r"</?[A-Za-z][^<>]{0,300}>")
_LINK = re.compile(r"\[([^\[\]]{1,200})\]\([^()\s]{1,500}\)")


class Names:
    """Hands out the tool names of one document; a name that is taken gets a number, in the document's order."""

    def __init__(self) -> None:
        self._taken: set[str] = set()
        self._last: dict[str, int] = {}

    def take(self, *wanted: str | None) -> str:
        """A unique name after the first wish that has a usable letter."""
        base = next((name for wish in wanted if wish and (name := _plain(wish))), "operation")
        name, number = base, self._last.get(base, 1)
        while name in self._taken:
            number += 1
            ending = f"_{number}"
            name = f"{base[: _MAX_NAME - max(4, len(ending))]}{ending}"
        self._last[base] = number
        self._taken.add(name)
        return name


def argument_name(wanted: str) -> str:
    """An argument's name without what could confuse a prompt or a grammar; most names stay as they are."""
    return re.sub(r"[^\w$.@:\[\]-]+", "_", wanted[:_MAX_NAME]).strip("_") or "argument"


def shorten(text: object, limit: int) -> str:
    """Text without mark-up, at most `limit` characters; what is no text is nothing. What is short stays as written."""
    if not isinstance(text, str):
        return ""
    text = _LINK.sub(r"\1", _TAG.sub(" ", text[: 10 * limit]))
    if len(text) <= limit and "\n" not in text.strip():
        return text.strip()
    line = " ".join(text.split())
    return line if len(line) <= limit else line[: limit - 1].rsplit(" ", 1)[0] + "…"


def _plain(wanted: str) -> str:
    name = re.sub(r"[^A-Za-z0-9_-]+", "_", wanted[-1_000:]).strip("_")
    if len(name) > _MAX_NAME:  # the end tells more than the beginning; it should begin with a whole word
        name = name[-_MAX_NAME:]
        head, _, tail = name.partition("_")
        name = tail if len(head) < 20 and tail else name
    return name.strip("_")
