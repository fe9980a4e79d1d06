"""A version in memory: who uses it, what it has done, and whether what it writes may be seen yet."""

import asyncio
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager

from services.turn import RoleTurns
from umi.errors import RoleOutputInvalid
from umi.roles import Turn
from umi.trajectory import Trajectory
from umi.trial import Tally
from umi.wire import Heard, PlanReply, RoleReply, SummaryReply


class Held:
    """`users` are the turns being taken now, `used_at` is when the last one began; `tally` counts them."""

    def __init__(self, turns: RoleTurns) -> None:
        self.turns, self.users, self.used_at, self.tally = turns, 0, time.monotonic(), Tally()
        self._withdrawn = False
        self._settled = asyncio.Event()
        self._settled.set()

    @property
    def version(self) -> str:
        """Its name."""
        return self.turns.version

    async def take(self, trajectory: Trajectory, retried: Callable[[], None], heard: Heard | None = None) -> RoleReply:
        """A turn, counted; nobody hears of one on trial before it is whole.

        Raises as RoleTurns does, and Replaced when these weights are gone before it is taken.
        """
        started = self.used_at = time.monotonic()
        self.users += 1

        def again() -> None:
            self._count(unusable=1)
            retried()

        try:
            reply = await self.turns.take(trajectory, again, heard if self._settled.is_set() else None)
        except RoleOutputInvalid:
            self._count_turn(started, failed=1, unusable=1)
            raise
        finally:
            self.users -= 1
        steps = _steps_of_ended_run(trajectory, reply)
        self._count_turn(started, runs=int(steps > 0), steps=steps)
        return reply

    @contextmanager
    def on_trial(self) -> Generator[None]:
        """What is written within the block may be seen when it ends; when it raises, never."""
        self._settled.clear()
        try:
            yield
        except BaseException:
            self._withdrawn = True
            raise
        finally:
            self._settled.set()

    async def stays(self) -> bool:
        """Whether what it has written may be seen; waits for the end of a trial."""
        await self._settled.wait()
        return not self._withdrawn

    def _count_turn(self, started: float, **more: float) -> None:
        seconds = time.monotonic() - started
        self._count(turns=1, seconds=seconds, squared_seconds=seconds**2, **more)

    def _count(self, **more: float) -> None:
        self.tally = self.tally.plus(Tally.model_validate(more))


def _steps_of_ended_run(trajectory: Trajectory, reply: RoleReply) -> int:
    """How many steps the run has that this reply ends; 0 when it goes on."""
    match reply:
        case PlanReply():
            return 0 if reply.plan.turn is Turn.CALLER else len(trajectory.steps) + 1
        case SummaryReply():
            return len(trajectory.steps)
        case _:
            return 0
