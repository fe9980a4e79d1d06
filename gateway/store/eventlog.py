"""Writing runs' logs, those of many runs at once: what begins them, and what happens in them."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from gateway.events import PAYLOADS, Called, Event, Payload, Planned, RequiresAction, RunCompleted, RunCreated
from gateway.store import tables
from gateway.store.database import upsert
from gateway.store.keys import add_usage, excess
from gateway.store.rows import Claim, Claimed, Exceeded, Key, Lease
from gateway.store.webhooks import arm, await_end

_runs, _events, _claims = tables.runs, tables.events, tables.claims
# Made once: to build a statement costs more than to execute it.
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


Logged = Claimed | Exceeded | bool | None
"""What became of an entry: see `RunStore.create`; whether it was appended."""


@dataclass(frozen=True)
class Create:
    """A run to be begun by its first event; see `RunStore.create`."""

    event: Event
    key: Key
    claim: Claim | None
    lease: Lease
    webhook: str | None

    @property
    def may_be_refused(self) -> bool:
        """Whether it depends on other runs."""
        return self.claim is not None or self.key.has_quota


@dataclass(frozen=True)
class Append:
    """The next event of an owner's run."""

    owner: str
    event: Event


def log_all(connection: sa.Connection, entries: list[Create | Append]) -> list[Logged]:
    """First what begins runs: events may come with the run that they are of, which nobody has waited for."""
    creates = [entry for entry in entries if isinstance(entry, Create)]
    appends = [entry for entry in entries if isinstance(entry, Append)]
    created, appended = iter(_create_all(connection, creates)), iter(_append_all(connection, appends))
    return [next(created if isinstance(entry, Create) else appended) for entry in entries]


def _create_all(connection: sa.Connection, creates: list[Create]) -> list[Claimed | Exceeded | None]:
    """Those that may be refused one by one, since whether they are depends on the others."""
    _insert(connection, [create for create in creates if not create.may_be_refused])
    return [_create(connection, create) if create.may_be_refused else None for create in creates]


def _create(connection: sa.Connection, create: Create) -> Claimed | Exceeded | None:
    event, key, claim = create.event, create.key, create.claim
    if claim is not None and (taken := _claimed(connection, key.tenant, claim.key)):
        return taken
    if exceeded := excess(connection, key, event.at):
        return exceeded
    if claim is not None:
        row = {**claim.model_dump(), "tenant": key.tenant, "run_id": event.run_id, "at": event.at}
        insert = upsert(connection, _claims).values(row).on_conflict_do_nothing().returning(_claims.c.key)
        if connection.execute(insert).first() is None:  # another gateway was faster
            return _claimed(connection, key.tenant, claim.key)
    _insert(connection, [create])
    return None


def _insert(connection: sa.Connection, creates: list[Create]) -> None:
    if not creates:
        return
    connection.execute(_NEW_RUN, [_run_row(create) for create in creates])
    connection.execute(_NEW_EVENT, [_row(create.event) for create in creates])
    for create in creates:
        if create.webhook is not None:
            await_end(connection, create.event.run_id, create.webhook, create.event.at)


def _run_row(create: Create) -> dict[str, object]:
    created = create.event.data
    assert isinstance(created, RunCreated)
    return {
        "id": create.event.run_id,
        "tenant": create.key.tenant,
        "key_id": create.key.id,
        "query": created.query.replace("\0", "\ufffd"),  # PostgreSQL's text has no place for it
        "created_at": create.event.at,
        "cancel_asked": False,
        "owner": create.lease.owner,
        "until": create.lease.until,
    }


def _append_all(connection: sa.Connection, appends: list[Append]) -> list[bool]:
    """Append those events that are the next of their run, if that is still their owner's; the lock keeps others from
    taking it until the commit."""
    if not appends:
        return []
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
    ended = [{"ended": e.run_id, "how": e.data.outcome.value} for e in events if isinstance(e.data, RunCompleted)]
    if ended:
        connection.execute(_END, ended)
        arm(connection, [run["ended"] for run in ended], time.time())
    waits = [{"waits": e.run_id, "to": e.data.expires_at} for e in events if isinstance(e.data, RequiresAction)]
    if waits:
        connection.execute(_LEAVE, waits)
    add_usage(connection, ((held[event.run_id].key_id, _tokens(event)) for event in events), time.time())
    return results


def _claimed(connection: sa.Connection, tenant: str, key: str) -> Claimed | None:
    chosen = _claims.select().where(_claims.c.tenant == tenant, _claims.c.key == key)
    row = connection.execute(chosen).mappings().first()
    return None if row is None else Claimed(key=row["key"], digest=row["digest"], run_id=row["run_id"])


def insert_event(connection: sa.Connection, event: Event) -> None:
    """Store an event whose place in its run's log has been seen to."""
    connection.execute(_NEW_EVENT, _row(event))


def read_events(connection: sa.Connection, chosen: sa.Select, asked: Mapping[str, object] | None = None) -> list[Event]:
    """The events that `chosen` selects; `asked` are its parameters."""
    rows = connection.execute(chosen, asked).all()
    return [Event(run_id=row.run_id, seq=row.seq, type=row.type, at=row.at, data=_read(row)) for row in rows]


def _read(row: sa.Row[Any]) -> Payload:
    return PAYLOADS[row.type].model_validate_json(row.data)


def _row(event: Event) -> dict[str, object]:
    said = event.data.model_dump_json()
    return {"run_id": event.run_id, "seq": event.seq, "type": event.type, "at": event.at, "data": said}


def _tokens(event: Event) -> int:
    usage = event.data.usage if isinstance(event.data, Planned | Called | RunCompleted) else None
    return 0 if usage is None else usage.prompt_tokens + usage.completion_tokens
