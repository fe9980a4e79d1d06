"""Registered toolsets."""

import json
import uuid

import sqlalchemy as sa

from gateway.store import tables
from gateway.store.database import Database
from gateway.store.rows import ToolsetOptions, ToolsetRow

_toolsets = tables.toolsets


class ToolsetStore:
    """The toolsets of all tenants."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def save(self, row: ToolsetRow) -> None:
        """Insert, or replace the tenant's one of that name in its place."""

        def statement(connection: sa.Connection) -> None:
            values = {
                "url": row.url,
                "document": json.dumps(row.document),
                "revision": uuid.uuid4().hex,
                "options": row.options.model_dump_json(),
            }
            updated = connection.execute(_toolsets.update().where(_named(row.tenant, row.name)).values(values))
            if not updated.rowcount:
                connection.execute(_toolsets.insert().values(tenant=row.tenant, name=row.name, **values))

        await self._database.write(statement)

    async def delete(self, tenant: str, name: str) -> None:
        """Forget a toolset."""
        delete = _toolsets.delete().where(_named(tenant, name))
        await self._database.write(lambda connection: connection.execute(delete).rowcount)

    async def all(self) -> list[ToolsetRow]:
        """All toolsets in the order of their first registration."""

        def statement(connection: sa.Connection) -> list[ToolsetRow]:
            rows = connection.execute(_toolsets.select().order_by(_toolsets.c.position))
            return [
                ToolsetRow(
                    name=row.name,
                    url=row.url,
                    document=json.loads(row.document),
                    tenant=row.tenant,
                    options=ToolsetOptions.model_validate_json(row.options),
                )
                for row in rows
            ]

        return await self._database.read(statement)

    async def revisions(self) -> frozenset[str]:
        """Differs from what it was when any toolset has changed since, through whichever gateway."""
        chosen = sa.select(_toolsets.c.revision, _toolsets.c.position)

        def statement(connection: sa.Connection) -> frozenset[str]:
            return frozenset(f"{row.position}:{row.revision}" for row in connection.execute(chosen))

        return await self._database.read(statement)


def _named(tenant: str, name: str) -> sa.ColumnElement[bool]:
    return sa.and_(_toolsets.c.tenant == tenant, _toolsets.c.name == name)
