"""Where texts are embedded: what the settings say of it."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Endpoint:
    """An OpenAI-compatible API. `url` goes as far as /v1; a query waits for it for `seconds`."""

    url: str
    model: str
    key: str | None = field(default=None, repr=False)
    seconds: float = 1.0
