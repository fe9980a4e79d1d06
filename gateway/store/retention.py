"""Forgetting old runs, so that the log does not grow for ever."""

import sqlalchemy as sa

from gateway.store import tables

_runs, _events, _claims = tables.runs, tables.events, tables.claims


def prune(connection: sa.Connection, before: float, tenant: str | None = None, most: int = 500) -> int:
    """Forget at most `most` runs that have ended and began before that time, of one tenant or all; returns how many.

    Idempotency keys go with their runs. Call it again, in a transaction of its own, until it returns 0: a gateway's
    writes get their turn in between.
    """
    old = sa.select(_runs.c.id).where(_runs.c.outcome.is_not(None), _runs.c.created_at < before)
    if tenant is not None:
        old = old.where(_runs.c.tenant == tenant)
    found = list(connection.execute(old.limit(most).with_for_update(skip_locked=True)).scalars())
    for table, column in ((_events, _events.c.run_id), (_claims, _claims.c.run_id), (_runs, _runs.c.id)):
        connection.execute(table.delete().where(column.in_(found)))
    return len(found)
