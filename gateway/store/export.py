"""Reading the logs of many runs, a few at a time: whoever exports holds no more than that in memory."""

from collections.abc import AsyncIterator
from itertools import groupby

import sqlalchemy as sa

from gateway.events import Event, Outcome
from gateway.store import tables
from gateway.store.database import Database
from gateway.store.eventlog import read_events
from gateway.store.rows import Selection

_runs, _events = tables.runs, tables.events
_AT_ONCE = 50


async def logs(database: Database, selection: Selection) -> AsyncIterator[list[Event]]:
    """The log of each selected run that has ended, the oldest run first; runs that end meanwhile may be left out."""
    after = (float("-inf"), "") if selection.since is None else (selection.since, "")
    while found := await database.read(lambda connection, after=after: _page(connection, selection, after)):
        for _, log in found:
            yield log
        after = found[-1][0]


def _page(
    connection: sa.Connection, selection: Selection, after: tuple[float, str]
) -> list[tuple[tuple[float, str], list[Event]]]:
    """Some logs, each with the position (time and id) of its run."""
    position = sa.tuple_(_runs.c.created_at, _runs.c.id)
    chosen = sa.select(_runs.c.created_at, _runs.c.id).where(_runs.c.tenant == selection.tenant)
    chosen = chosen.where(position > sa.tuple_(*map(sa.literal, after)))
    chosen = chosen.where(_has_ended(selection.outcome))
    if selection.until is not None:
        chosen = chosen.where(_runs.c.created_at < selection.until)
    rows = connection.execute(chosen.order_by(_runs.c.created_at, _runs.c.id).limit(_AT_ONCE)).all()
    positions = {row.id: (row.created_at, row.id) for row in rows}
    events = _events.select().where(_events.c.run_id.in_(positions)).order_by(_events.c.run_id, _events.c.seq)
    grouped = groupby(read_events(connection, events), lambda event: event.run_id)
    return sorted((positions[run_id], list(log)) for run_id, log in grouped)


def _has_ended(outcome: Outcome | None) -> sa.ColumnElement[bool]:
    return _runs.c.outcome.is_not(None) if outcome is None else _runs.c.outcome == outcome
