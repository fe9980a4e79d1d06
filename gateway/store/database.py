"""The database: SQLite in WAL mode, or PostgreSQL through psycopg.

SQLAlchemy is used from threads, not through its asyncio extension (docs/adr/0003). Whatever is written goes through
one writer task, which puts all that has gathered into one transaction: events of many runs share one commit. What
nobody waits for goes with the next commit that somebody does wait for.
"""

import asyncio
import logging
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import copy_context
from functools import partial
from pathlib import Path
from typing import Any, Self, TypeVar

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from sqlalchemy import event
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from umi import errors

_log = logging.getLogger("umi.gateway")
T = TypeVar("T")
Item = TypeVar("Item")
Statement = Callable[[sa.Connection], T]
Bulk = Callable[[sa.Connection, list[Item]], list[T]]
"""Writes many items at once, and says of each what became of it."""
_MOST = 256
_LATER = 0.01
"""Seconds for which a write that nobody waits for may be put off."""
_THREADS = 8
_Waiting = tuple[Bulk[Any, Any], Any, Callable[[Any], None]]
_MIGRATING = 0x756D69
"""The number of PostgreSQL's advisory lock under which one gateway at a time migrates."""


class Database:
    """Use as an async context manager, which migrates and then writes; `transaction` works without."""

    def __init__(self, url: str) -> None:
        where = address(url)
        self._engine = sa.create_engine(where, pool_pre_ping=where.get_backend_name() != "sqlite")
        if self._engine.dialect.name == "sqlite":
            event.listen(self._engine, "connect", _configure_sqlite)
            event.listen(self._engine, "begin", _begin_sqlite)
        self._writing = self._engine.execution_options(umi_writes=True)
        self._threads = ThreadPoolExecutor(_THREADS, "database")
        """Its own, so that closing can wait for a read whose asker has gone."""
        self._queue: asyncio.Queue[_Waiting] = asyncio.Queue()
        self._put_off: list[_Waiting] = []
        self._writer: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        await asyncio.to_thread(self.migrate)
        self._writer = asyncio.create_task(self._write(), name="database writer")
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._writer is not None
        self._writer.cancel()
        await asyncio.gather(self._writer, return_exceptions=True)
        await asyncio.to_thread(self.close)

    def close(self) -> None:
        """Wait for what still goes on in a thread, and close the connections."""
        self._threads.shutdown()
        self._engine.dispose()

    def migrate(self) -> None:
        """Bring the tables up to date, or leave them if they are. Of several gateways one migrates, the others wait."""
        if (file := self._engine.url.database) and self._engine.dialect.name == "sqlite":
            Path(file).parent.mkdir(parents=True, exist_ok=True)
        config = Config()
        config.set_main_option("script_location", str(Path(__file__).with_name("migrations")))
        with self.transaction() as connection:  # SQLite's lock is taken by the transaction
            if connection.dialect.name == "postgresql":
                connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_MIGRATING)))
            config.attributes["connection"] = connection
            command.upgrade(config, "head")

    @contextmanager
    def transaction(self) -> Generator[sa.Connection]:
        """A transaction that may write, for commands; a gateway uses `write`."""
        with self._writing.begin() as connection:
            yield connection

    async def read(self, statement: Statement[T]) -> T:
        """What `statement` finds."""

        def run() -> T:
            with self._engine.connect() as connection:
                return statement(connection)

        return await asyncio.get_running_loop().run_in_executor(self._threads, run)

    async def write(self, statement: Statement[T]) -> T:
        """Run `statement` in a transaction with whatever else waits. Returns when it is on disk.

        It may run twice when something fails, and must not raise but SQLAlchemy's errors, which are raised here.
        """
        return await self.write_bulk(_one_by_one, statement)

    async def write_bulk(self, bulk: Bulk[Item, T], item: Item) -> T:
        """As `write`; all items that wait for the same `bulk` are given to it together, in order."""
        done: asyncio.Future[T] = asyncio.get_running_loop().create_future()

        def told(result: T | Exception) -> None:
            if done.done():  # nobody waits any more
                return
            if isinstance(result, Exception):
                done.set_exception(result)
            else:
                done.set_result(result)

        self.put(bulk, item, told)
        return await done

    def put(self, bulk: Bulk[Item, T], item: Item, told: Callable[[T | Exception], None], later: bool = False) -> None:
        """As `write_bulk`, but does not wait: what became of the item is `told`, in the context of whoever puts it.

        One that is written `later`, a moment at most, has gone before any that is written after it.
        """
        self._put_off.append((bulk, item, partial(copy_context().run, told)))
        if not later:
            self._put_off_no_longer()
        elif len(self._put_off) == 1:
            asyncio.get_running_loop().call_later(_LATER, self._put_off_no_longer)

    def _put_off_no_longer(self) -> None:
        for waiting in self._put_off:
            self._queue.put_nowait(waiting)
        self._put_off.clear()

    async def _write(self) -> None:
        while True:
            batch = [await self._queue.get()]
            self._put_off_no_longer()
            while not self._queue.empty() and len(batch) < _MOST:
                batch.append(self._queue.get_nowait())
            results = await asyncio.get_running_loop().run_in_executor(self._threads, self._transact, batch)
            for (_, _, told), result in zip(batch, results, strict=True):
                try:
                    told(result)
                except Exception:  # the edge: it must not keep others from being told, nor end the writing
                    _log.exception("what became of a write could not be told")

    def _transact(self, batch: list[_Waiting]) -> list[Any]:
        """All in one commit; if that fails each in its own, so that one bad write does not take the others along."""
        kinds: dict[Bulk[Any, Any], list[int]] = {}
        for number, (bulk, _, _) in enumerate(batch):
            kinds.setdefault(bulk, []).append(number)
        results: list[Any] = [None] * len(batch)
        try:
            with self.transaction() as connection:
                for bulk, numbers in kinds.items():
                    made = bulk(connection, [batch[number][1] for number in numbers])
                    for number, result in zip(numbers, made, strict=True):
                        results[number] = result
        except (SQLAlchemyError, ValueError) as error:  # ValueError: text that cannot be encoded
            return [error] if len(batch) == 1 else [self._transact([waiting])[0] for waiting in batch]
        return results


