"""The run store: an append-only log of events per run, and the registered toolsets.

The database is used through SQLAlchemy in threads. All writes go through one writer task, which puts whatever has
gathered into one transaction: events of many runs share one commit.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any, Self

import sqlalchemy as sa
from sqlalchemy import event as sa_event
from sqlalchemy.exc import SQLAlchemyError

from gateway.events import Event, Outcome
from umi.trajectory import Frozen, JsonObject

_metadata = sa.MetaData()
_runs = sa.Table(
    "runs",
    _metadata,
    sa.Column("id", sa.String(64), primary_key=True),
    sa.Column("query", sa.Text, nullable=False),
    sa.Column("created_at", sa.Float, nullable=False),
    sa.Column("outcome", sa.String(16)),
)
_events = sa.Table(
    "events",
    _metadata,
    sa.Column("run_id", sa.String(64), sa.ForeignKey("runs.id"), primary_key=True),
    sa.Column("seq", sa.Integer, primary_key=True),
    sa.Column("type", sa.String(32), nullable=False),
    sa.Column("at", sa.Float, nullable=False),
    sa.Column("data", sa.Text, nullable=False),
)
_toolsets = sa.Table(
    "toolsets",
    _metadata,
    sa.Column("position", sa.Integer, primary_key=True),
    sa.Column("name", sa.String(64), nullable=False, unique=True),
    sa.Column("url", sa.Text),
    sa.Column("document", sa.Text, nullable=False),
)

_claims = sa.Table(
    "claims",
    _metadata,
    sa.Column("key", sa.String(200), primary_key=True),
    sa.Column("digest", sa.String(64), nullable=False),
    sa.Column("run_id", sa.String(64), nullable=False),
    sa.Column("at", sa.Float, nullable=False),
)

_leases = sa.Table(
    "leases",
    _metadata,
    sa.Column("run_id", sa.String(64), primary_key=True),
    sa.Column("owner", sa.String(64), nullable=False),
    sa.Column("until", sa.Float, nullable=False),
)

Statement = Callable[[sa.Connection], Any]


class ToolsetRow(Frozen):
    """A registered toolset as it is kept: `document` has one absolute server URL."""

    name: str
    url: str | None = None
    document: JsonObject


class Claim(Frozen):
    """A client's word that a request is made once: its key, and a digest of what it asked for."""

    key: str
    digest: str


class Claimed(Claim):
    """A claim, and the run that was begun for it."""

    run_id: str


class Lease(Frozen):
    """Whose a run is, and until when (seconds since the epoch) nobody else may go on with it."""

    owner: str
    until: float


class RunRow(Frozen):
    """A run as lists show it. `outcome` is None while it goes on."""

    run_id: str
    created_at: float
    query: str
    outcome: Outcome | None


