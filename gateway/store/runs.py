"""Runs: an append-only log of events each, the lease of the gateway that goes on with it, claims of idempotency."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass
from typing import Self

import sqlalchemy as sa

from gateway.deltas import START, Delta, Draft, Position
from gateway.events import Approval, Event, Outcome, RequiresAction, RunStatus
from gateway.problems import NotStored
from gateway.store import tables
from gateway.store.database import Database, upsert
from gateway.store.following import Following, Tail
from gateway.store.keys import add_usage, excess
from gateway.store.rows import Claim, Claimed, Exceeded, Key, Lease, RunRow, Taken
from gateway.store.webhooks import arm, await_end

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
_NEW_RUN, _NEW_EVENT = _runs.insert(), _events.insert()
_NEWEST = sa.select(sa.func.max(_events.c.seq)).where(_events.c.run_id == _runs.c.id).scalar_subquery()
_HELD = (
    sa.select(_runs.c.id, _runs.c.owner, _runs.c.key_id, _NEWEST.label("newest"))
    .where(_runs.c.id.in_(sa.bindparam("wanted", expanding=True)), _runs.c.outcome.is_(None))
    .order_by(_runs.c.id)
    .with_for_update()
)
_END = (
    _runs.update()
    .where(_runs.c.id == sa.bindparam("ended"))
    .values(outcome=sa.bindparam("how"), owner=None, until=None)
)
_LEAVE = _runs.update().where(_runs.c.id == sa.bindparam("waits")).values(owner=None, until=sa.bindparam("to"))


@dataclass(frozen=True)
class _Append:
    owner: str
    event: Event


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

        def statement(connection: sa.Connection) -> Claimed | Exceeded | None:
            if claim is not None and (taken := _claimed(connection, key.tenant, claim.key)):
                return taken
            if exceeded := excess(connection, key, event.at):
                return exceeded
            if claim is not None:
                row = {**claim.model_dump(), "tenant": key.tenant, "run_id": event.run_id, "at": event.at}
                insert = upsert(connection, _claims).values(row).on_conflict_do_nothing().returning(_claims.c.key)
                if connection.execute(insert).first() is None:  # another gateway was faster
                    return _claimed(connection, key.tenant, claim.key)
            row = {
                "id": event.run_id,
                "tenant": key.tenant,
                "key_id": key.id,
                "query": event.data["query"].replace("\0", "\ufffd"),  # PostgreSQL's text has no place for it
                "created_at": event.at,
                "cancel_asked": False,
                **lease.model_dump(),
            }
            connection.execute(_NEW_RUN, row)
            connection.execute(_NEW_EVENT, _row(event))
            if webhook is not None:
                await_end(connection, event.run_id, webhook, event.at)
            return None

        return await self._database.write(statement)

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
            if asked.data["step"] != approval.step:
                return None
            decided = Event.of(run_id, asked.seq + 1, approval)
            connection.execute(_NEW_EVENT, _row(decided))
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

    def append(self, owner: str, event: Event, later: bool = False) -> asyncio.Future[None]:
        """Done when the event is on disk and the run's followers are told, or raises NotStored.

        The log has no gap: an event is stored only after the one before it, which need not be waited for. One that is
        stored `later`, a moment at most, shares a commit. A run that requires action is its owner's no more.
        """
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        writing = self._database.write_bulk(_append_all, _Append(owner, event), later)
        writing.add_done_callback(lambda written: self._appended(event, written, done))
        return done

    def _appended(self, event: Event, written: asyncio.Future[bool], done: asyncio.Future[None]) -> None:
        problem: NotStored | None = None
        if error := written.exception():
            problem = NotStored("the database did not take the run's next event; the gateway's log says why")
            problem.__cause__ = error
        elif not written.result():
            problem = NotStored("the run has ended, goes on in another gateway, or an event before this is missing")
        if problem is None:
            self._following.tell(event)
        if problem is not None or event.type == RequiresAction.type:
            self._following.is_elsewhere(event.run_id)
        if done.done():  # nobody waits any more
            return
        if problem is None:
            done.set_result(None)
        else:
            done.set_exception(problem)

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


def _append_all(connection: sa.Connection, appends: list[_Append]) -> list[bool]:
    """Append those events that are the next of their run, if that is still their owner's; the lock keeps others from
    taking it until the commit."""
    wanted = list({append.event.run_id for append in appends})
    held = {row.id: row for row in connection.execute(_HELD, {"wanted": wanted})}
    newest = {run_id: row.newest for run_id, row in held.items()}
    events, results = list[Event](), list[bool]()
    for append in appends:
        event = append.event
        row = held.get(event.run_id)
        is_next = row is not None and row.owner == append.owner and event.seq == newest[event.run_id] + 1
        if is_next:
            newest[event.run_id] = event.seq
            events.append(event)
        results.append(is_next)
    if not events:
        return results
    connection.execute(_NEW_EVENT, [_row(event) for event in events])
    ended = [{"ended": event.run_id, "how": event.data["outcome"]} for event in events if event.is_last]
    if ended:
        connection.execute(_END, ended)
        arm(connection, [run["ended"] for run in ended], time.time())
    waits = [{"waits": e.run_id, "to": e.data["expires_at"]} for e in events if e.type == RequiresAction.type]
    if waits:
        connection.execute(_LEAVE, waits)
    add_usage(connection, ((held[event.run_id].key_id, _tokens(event)) for event in events), time.time())
    return results


def _lock_waiting(connection: sa.Connection, run_id: str, *more: sa.ColumnElement[bool]) -> bool:
    """Whether the run waits for approval; it is nobody else's until the commit."""
    chosen = sa.select(_runs.c.id).where(_runs.c.id == run_id, tables.waits, *more)
    return connection.execute(chosen.with_for_update()).first() is not None


def _take(connection: sa.Connection, run_ids: list[str], lease: Lease) -> list[Taken]:
    take = _runs.update().where(_runs.c.id.in_(run_ids)).values(lease.model_dump())
    rows = connection.execute(take.returning(_runs.c.id.label("run_id"), _runs.c.tenant)).mappings()
    return [Taken.model_validate(dict(row)) for row in rows]


def _claimed(connection: sa.Connection, tenant: str, key: str) -> Claimed | None:
    chosen = _claims.select().where(_claims.c.tenant == tenant, _claims.c.key == key)
    row = connection.execute(chosen).mappings().first()
    return None if row is None else Claimed(key=row["key"], digest=row["digest"], run_id=row["run_id"])


def read_events(connection: sa.Connection, chosen: sa.Select, asked: Mapping[str, object] | None = None) -> list[Event]:
    """The events that `chosen` selects; `asked` are its parameters."""
    rows = connection.execute(chosen, asked).all()
    return [Event(run_id=row.run_id, seq=row.seq, type=row.type, at=row.at, data=json.loads(row.data)) for row in rows]


def _row(event: Event) -> dict[str, object]:
    return {**{name: getattr(event, name) for name in ("run_id", "seq", "type", "at")}, "data": json.dumps(event.data)}


def _tokens(event: Event) -> int:
    usage = event.data.get("usage") or {}
    return int(usage.get("prompt_tokens", 0)) + int(usage.get("completion_tokens", 0))
