"""A text that is sent while it is written, to clients that take back nothing."""

from gateway.deltas import Written


class Spoken:
    """What has been sent of the text; `before` is sent ahead of it."""

    def __init__(self, before: str = "") -> None:
        self._before = before
        self.text = ""
        self._written = ""

    def more(self, part: Written) -> str:
        """What to send now; nothing while a text that was begun anew is not yet beyond what was sent, or differs."""
        self._written = self._written[: part.offset] + part.text
        return self._beyond(self._written) or ""

    def rest(self, whole: str) -> str:
        """What to send at last: all of it once more, when it is another text than the one that was begun."""
        if self.text.startswith(whole):  # it was cut, for the model did not end
            return ""
        beyond = self._beyond(whole)
        return f"\n\n{whole}" if beyond is None else beyond

    def _beyond(self, text: str) -> str | None:
        if not text.startswith(self.text):
            return None
        ahead = "" if self.text else self._before
        beyond, self.text = text[len(self.text) :], text
        return ahead + beyond if beyond else ""
