"""How webhooks are sent, as the settings say."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Terms:
    """`key` is what secrets are derived from; None: there are no webhooks. One attempt has `seconds`, after each that
    fails comes the next of `pauses` (seconds); `allow` holds what they may reach though it is not public."""

    key: bytes | None
    seconds: float
    pauses: Sequence[float]
    allow: Sequence[str] = ()
