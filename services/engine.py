"""What a role service needs from whatever runs its model: the `Engine` protocol and the values it exchanges."""

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Literal, Protocol

from umi.errors import UmiError
from umi.manifest import Checkpoint
from umi.wire import Heard


class EngineFailure(UmiError):
    """The engine could not be loaded, or has died; only a new process helps."""


class Replaced(UmiError):
    """The version was swapped for another before its text was complete: whoever asked takes the turn again."""


@dataclass(frozen=True)
class Constraint:
    """What a text may look like while it is decoded: a regular expression, or a JSON Schema as text.

    JSON is written as `json.dumps` writes it: one line, `, ` and `: ` as separators, properties in the schema's order.
    """

    kind: Literal["regex", "json"]
    source: str


@dataclass(frozen=True)
class Sampling:
    """How to pick tokens: greedy at temperature 0, otherwise reproducible by `seed`."""

    max_tokens: int
    temperature: float = 0.0
    seed: int = 0


@dataclass(frozen=True)
class Phases:
    """Where the seconds of a generation went: waiting, reading the prompt up to the first token, writing the rest."""

    queue: float
    prefill: float
    decode: float


@dataclass(frozen=True)
class Generation:
    """What came out. `finished` is False when the text was cut off at its token limit.

    `phases` are only told while traces are on.
    """

    text: str
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int = 0
    finished: bool = True
    phases: Phases | None = None


class Engine(Protocol):
    """One backbone in memory, and the versions of its weights that are held.

    `generate` may be cancelled at any time and then stops computing.
    """

    @property
    def max_model_len(self) -> int:
        """Tokens that prompt and completion may have together."""
        ...

    async def load(self, checkpoint: Checkpoint) -> None:
        """Start with this checkpoint, ready to generate. Raises BadCheckpoint or EngineFailure."""
        ...

    async def add(self, checkpoint: Checkpoint) -> None:
        """Hold one more adapter beside those that are there; requests go on meanwhile.

        Raises BadCheckpoint when it does not fit what is there.
        """
        ...

    async def swap(self, checkpoint: Checkpoint) -> None:
        """Hold these full weights in place of those that are there; texts that are being written end with Replaced.

        Raises BadCheckpoint when they do not fit or cannot be read, and then the old ones are held again;
        EngineFailure when those are lost as well.
        """
        ...

    async def remove(self, version: str) -> None:
        """Let go of a version that no request uses; harmless when it is not there."""
        ...

    def encode(self, prompt: str) -> Sequence[int]:
        """Token ids of a rendered prompt; nothing is added to it."""
        ...

    async def generate(
        self,
        version: str,
        tokens: Sequence[int],
        constraint: Constraint | None,
        sampling: Sampling,
        heard: Heard | None = None,
    ) -> Generation:
        """Continue `tokens` with a version that is held, up to its stop token, which is not part of the text.

        `heard` is told of the text while it is written. Raises Replaced when the version is no longer held,
        EngineFailure when the engine is gone.
        """
        ...

    async def surprise(self, version: str, tokens: Sequence[int], text: str) -> float:
        """By how many nats, at most, a token of `text` and its stop falls behind the likeliest one in that place.

        The text follows `tokens`. 0 when the version would write just this at temperature 0. It is read in one
        pass, ahead of whatever waits, so a version can be tried on a busy engine. Raises as `generate` does.
        """
        ...

    def making_way(self) -> AbstractAsyncContextManager[None]:
        """Around the loading and the trial of a version: whatever would make them wait for long, waits itself."""
        ...

    def check(self) -> None:
        """Raises EngineFailure when the engine is gone."""
        ...

    async def shutdown(self) -> None:
        """Free everything; harmless when nothing was loaded."""
        ...
