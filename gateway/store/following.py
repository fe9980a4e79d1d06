"""Waiting for a run's next event. What this gateway appends wakes followers at once; for runs that go on in another
gateway one query every moment asks how far all of them have come."""

import asyncio
import contextlib
from collections.abc import Generator
from contextlib import contextmanager
from typing import Self

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from gateway.store import tables
from gateway.store.database import Database

_MOMENT = 0.25
_MANY = 500


class Follower:
    """One who waits for events of a run."""

    def __init__(self) -> None:
        self.after = -1
        self._more = asyncio.Event()

    def seen(self, after: int) -> None:
        """Wait from now on for events beyond number `after`."""
        self.after = after
        self._more.clear()

    def wake(self) -> None:
        """There may be more."""
        self._more.set()

    async def wait(self, after: int, seconds: float) -> bool:
        """Whether there is more than number `after` within so many seconds."""
        self.after = after
        try:
            async with asyncio.timeout(seconds):
                await self._more.wait()
        except TimeoutError:
            return False
        return True


class Following:
    """All followers of this gateway. Use as an async context manager."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._followers: dict[str, set[Follower]] = {}
        self._here: set[str] = set()
        self._looking: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._looking = asyncio.create_task(self._look(), name="following")
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._looking is not None
        self._looking.cancel()
        await asyncio.gather(self._looking, return_exceptions=True)

    @contextmanager
    def of(self, run_id: str) -> Generator[Follower]:
        """A follower of a run."""
        follower = Follower()
        self._followers.setdefault(run_id, set()).add(follower)
        try:
            yield follower
        finally:
            others = self._followers[run_id]
            others.discard(follower)
            if not others:
                del self._followers[run_id]

    def tell(self, run_id: str) -> None:
        """An event of the run was appended."""
        for follower in self._followers.get(run_id, ()):
            follower.wake()

    def is_here(self, run_id: str) -> None:
        """The run goes on in this gateway: `tell` will be called."""
        self._here.add(run_id)

    def is_elsewhere(self, run_id: str) -> None:
        """The run has ended, or goes on in another gateway."""
        self._here.discard(run_id)

    async def _look(self) -> None:
        while True:
            await asyncio.sleep(_MOMENT)
            foreign = [run_id for run_id in self._followers if run_id not in self._here]
            for first in range(0, len(foreign), _MANY):
                with contextlib.suppress(SQLAlchemyError):  # the next look may succeed; readers will say what is wrong
                    await self._wake_those_behind(foreign[first : first + _MANY])

    async def _wake_those_behind(self, run_ids: list[str]) -> None:
        events = tables.events
        newest = sa.select(events.c.run_id, sa.func.max(events.c.seq)).where(events.c.run_id.in_(run_ids))
        found = await self._database.read(lambda connection: connection.execute(newest.group_by(events.c.run_id)).all())
        for run_id, seq in found:
            for follower in self._followers.get(run_id, ()):
                if seq > follower.after:
                    follower.wake()