def address(url: str) -> sa.URL:
    """SQLAlchemy's URL of the database, with the driver that is installed with the gateway. Raises ArgumentError."""
    parsed = sa.make_url(url)
    match parsed.get_backend_name():
        case "sqlite" if parsed.database:
            return parsed.set(drivername="sqlite")
        case "postgresql":
            return parsed.set(drivername="postgresql+psycopg")
        case _:
            raise ArgumentError("UMI_DATABASE must be sqlite:///FILE or postgresql://USER:PASSWORD@HOST/DATABASE")


def first_line(error: Exception) -> str:
    """What the database or its driver said, for people; without statements, values and passwords."""
    return errors.first_line(getattr(error, "orig", None) or error)


def upsert(connection: sa.Connection, table: sa.Table) -> postgresql.Insert | sqlite.Insert:
    """An INSERT that knows ON CONFLICT, which both databases spell alike."""
    return postgresql.insert(table) if connection.dialect.name == "postgresql" else sqlite.insert(table)


def _one_by_one(connection: sa.Connection, statements: list[Statement[Any]]) -> list[Any]:
    return [statement(connection) for statement in statements]


def _configure_sqlite(connection: Any, _: object) -> None:
    """Readers beside one writer, a wait instead of an error when the file is locked, transactions begun by us."""
    connection.isolation_level = None
    cursor = connection.cursor()
    for pragma in ("busy_timeout=30000", "journal_mode=WAL", "foreign_keys=ON"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin_sqlite(connection: sa.Connection) -> None:
    """A transaction that will write takes the lock at once: one that reads first could not wait for it later."""
    writes = connection.get_execution_options().get("umi_writes", False)
    if writes:
        connection.exec_driver_sql("BEGIN IMMEDIATE")
    else:  # cannot fail, and through SQLAlchemy would take longer than the reading
        driver: Any = connection.connection.driver_connection
        driver.execute("BEGIN")
