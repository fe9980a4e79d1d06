"""Forgetting old runs, so that the log does not grow for ever, and the versions of toolsets that no other run needs."""

import time

import sqlalchemy as sa

from gateway.store import tables

_runs, _deliveries, _versions = tables.runs, tables.deliveries, tables.toolset_versions
_APART = 3600.0
"""How many seconds the clocks of gateways may be apart, and what they know of toolsets behind the database."""


def prune(connection: sa.Connection, before: float, tenant: str | None = None, most: int = 500) -> int:
    """Forget at most `most` runs that have ended and began before that time, of one tenant or all; returns how many.

    Idempotency keys go with their runs; a run whose webhook is still to be sent stays. Call it again, in a transaction
    of its own, until it returns 0: a gateway's writes get their turn in between.
    """
    old = sa.select(_runs.c.id).where(_runs.c.outcome.is_not(None), _runs.c.created_at < before)
    to_send = sa.select(_deliveries.c.run_id).where(_deliveries.c.due_at.is_not(None))
    old = old.where(_runs.c.id.not_in(to_send))
    if tenant is not None:
        old = old.where(_runs.c.tenant == tenant)
    found = list(connection.execute(old.limit(most).with_for_update(skip_locked=True)).scalars())
    for table, column in tables.OF_A_RUN:
        connection.execute(table.delete().where(column.in_(found)))
    return len(found)


def prune_versions(connection: sa.Connection, before: float, tenant: str | None = None) -> int:
    """Forget versions of toolsets that were replaced, or deleted, before that time; returns how many.

    One that any run may have been offered stays: a run takes tools from what is current while it goes on, so it has
    none of what was replaced before it began.
    """
    until = min(before, time.time() - _APART)
    needed = sa.select(_runs.c.id).where(
        _runs.c.tenant == _versions.c.tenant, _runs.c.created_at < _versions.c.replaced_at + _APART
    )
    old = _versions.delete().where(_versions.c.replaced_at < until, ~needed.exists())
    if tenant is not None:
        old = old.where(_versions.c.tenant == tenant)
    return connection.execute(old).rowcount
