"""An engine that follows a script instead of weights: for testing whatever surrounds the model, yours included.

engine = ScriptedEngine(["I need the time. Next: caller."])
app = create_app(PLANNER, engine, checkpoint, RoleSettings())
"""

import asyncio
import math
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext

from services.engine import Constraint, EngineFailure, Generation, Phases, Replaced, Sampling
from umi.errors import BadCheckpoint
from umi.manifest import Checkpoint, Kind
from umi.wire import Heard

Script = Callable[[str, Constraint | None, Sampling], str]
"""From prompt, constraint and sampling to the text; `ScriptedEngine.versions` says whose turn it was."""


class ScriptedEngine:
    """Answers with the next text of a list (the last one again and again) or with what a callable says.

    A word is a token. `seconds_per_token` makes answers take time, `seconds_to_load` the start; `failure` makes loading
    fail with that sentence; versions in `broken` cannot be held. `prompts` collects what was asked, `versions` whose
    turn it was, `swapped` the full weights that were to be held, `aborted` the prompts whose generation was cancelled;
    `held` are the versions in memory.
    """

    def __init__(
        self,
        script: Script | Iterable[str],
        *,
        seconds_per_token: float = 0.0,
        seconds_to_load: float = 0.0,
        failure: str | None = None,
        max_model_len: int = 4096,
    ) -> None:
        self._script = script if callable(script) else _in_turn(tuple(script))
        self.seconds_per_token, self._seconds_to_load = seconds_per_token, seconds_to_load
        self._failure, self._max_model_len = failure, max_model_len
        self._vocabulary: dict[str, int] = {}
        self.prompts: list[str] = []
        self.constraints: list[Constraint | None] = []
        self.samplings: list[Sampling] = []
        self.versions: list[str] = []
        self.held: list[str] = []
        self.swapped: list[str] = []
        self._kind: Kind | None = None
        self.broken: set[str] = set()
        self.aborted: list[str] = []
        self.dead = False
        self.shut_down = False

    @property
    def max_model_len(self) -> int:
        """Words that prompt and completion may have together."""
        return self._max_model_len

    async def load(self, checkpoint: Checkpoint) -> None:
        """Takes `seconds_to_load`; raises EngineFailure if the script says so."""
        await asyncio.sleep(self._seconds_to_load)
        if self._failure is not None:
            raise EngineFailure(self._failure)
        self._require_whole(checkpoint)
        self.held[:] = [checkpoint.manifest.version]
        self._kind = checkpoint.manifest.kind

    async def add(self, checkpoint: Checkpoint) -> None:
        """Raises BadCheckpoint for a version that is `broken`, and where either side is full weights."""
        self._require_whole(checkpoint)
        if Kind.FULL in (self._kind, checkpoint.manifest.kind):
            raise BadCheckpoint(f"{checkpoint.manifest.version}: only adapters are held beside each other")
        self.held.append(checkpoint.manifest.version)

    async def swap(self, checkpoint: Checkpoint) -> None:
        """Takes `seconds_to_load`; raises BadCheckpoint for a version that is `broken` or for an adapter."""
        if Kind.ADAPTER in (self._kind, checkpoint.manifest.kind):
            raise BadCheckpoint(f"{checkpoint.manifest.version}: only full weights take the place of full weights")
        self.swapped.append(checkpoint.manifest.version)
        before, self.held = self.held, []
        await asyncio.sleep(self._seconds_to_load)
        try:
            self._require_whole(checkpoint)
        except BadCheckpoint:
            self.held = before
            raise
        self.held = [checkpoint.manifest.version]

    def _require_whole(self, checkpoint: Checkpoint) -> None:
        if checkpoint.manifest.version in self.broken:
            raise BadCheckpoint(f"{checkpoint.manifest.version} is broken")

    async def remove(self, version: str) -> None:
        """Only remembered."""
        if version in self.held:
            self.held.remove(version)

    def encode(self, prompt: str) -> list[int]:
        """One id a word."""
        return [self._vocabulary.setdefault(word, len(self._vocabulary)) for word in _words(prompt)]

    async def generate(
        self,
        version: str,
        tokens: Sequence[int],
        constraint: Constraint | None,
        sampling: Sampling,
        heard: Heard | None = None,
    ) -> Generation:
        """The script's next text, cut off after `sampling.max_tokens` words."""
        self.check()
        if version not in self.held:
            raise Replaced(f"{version} is not held")
        self.versions.append(version)
        known = list(self._vocabulary)
        prompt = " ".join(known[token] for token in tokens)
        self.prompts.append(prompt)
        self.constraints.append(constraint)
        self.samplings.append(sampling)
        text = self._script(prompt, constraint, sampling)
        words = _words(text)
        written = min(len(words), sampling.max_tokens)
        finished = written == len(words)
        try:
            if heard is None:
                await asyncio.sleep(self.seconds_per_token * written)
            else:
                for number in range(1, written + 1):
                    await asyncio.sleep(self.seconds_per_token)
                    heard(" ".join(words[:number]))
        except asyncio.CancelledError:
            self.aborted.append(prompt)
            raise
        if version not in self.held:
            raise Replaced(f"{version} was swapped")
        phases = Phases(queue=0.0, prefill=0.0, decode=self.seconds_per_token * written)
        shown = text if finished else " ".join(words[:written])
        return Generation(shown, len(tokens), written, 0, finished, phases)

    async def surprise(self, version: str, tokens: Sequence[int], text: str) -> float:
        """0 when this is what the script says next, and far behind otherwise."""
        written = await self.generate(version, tokens, None, Sampling(max_tokens=self._max_model_len))
        return 0.0 if written.text == text else math.inf

    def making_way(self) -> AbstractAsyncContextManager[None]:
        """Nothing here takes long."""
        return nullcontext()

    def check(self) -> None:
        """Raises EngineFailure once `dead` is set."""
        if self.dead:
            raise EngineFailure("the scripted engine is dead")

    async def shutdown(self) -> None:
        """Only remembered."""
        self.shut_down = True


def _words(text: str) -> list[str]:
    return text.split()


def _in_turn(texts: tuple[str, ...]) -> Script:
    remaining = iter(texts)
    last = texts[-1]

    def script(prompt: str, constraint: Constraint | None, sampling: Sampling) -> str:
        return next(remaining, last)

    return script
