"""One turn of a role: trajectory in, reply out. Knows prompts, limits and retries; knows no HTTP."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace

from services import tracing
from services.engine import Engine, Generation, Sampling
from services.role import RoleBehaviour
from umi.context import compress, fit, shortened
from umi.errors import BadCheckpoint, RoleOutputInvalid
from umi.manifest import Checkpoint
from umi.roles import Role, Turn
from umi.smoke import SmokeCase, cases
from umi.trajectory import Plan, Step, ToolSpec, Trajectory
from umi.wire import Heard, RoleReply, Usage

_TOLERANCE = 0.5
"""Nats by which a token of a smoke case may be less likely than the likeliest: other hardware rounds differently."""
_RETRY_TEMPERATURE, _RETRY_SEED = 0.7, 1


class RoleTurns:
    """Takes turns of one role with one checkpoint on one engine."""

    def __init__(self, behaviour: RoleBehaviour, engine: Engine, checkpoint: Checkpoint) -> None:
        self._behaviour, self._engine, self.checkpoint = behaviour, engine, checkpoint

    @property
    def role(self) -> Role:
        """Whose turns they are."""
        return self._behaviour.role

    @property
    def version(self) -> str:
        """The weights that take them."""
        return self.checkpoint.manifest.version

    @property
    def max_input_tokens(self) -> int:
        """The longest prompt: what the checkpoint was trained for, as far as the engine has room for it."""
        room = self._engine.max_model_len - self._behaviour.max_tokens
        return min(self.checkpoint.manifest.max_input_tokens, room)

    @property
    def observation_tokens(self) -> int | None:
        """What is read of one observation: what the checkpoint was trained for, as far as this service lets it."""
        budgets = (self.checkpoint.manifest.observation_tokens, self._behaviour.observation_tokens)
        return min((budget for budget in budgets if budget is not None), default=None)

    async def take(self, trajectory: Trajectory, retried: Callable[[], None], heard: Heard | None = None) -> RoleReply:
        """The role's next words, parsed; a text that breaks the rules is sampled once more, warmer.

        `heard` is told what has been written of a rationale or an answer.
        Raises BadInput (not this role's turn, or too long), RoleOutputInvalid (twice) and EngineFailure.
        """
        started = time.perf_counter()
        self._behaviour.check(trajectory)
        compressed = compress(trajectory, lambda text: len(self._engine.encode(text)), self.observation_tokens)
        fitted = fit(compressed, lambda shorter: len(self._tokens(shorter)), self.max_input_tokens)
        kept = fitted.trajectory
        tokens, constraint = self._tokens(kept), self._behaviour.constrain(kept, self.checkpoint.manifest)
        reading, spent = self._reading(heard), 0
        sampling = Sampling(self._behaviour.max_tokens)
        while True:
            generation = await self._engine.generate(self.version, tokens, constraint, sampling, reading)
            tracing.generated(generation.phases)
            spent += generation.completion_tokens
            usage = Usage(
                prompt_tokens=generation.prompt_tokens,
                cached_tokens=generation.cached_tokens,
                completion_tokens=spent,
                shortened_observations=shortened(trajectory, kept),
                dropped_steps=fitted.dropped,
                seconds=time.perf_counter() - started,
            )
            try:
                return self._read(generation, kept, usage)
            except RoleOutputInvalid:
                if sampling.temperature > 0:
                    raise
                retried()
                sampling = replace(sampling, temperature=_RETRY_TEMPERATURE, seed=_RETRY_SEED)

    async def warm_up(self) -> None:
        """One short generation, so that ready means ready and the grammar is compiled. Raises EngineFailure."""
        trajectory = _greeting(self._behaviour.role)
        constraint = self._behaviour.constrain(trajectory, self.checkpoint.manifest)
        await self._engine.generate(self.version, self._tokens(trajectory), constraint, Sampling(max_tokens=4))

    async def smoke(self) -> None:
        """Try the checkpoint's own cases, all at once. Raises BadCheckpoint naming one, and EngineFailure."""
        tried = cases(self.checkpoint)
        replies = await asyncio.gather(*map(self._try, tried), return_exceptions=True)
        for number, (case, found) in enumerate(zip(tried, replies, strict=True)):
            if isinstance(found, RoleOutputInvalid):
                raise BadCheckpoint(f"{self.version}: smoke case {number}: {found}") from found
            if isinstance(found, BaseException):
                raise found
            reply = found.model_dump(mode="json")
            if not case.passes(reply):
                got = {key: reply[key] for key in case.expected if key in reply}
                raise BadCheckpoint(f"{self.version}: smoke case {number} expects {case.expected}, not {got}")

    async def _try(self, case: SmokeCase) -> RoleReply:
        """The reply to a case: what it says the role writes, if these weights would, or what they do write."""
        if case.text is None:
            return await self.take(case.trajectory, lambda: None)
        behind = await self._engine.surprise(self.version, self._tokens(case.trajectory), case.text)
        if behind > _TOLERANCE:
            raise RoleOutputInvalid(
                self.role, f"would not write {case.text!r}: a token of it is {behind:.1f} nats behind the likeliest"
            )
        free = Usage(prompt_tokens=0, completion_tokens=0, seconds=0.0)
        return self._read(Generation(case.text, 0, 0), case.trajectory, free)

    def _reading(self, heard: Heard | None) -> Heard | None:
        """Reads the raw text for whoever listens, if this role's text can be read before it is whole."""
        written = self._behaviour.written
        return None if heard is None or written is None else lambda text: heard(written(text))

    def _tokens(self, trajectory: Trajectory) -> list[int]:
        return list(self._engine.encode(self.checkpoint.template.render(self._behaviour.role, trajectory)))

    def _read(self, generation: Generation, trajectory: Trajectory, usage: Usage) -> RoleReply:
        text = generation.text
        if not generation.finished:
            if self._behaviour.cut is None:
                raise RoleOutputInvalid(self.role, f"was cut off at {self._behaviour.max_tokens} tokens")
            text = self._behaviour.cut(text)
        return self._behaviour.reply(text, trajectory, self.checkpoint.manifest, usage)


def _greeting(role: Role) -> Trajectory:
    plan = Step(plan=Plan(rationale="I greet.", turn=Turn.CALLER))
    steps = () if role is Role.PLANNER else (plan,)
    return Trajectory(query="Hello", tools=(ToolSpec(name="greet"),), steps=steps)
