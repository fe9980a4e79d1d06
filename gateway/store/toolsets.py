"""Registered toolsets, and every version of them that there was."""

import hashlib
import json
import time
import uuid
from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from gateway.store import tables
from gateway.store.database import Database, upsert
from gateway.store.rows import ToolsetOptions, ToolsetRow, ToolsetVersion

_toolsets, _versions = tables.toolsets, tables.toolset_versions


class ToolsetStore:
    """The toolsets of all tenants."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def save(self, row: ToolsetRow, operations: Mapping[str, int]) -> int:
        """Make `row` the tenant's toolset of that name, in the place of the one before; returns its version.

        That is a new one, unless there was one of the same content. `operations` counts what became of them.
        """
        digest = digest_of(row)
        document, options = json.dumps(row.document), row.options.model_dump_json()
        mine = _named(_versions, row.tenant, row.name)

        def statement(connection: sa.Connection) -> int:
            now, revision = time.time(), uuid.uuid4().hex
            # First, for its lock: of two gateways that save the same toolset, one waits here for the other's version.
            place = upsert(connection, _toolsets).values(tenant=row.tenant, name=row.name, revision=revision, version=0)
            again = place.on_conflict_do_update(index_elements=["tenant", "name"], set_={"revision": revision})
            connection.execute(again)
            chosen = sa.select(_versions.c.version).where(mine, _versions.c.digest == digest)
            version = connection.execute(chosen.with_for_update()).scalar()  # or it might be pruned meanwhile
            _replace(connection, sa.and_(mine, _versions.c.digest != digest), now)
            if version is None:
                newest = sa.select(sa.func.coalesce(sa.func.max(_versions.c.version), 0)).where(mine)
                version = int(connection.execute(newest).scalar_one()) + 1
                values: dict[str, Any] = {"tenant": row.tenant, "name": row.name, "version": version, "digest": digest}
                values |= {"url": row.url, "document": document, "options": options, "registered_at": now}
                connection.execute(_versions.insert().values(**values, operations=json.dumps(operations)))
            else:
                same = sa.and_(mine, _versions.c.version == version)
                connection.execute(_versions.update().where(same).values(replaced_at=None))
            mark = _toolsets.update().where(_named(_toolsets, row.tenant, row.name))
            connection.execute(mark.values(version=version))
            return version

        return await self._database.write(statement)

    async def delete(self, tenant: str, name: str) -> None:
        """Forget a toolset, but not its versions."""

        def statement(connection: sa.Connection) -> None:
            connection.execute(_toolsets.delete().where(_named(_toolsets, tenant, name)))
            _replace(connection, _named(_versions, tenant, name), time.time())

        await self._database.write(statement)

    async def all(self) -> list[ToolsetRow]:
        """All toolsets in the order of their first registration."""
        its = sa.and_(*(_toolsets.c[name] == _versions.c[name] for name in ("tenant", "name", "version")))
        chosen = sa.select(_versions).join(_toolsets, its).order_by(_toolsets.c.position)
        return await self._database.read(lambda connection: [_row(row) for row in connection.execute(chosen)])

    async def versions(self, tenant: str, name: str) -> list[ToolsetVersion]:
        """The versions of a toolset that are kept, the newest first."""
        listed = [column for column in _versions.c if column.name not in {"document", "options"}]
        chosen = sa.select(*listed).where(_named(_versions, tenant, name)).order_by(_versions.c.version.desc())
        return await self._database.read(lambda connection: [_version(row) for row in connection.execute(chosen)])

    async def version(self, tenant: str, name: str, version: int) -> tuple[ToolsetVersion, ToolsetRow] | None:
        """A version and its content, if it is kept."""
        chosen = _versions.select().where(_named(_versions, tenant, name), _versions.c.version == version)
        found = await self._database.read(lambda connection: connection.execute(chosen).first())
        return None if found is None else (_version(found), _row(found))

    async def revisions(self) -> frozenset[str]:
        """Differs from what it was when any toolset has changed since, through whichever gateway."""
        chosen = sa.select(_toolsets.c.revision, _toolsets.c.position)

        def statement(connection: sa.Connection) -> frozenset[str]:
            return frozenset(f"{row.position}:{row.revision}" for row in connection.execute(chosen))

        return await self._database.read(statement)


def digest_of(row: ToolsetRow) -> str:
    """The SHA-256 of what a registration says. What is at its default counts as not said: there may be more one day."""
    said = [row.url, row.document, row.options.model_dump(mode="json", exclude_defaults=True)]
    return hashlib.sha256(json.dumps(said).encode()).hexdigest()


def _replace(connection: sa.Connection, which: sa.ColumnElement[bool], now: float) -> None:
    current = _versions.c.replaced_at.is_(None)
    connection.execute(_versions.update().where(which, current).values(replaced_at=now))


def _row(row: Any) -> ToolsetRow:
    return ToolsetRow(
        name=row.name,
        url=row.url,
        document=json.loads(row.document),
        tenant=row.tenant,
        options=ToolsetOptions.model_validate_json(row.options),
        version=row.version,
    )


def _version(row: Any) -> ToolsetVersion:
    return ToolsetVersion(
        version=row.version,
        current=row.replaced_at is None,
        registered_at=row.registered_at,
        replaced_at=row.replaced_at,
        digest=row.digest,
        operations=None if row.operations is None else json.loads(row.operations),
    )


def _named(table: sa.Table, tenant: str, name: str) -> sa.ColumnElement[bool]:
    return sa.and_(table.c.tenant == tenant, table.c.name == name)