class Store:
    """Use as an async context manager; entering creates the tables."""

    def __init__(self, url: str) -> None:
        self._engine = sa.create_engine(url)
        if self._engine.dialect.name == "sqlite":
            sa_event.listen(self._engine, "connect", _configure_sqlite)
        self._queue: asyncio.Queue[tuple[Statement, asyncio.Future[None]]] = asyncio.Queue()
        self._grown: dict[str, asyncio.Event] = {}
        self._writer: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        await asyncio.to_thread(_metadata.create_all, self._engine)
        self._writer = asyncio.create_task(self._write())
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._writer is not None
        self._writer.cancel()
        await asyncio.gather(self._writer, return_exceptions=True)
        await asyncio.to_thread(self._engine.dispose)

    async def create(self, event: Event, claim: Claim | None, lease: Lease) -> Claimed | None:
        """Store a run's first event, its lease and its claim. When the key is taken, nothing is stored: who took it."""
        taken: list[Claimed] = []

        def statement(connection: sa.Connection) -> None:
            if claim is not None:
                found = connection.execute(_claims.select().where(_claims.c.key == claim.key)).mappings().first()
                if found is not None:
                    taken[:] = [Claimed(key=found["key"], digest=found["digest"], run_id=found["run_id"])]
                    return
                row = {**claim.model_dump(), "run_id": event.run_id, "at": event.at}
                connection.execute(_claims.insert().values(row))
            row = {"id": event.run_id, "query": event.data["query"], "created_at": event.at}
            connection.execute(_runs.insert().values(row))
            connection.execute(_leases.insert().values(run_id=event.run_id, owner=lease.owner, until=lease.until))
            _insert(connection, event)

        await self._commit(statement)
        return taken[0] if taken else None

    async def renew(self, lease: Lease) -> None:
        """Keep all runs of an owner."""

        def statement(connection: sa.Connection) -> None:
            connection.execute(_leases.update().where(_leases.c.owner == lease.owner).values(until=lease.until))

        await self._commit(statement)

    async def release(self, owner: str) -> None:
        """Give up all runs of an owner: another may take them at once."""
        await self._commit(lambda connection: connection.execute(_leases.delete().where(_leases.c.owner == owner)))

    async def take_orphans(self, lease: Lease, now: float) -> list[str]:
        """Take every unfinished run whose lease is over, or that has none; of several takers one gets a run."""
        taken: list[str] = []

        def statement(connection: sa.Connection) -> None:
            taken.clear()
            unfinished = sa.select(_runs.c.id).outerjoin(_leases, _leases.c.run_id == _runs.c.id)
            lapsed = sa.or_(_leases.c.until.is_(None), _leases.c.until < now)
            for run_id in connection.execute(unfinished.where(_runs.c.outcome.is_(None), lapsed)).scalars().all():
                mine = {"owner": lease.owner, "until": lease.until}
                over = sa.and_(_leases.c.run_id == run_id, _leases.c.until < now)
                if connection.execute(_leases.update().where(over).values(mine)).rowcount:
                    taken.append(run_id)
                elif connection.execute(sa.select(_leases.c.run_id).where(_leases.c.run_id == run_id)).first() is None:
                    connection.execute(_leases.insert().values(run_id=run_id, **mine))
                    taken.append(run_id)

        await self._commit(statement)
        return taken

    async def append(self, event: Event) -> None:
        """Returns when the event is on disk; followers of the run are told."""

        def statement(connection: sa.Connection) -> None:
            _insert(connection, event)
            if event.is_last:
                update = _runs.update().where(_runs.c.id == event.run_id)
                connection.execute(update.values(outcome=event.data["outcome"]))
                connection.execute(_leases.delete().where(_leases.c.run_id == event.run_id))

        await self._commit(statement)
        if grown := self._grown.pop(event.run_id, None):
            grown.set()

    async def events(self, run_id: str, after: int = -1) -> list[Event]:
        """The run's events with `seq` beyond `after`; empty when there are none, or no such run."""

        def read() -> list[Event]:
            with self._engine.connect() as connection:
                chosen = _events.select().where(_events.c.run_id == run_id, _events.c.seq > after)
                rows = connection.execute(chosen.order_by(_events.c.seq)).mappings()
                return [Event(**{**row, "data": json.loads(row["data"])}) for row in rows]

        return await asyncio.to_thread(read)

    async def follow(self, run_id: str, after: int = -1, patience: float = 10.0) -> AsyncIterator[Event | None]:
        """Replay, then wait for more until the run's last event; None after every `patience` seconds of silence."""
        while True:
            # Taken before reading, so that nothing appended in between is missed.
            grown = self._grown.setdefault(run_id, asyncio.Event())
            for event in await self.events(run_id, after):
                after = event.seq
                yield event
                if event.is_last:
                    return
            try:
                async with asyncio.timeout(patience):
                    await grown.wait()
            except TimeoutError:
                yield None

    async def outcome(self, run_id: str) -> Outcome | None:
        """How a run ended; None for one that goes on, or is not there."""

        def read() -> Outcome | None:
            with self._engine.connect() as connection:
                found = connection.execute(sa.select(_runs.c.outcome).where(_runs.c.id == run_id)).scalar()
                return Outcome(found) if found else None

        return await asyncio.to_thread(read)

    async def runs(
        self, limit: int, outcome: str | None = None, before: tuple[float, str] | None = None
    ) -> list[RunRow]:
        """Runs, newest first: those older than `before` (time and id), of one outcome ("running": none yet)."""

        def read() -> list[RunRow]:
            columns = (_runs.c.id.label("run_id"), _runs.c.created_at, _runs.c.query, _runs.c.outcome)
            chosen = sa.select(*columns).order_by(_runs.c.created_at.desc(), _runs.c.id.desc())
            chosen = chosen.limit(limit)
            if outcome is not None:
                chosen = chosen.where(_runs.c.outcome.is_(None) if outcome == "running" else _runs.c.outcome == outcome)
            if before is not None:
                chosen = chosen.where(sa.tuple_(_runs.c.created_at, _runs.c.id) < sa.tuple_(*map(sa.literal, before)))
            with self._engine.connect() as connection:
                return [RunRow.model_validate(dict(row)) for row in connection.execute(chosen).mappings()]

        return await asyncio.to_thread(read)

    async def delete_run(self, run_id: str) -> None:
        """Forget a run and its events."""

        def statement(connection: sa.Connection) -> None:
            for table, column in ((_events, _events.c.run_id), (_claims, _claims.c.run_id), (_runs, _runs.c.id)):
                connection.execute(table.delete().where(column == run_id))

        await self._commit(statement)

    async def save_toolset(self, row: ToolsetRow) -> None:
        """Insert, or replace the one of that name in its place."""

        def statement(connection: sa.Connection) -> None:
            values = {"url": row.url, "document": json.dumps(row.document)}
            updated = connection.execute(_toolsets.update().where(_toolsets.c.name == row.name).values(values))
            if not updated.rowcount:
                connection.execute(_toolsets.insert().values(name=row.name, **values))

        await self._commit(statement)

    async def delete_toolset(self, name: str) -> None:
        """Forget a toolset."""
        await self._commit(lambda connection: connection.execute(_toolsets.delete().where(_toolsets.c.name == name)))

    async def toolsets(self) -> list[ToolsetRow]:
        """All toolsets in the order of their first registration."""

        def read() -> list[ToolsetRow]:
            with self._engine.connect() as connection:
                rows = connection.execute(_toolsets.select().order_by(_toolsets.c.position)).mappings()
                return [ToolsetRow(name=r["name"], url=r["url"], document=json.loads(r["document"])) for r in rows]

        return await asyncio.to_thread(read)

    async def _commit(self, statement: Statement) -> None:
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queue.put_nowait((statement, done))
        await done

    async def _write(self) -> None:
        while True:
            batch = [await self._queue.get()]
            while not self._queue.empty() and len(batch) < 256:
                batch.append(self._queue.get_nowait())
            errors = await asyncio.to_thread(self._transact, [statement for statement, _ in batch])
            for (_, done), error in zip(batch, errors, strict=True):
                if done.done():
                    continue
                if error is None:
                    done.set_result(None)
                else:
                    done.set_exception(error)

    def _transact(self, statements: list[Statement]) -> list[SQLAlchemyError | None]:
        """All in one commit; if that fails each in its own, so that one bad write does not take the others along."""
        try:
            with self._engine.begin() as connection:
                for statement in statements:
                    statement(connection)
        except SQLAlchemyError as error:
            if len(statements) == 1:
                return [error]
            return [self._transact([statement])[0] for statement in statements]
        return [None] * len(statements)


def _insert(connection: sa.Connection, event: Event) -> None:
    row = event.model_dump(exclude={"data"})
    connection.execute(_events.insert().values(**row, data=json.dumps(event.data)))


def _configure_sqlite(connection: Any, _: object) -> None:
    """Readers beside one writer, and a wait instead of an error when the file is locked."""
    cursor = connection.cursor()
    for pragma in ("journal_mode=WAL", "busy_timeout=5000", "foreign_keys=ON"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()
