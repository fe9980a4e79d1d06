"""Runs: an append-only log of events each, the lease of the gateway that goes on with it, claims of idempotency."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Self

import sqlalchemy as sa

from gateway.deltas import START, Delta, Draft, Position
from gateway.events import Approval, Event, Outcome, RequiresAction, RunStatus
from gateway.problems import NotStored
from gateway.store import tables
from gateway.store.database import Database
from gateway.store.eventlog import Append, Create, Logged, insert_event, log_all, read_events
from gateway.store.following import Following, Tail
from gateway.store.rows import Claim, Claimed, Exceeded, Key, Lease, RunRow, Taken

_runs, _events, _claims = tables.runs, tables.events, tables.claims
_STATUS = sa.case(
    (_runs.c.outcome.is_not(None), RunStatus.ENDED.value),
    (tables.waits, RunStatus.REQUIRES_ACTION.value),
    else_=RunStatus.RUNNING.value,
).label("status")
# Made once: to build a statement costs more than to execute it.
_OF_RUN = (
    _events.select()
    .where(_events.c.run_id == sa.bindparam("run_id"), _events.c.seq > sa.bindparam("after"))
    .order_by(_events.c.seq)
)
_OF_TENANT = (
    _events.select()
    .join(_runs)
    .where(_runs.c.id == sa.bindparam("run_id"), _runs.c.tenant == sa.bindparam("tenant"))
    .order_by(_events.c.seq)
)


class RunStore:
    """The runs of all tenants. An async context manager, for its followers."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._following = Following(database)

    async def __aenter__(self) -> Self:
        await self._following.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._following.__aexit__()

    async def create(
        self, event: Event, key: Key, claim: Claim | None, lease: Lease, webhook: str | None = None
    ) -> Claimed | Exceeded | None:
        """Store a run's first event, its lease, its claim and its webhook, for whoever has `key`.

        Nothing is stored when the claim was made before (returns whose it is), or when the key's limits leave no room.
        """
        taken = await self._database.write_bulk(log_all, Create(event, key, claim, lease, webhook))
        return None if isinstance(taken, bool) else taken

    async def renew(self, lease: Lease, run_ids: Iterable[str]) -> None:
        """Keep those runs of an owner."""
        wanted = sorted(run_ids)

        def statement(connection: sa.Connection) -> None:
            for first in range(0, len(wanted), 500):
                held = sa.and_(_runs.c.id.in_(wanted[first : first + 500]), _runs.c.owner == lease.owner)
                connection.execute(_runs.update().where(held).values(until=lease.until))

        await self._database.write(statement)

    async def release(self, owner: str) -> None:
        """Give up all runs of an owner: another may take them at once."""
        held = sa.and_(_runs.c.owner == owner, _runs.c.outcome.is_(None))
        update = _runs.update().where(held).values(owner=None, until=None)
        await self._database.write(lambda connection: connection.execute(update).rowcount)

    async def take_orphans(self, lease: Lease, now: float, most: int = 100) -> list[Taken]:
        """Take unfinished runs whose lease, or wait for approval, is over, or that have none; of several takers one
        gets a run.

        Whoever takes at the same time skips what is being taken here, and whoever comes after sees the new lease.
        """

        def statement(connection: sa.Connection) -> list[Taken]:
            lapsed = sa.or_(_runs.c.until.is_(None), _runs.c.until < now)
            orphans = sa.select(_runs.c.id).where(_runs.c.outcome.is_(None), lapsed).limit(most)
            found = list(connection.execute(orphans.with_for_update(skip_locked=True)).scalars())
            if not found:
                return []
            return _take(connection, found, lease)

        return await self._database.write(statement)

    async def decide(self, run_id: str, approval: Approval, lease: Lease, now: float) -> Taken | None:
        """Append a person's decision on the call that a run waits with, and take the run, both or neither.

        None when the run does not wait with that step's call, or not any more.
        """

        def statement(connection: sa.Connection) -> tuple[Taken, Event] | None:
            if not _lock_waiting(connection, run_id, _runs.c.until >= now):
                return None
            newest = _events.select().where(_events.c.run_id == run_id).order_by(_events.c.seq.desc()).limit(1)
            (asked,) = read_events(connection, newest)
            assert isinstance(asked.data, RequiresAction)
            if asked.data.step != approval.step:
                return None
            decided = Event.of(run_id, asked.seq + 1, approval)
            insert_event(connection, decided)
            return _take(connection, [run_id], lease)[0], decided

        if (done := await self._database.write(statement)) is None:
            return None
        taken, decided = done
        self._following.tell(decided)
        return taken

    async def take_waiting(self, run_id: str, lease: Lease) -> Taken | None:
        """Take a run that waits for approval; None when it does not, or not any more."""

        def statement(connection: sa.Connection) -> Taken | None:
            return _take(connection, [run_id], lease)[0] if _lock_waiting(connection, run_id) else None

        return await self._database.write(statement)

    def is_here(self, run_id: str, events: Iterable[Event]) -> Tail:
        """The run, of which those are the events, goes on in this gateway: `append` keeps the result up to date.

        While somebody holds it, the run's followers need not read the database.
        """
        return self._following.is_here(run_id, events)

    async def is_waiting(self, run_id: str) -> bool:
        """Whether the run waits for approval."""
        chosen = sa.select(_runs.c.id).where(_runs.c.id == run_id, tables.waits)
        return await self._database.read(lambda connection: connection.execute(chosen).first() is not None)

    async def count_waiting(self) -> int:
        """How many runs wait for approval, of all tenants."""
        chosen = sa.select(sa.func.count()).select_from(_runs).where(tables.waits)
        return await self._database.read(lambda connection: connection.execute(chosen).scalar_one())

    async def ask_to_cancel(self, run_id: str) -> None:
        """Let whoever holds the run know that it is to end."""
        update = _runs.update().where(_runs.c.id == run_id, _runs.c.outcome.is_(None)).values(cancel_asked=True)
        await self._database.write(lambda connection: connection.execute(update).rowcount)

    async def to_cancel(self, owner: str) -> list[str]:
        """The runs of an owner that it was asked to end."""
        asked = sa.and_(_runs.c.outcome.is_(None), _runs.c.owner == owner, _runs.c.cancel_asked)
        chosen = sa.select(_runs.c.id).where(asked)
        return await self._database.read(lambda connection: list(connection.execute(chosen).scalars()))

    async def append(self, owner: str, event: Event) -> None:
        """Returns when the event is on disk and the run's followers are told. Raises NotStored."""
        done: asyncio.Future[NotStored | None] = asyncio.get_running_loop().create_future()
        self.put(owner, event, lambda problem: None if done.done() else done.set_result(problem))
        if (problem := await done) is not None:
            raise problem

    def put(self, owner: str, event: Event, told: Callable[[NotStored | None], None], later: bool = False) -> None:
        """As `append`, but does not wait: that it is done, or the problem, is `told`.

        The log has no gap: an event is stored only after the one before it, which need not be waited for. One that is
        stored `later`, a moment at most, shares a commit. A run that requires action is its owner's no more.
        """
        self._database.put(log_all, Append(owner, event), lambda result: told(self._appended(event, result)), later)

    def _appended(self, event: Event, result: Logged | Exception) -> NotStored | None:
        problem: NotStored | None = None
        if isinstance(result, Exception):
            problem = NotStored("the database did not take the run's next event; the gateway's log says why")
            problem.__cause__ = result
        elif not result:
            problem = NotStored("the run has ended, goes on in another gateway, or an event before this is missing")
        if problem is None:
            self._following.tell(event)
        if problem is not None or event.type == RequiresAction.type:
            self._following.is_elsewhere(event.run_id)
        return problem

    async def events(self, run_id: str, after: int = -1) -> list[Event]:
        """The run's events with `seq` beyond `after`; empty when there are none, or no such run."""
        if tail := self._following.tail(run_id):
            return tail.events[after + 1 :]
        asked = {"run_id": run_id, "after": after}
        return await self._database.read(lambda connection: read_events(connection, _OF_RUN, asked))

    async def events_of(self, tenant: str, run_id: str) -> list[Event]:
        """The run's events; empty when the tenant has no such run."""
        asked = {"run_id": run_id, "tenant": tenant}
        return await self._database.read(lambda connection: read_events(connection, _OF_TENANT, asked))

    async def follow(self, run_id: str, after: int = -1, patience: float = 10.0) -> AsyncIterator[Event | None]:
        """Replay, then wait for more until the run's last event; None after every `patience` seconds of silence.

        What another gateway appends is seen as well, a moment later.
        """
        async for found in self._follow(run_id, Position(after=after), patience, closely=False):
            if not isinstance(found, Delta):
                yield found

    def follow_closely(self, run_id: str, position: Position = START) -> AsyncIterator[Event | Delta | None]:
        """As `follow`, and the parts of texts that are written here meanwhile."""
        return self._follow(run_id, position, 10.0, closely=True)

    def _follow(
        self, run_id: str, position: Position, patience: float, closely: bool
    ) -> AsyncIterator[Event | Delta | None]:
        return self._following.follow(run_id, lambda after: self.events(run_id, after), position, patience, closely)

    def is_watched(self, run_id: str) -> bool:
        """Whether somebody here follows the run closely."""
        return self._following.is_watched(run_id)

    def show(self, run_id: str, draft: Draft) -> None:
        """Tell them of the text that is being written in a run that goes on here."""
        self._following.show(run_id, draft)

    async def outcome(self, run_id: str) -> Outcome | None:
        """How a run ended; None for one that goes on, or is not there."""
        chosen = sa.select(_runs.c.outcome).where(_runs.c.id == run_id)
        found = await self._database.read(lambda connection: connection.execute(chosen).scalar())
        return Outcome(found) if found else None

    async def page(
        self,
        tenant: str,
        limit: int,
        standing: Outcome | RunStatus | None = None,
        before: tuple[float, str] | None = None,
    ) -> list[RunRow]:
        """A tenant's runs, newest first: older than `before` (time and id), with that outcome or status."""
        columns = (_runs.c.id.label("run_id"), _runs.c.created_at, _runs.c.query, _STATUS, _runs.c.outcome)
        chosen = sa.select(*columns).where(_runs.c.tenant == tenant)
        chosen = chosen.order_by(_runs.c.created_at.desc(), _runs.c.id.desc()).limit(limit)
        if standing is not None:
            chosen = chosen.where((_STATUS if isinstance(standing, RunStatus) else _runs.c.outcome) == standing.value)
        if before is not None:
            chosen = chosen.where(sa.tuple_(_runs.c.created_at, _runs.c.id) < sa.tuple_(*map(sa.literal, before)))

        def statement(connection: sa.Connection) -> list[RunRow]:
            return [RunRow.model_validate(dict(row)) for row in connection.execute(chosen).mappings()]

        return await self._database.read(statement)

    async def delete(self, run_id: str) -> None:
        """Forget a run and its events."""

        def statement(connection: sa.Connection) -> None:
            for table, column in tables.OF_A_RUN:
                connection.execute(table.delete().where(column == run_id))

        await self._database.write(statement)


def _lock_waiting(connection: sa.Connection, run_id: str, *more: sa.ColumnElement[bool]) -> bool:
    """Whether the run waits for approval; it is nobody else's until the commit."""
    chosen = sa.select(_runs.c.id).where(_runs.c.id == run_id, tables.waits, *more)
    return connection.execute(chosen.with_for_update()).first() is not None


def _take(connection: sa.Connection, run_ids: list[str], lease: Lease) -> list[Taken]:
    take = _runs.update().where(_runs.c.id.in_(run_ids)).values(lease.model_dump())
    rows = connection.execute(take.returning(_runs.c.id.label("run_id"), _runs.c.tenant)).mappings()
    return [Taken.model_validate(dict(row)) for row in rows]
