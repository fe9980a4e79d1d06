"""Waiting for a run's next event. What this gateway appends wakes followers at once, and they need not read it from the
database; for runs that go on in another gateway one query every moment asks how far all of them have come."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterable
from contextlib import contextmanager
from typing import Self
from weakref import WeakValueDictionary

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from gateway.deltas import Delta, Draft, Position, finished, next_delta
from gateway.events import Event
from gateway.store import tables
from gateway.store.database import Database

_MOMENT = 0.25
_MANY = 500


class Tail:
    """The stored events of a run that goes on here, or ended here: the same that the database holds.

    Whoever goes on with the run holds it, and whoever follows the run; then it is gone.
    """

    def __init__(self, events: Iterable[Event]) -> None:
        self.events = list(events)
        self.draft: Draft | None = None
        """What has been written of the next event's text."""
        self.is_whole = True
        """Whether nothing may have been stored that is not here."""

    def add(self, event: Event) -> None:
        """The run's next event; one that is not the next tells of another that was stored and is missing here."""
        self.is_whole &= event.seq == len(self.events)
        self.events.append(event)


class Follower:
    """One who waits for events of a run; one who follows closely, for texts that are being written as well."""

    def __init__(self, tail: Callable[[], Tail | None], closely: bool) -> None:
        self.after, self.closely = -1, closely
        self._more = asyncio.Event()
        self._find_tail, self._tail = tail, None

    def seen(self, after: int) -> None:
        """Wait from now on for events beyond number `after`."""
        self.after = after
        self._more.clear()
        self._tail = self._find_tail()  # held, so that a run that is over by the next look is still there to be read

    @property
    def draft(self) -> Draft | None:
        """The text that is being written, for one who follows closely."""
        return self._tail.draft if self._tail is not None and self.closely else None

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
        self._tails: WeakValueDictionary[str, Tail] = WeakValueDictionary()
        self._looking: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._looking = asyncio.create_task(self._look(), name="following")
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._looking is not None
        self._looking.cancel()
        await asyncio.gather(self._looking, return_exceptions=True)

    async def follow(
        self,
        run_id: str,
        read: Callable[[int], Awaitable[list[Event]]],
        position: Position,
        patience: float,
        closely: bool,
    ) -> AsyncIterator[Event | Delta | None]:
        """The run's events beyond `position`, up to its last one; None after every `patience` seconds of silence.

        `read` finds those stored after a number. One who follows closely gets texts in parts while they are written
        here; one that was begun is completed before its event.
        """
        with self._of(run_id, closely) as follower:
            while True:
                follower.seen(position.after)  # before reading, so that nothing appended in between is missed
                for event in await read(position.after):
                    if position.characters and (delta := next_delta(run_id, finished(event), position)):
                        yield delta
                    position = Position(after=event.seq)
                    yield event
                    if event.is_last:
                        return
                if delta := next_delta(run_id, follower.draft, position):
                    position = delta.position
                    yield delta
                if not await follower.wait(position.after, patience):
                    yield None

    @contextmanager
    def _of(self, run_id: str, closely: bool) -> Generator[Follower]:
        follower = Follower(lambda: self.tail(run_id), closely)
        self._followers.setdefault(run_id, set()).add(follower)
        try:
            yield follower
        finally:
            others = self._followers[run_id]
            others.discard(follower)
            if not others:
                del self._followers[run_id]

    def is_here(self, run_id: str, events: Iterable[Event]) -> Tail:
        """The run goes on in this gateway from those events, for as long as the result is held."""
        tail = self._tails[run_id] = Tail(events)
        return tail

    def is_elsewhere(self, run_id: str) -> None:
        """The run waits for a person, or goes on in another gateway."""
        if tail := self._tails.pop(run_id, None):
            tail.is_whole = False

    def tail(self, run_id: str) -> Tail | None:
        """The run's events, if they need not be read."""
        tail = self._tails.get(run_id)
        return tail if tail is not None and tail.is_whole else None

    def is_watched(self, run_id: str) -> bool:
        """Whether somebody follows the run closely."""
        return any(follower.closely for follower in self._followers.get(run_id, ()))

    def show(self, run_id: str, draft: Draft) -> None:
        """More has been written of a text, here."""
        if tail := self.tail(run_id):
            tail.draft = draft
            for follower in self._followers.get(run_id, ()):
                if follower.closely:
                    follower.wake()

    def tell(self, event: Event) -> None:
        """The event was appended, here."""
        if tail := self._tails.get(event.run_id):
            tail.add(event)
        for follower in self._followers.get(event.run_id, ()):
            follower.wake()

    async def _look(self) -> None:
        while True:
            await asyncio.sleep(_MOMENT)
            foreign = [run_id for run_id in self._followers if self.tail(run_id) is None]
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
