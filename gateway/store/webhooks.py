"""Webhooks that wait for their run's end, are to be sent, were sent or given up."""

import sqlalchemy as sa

from gateway.store import tables
from gateway.store.database import Database, upsert
from gateway.store.rows import Delivery, DeliveryState, Due, SigningSecret

_deliveries, _runs, _secrets = tables.deliveries, tables.runs, tables.webhook_secrets
_SHOWN = (*_deliveries.c, _runs.c.created_at)


class WebhookStore:
    """The deliveries of all tenants."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def claim(self, now: float, until: float, most: int) -> list[Due]:
        """At most `most` deliveries that are due, the longest due first; they are this gateway's until then.

        Of several that ask one gets a delivery. Each claim counts as an attempt, also one that is not settled.
        """
        is_due = sa.select(_deliveries.c.run_id).where(_deliveries.c.due_at <= now)
        if await self._database.read(lambda connection: connection.execute(is_due.limit(1)).first()) is None:
            return []

        def statement(connection: sa.Connection) -> list[Due]:
            chosen = is_due.order_by(_deliveries.c.due_at).limit(most).with_for_update(skip_locked=True)
            found = list(connection.execute(chosen).scalars())
            taken = _deliveries.update().where(_deliveries.c.run_id.in_(found))
            connection.execute(taken.values(due_at=until, attempts=_deliveries.c.attempts + 1))
            columns = (_deliveries.c.run_id, _runs.c.tenant, _deliveries.c.url, _deliveries.c.attempts.label("attempt"))
            rows = sa.select(*columns).join(_runs).where(_deliveries.c.run_id.in_(found))
            return [Due.model_validate(dict(row)) for row in connection.execute(rows).mappings()]

        return await self._database.write(statement)

    async def settle(
        self, due: Due, state: DeliveryState, now: float, due_at: float | None, status: int | None, problem: str | None
    ) -> None:
        """What became of an attempt; nothing, when another one has begun since, or the run is forgotten."""
        mine = sa.and_(_deliveries.c.run_id == due.run_id, _deliveries.c.attempts == due.attempt)
        values = {"state": state, "at": now, "due_at": due_at, "status": status, "problem": problem}
        update = _deliveries.update().where(mine, _deliveries.c.state == DeliveryState.PENDING).values(values)
        await self._database.write(lambda connection: connection.execute(update).rowcount)

    async def send_again(self, run_id: str, now: float) -> bool:
        """Let a delivery that was made or given up be attempted once more; False when it is neither."""
        ended = _deliveries.c.state.in_([DeliveryState.DELIVERED, DeliveryState.FAILED])
        anew = _deliveries.update().where(_deliveries.c.run_id == run_id, ended)
        update = anew.values(state=DeliveryState.PENDING, due_at=now, at=now)
        return await self._database.write(lambda connection: connection.execute(update).rowcount) > 0

    async def of(self, tenant: str, run_id: str) -> Delivery | None:
        """The webhook of a tenant's run, if it has one."""
        chosen = sa.select(*_SHOWN).join(_runs).where(_runs.c.id == run_id, _runs.c.tenant == tenant)
        row = await self._database.read(lambda connection: connection.execute(chosen).mappings().first())
        return None if row is None else Delivery.model_validate(dict(row))

    async def page(
        self, tenant: str, limit: int, state: DeliveryState | None = None, before: tuple[float, str] | None = None
    ) -> list[Delivery]:
        """A tenant's webhooks, those of the newest runs first: of runs older than `before` (time and id)."""
        chosen = sa.select(*_SHOWN).join(_runs).where(_runs.c.tenant == tenant)
        chosen = chosen.order_by(_runs.c.created_at.desc(), _runs.c.id.desc()).limit(limit)
        if state is not None:
            chosen = chosen.where(_deliveries.c.state == state)
        if before is not None:
            chosen = chosen.where(sa.tuple_(_runs.c.created_at, _runs.c.id) < sa.tuple_(*map(sa.literal, before)))

        def statement(connection: sa.Connection) -> list[Delivery]:
            return [Delivery.model_validate(dict(row)) for row in connection.execute(chosen).mappings()]

        return await self._database.read(statement)

    async def secret(self, tenant: str) -> SigningSecret | None:
        """Which secret signs a tenant's webhooks; None before the first."""
        chosen = _secrets.select().where(_secrets.c.tenant == tenant)
        row = await self._database.read(lambda connection: connection.execute(chosen).mappings().first())
        return None if row is None else SigningSecret(generation=row["generation"], rotated_at=row["rotated_at"])


def await_end(connection: sa.Connection, run_id: str, url: str, now: float) -> None:
    """A webhook to be sent when its run has ended."""
    row = {"run_id": run_id, "url": url, "state": DeliveryState.WAITING, "attempts": 0, "at": now}
    connection.execute(_deliveries.insert().values(row))


def arm(connection: sa.Connection, run_ids: list[str], now: float) -> None:
    """Those runs have ended: the webhooks of those that have one are due."""
    update = _deliveries.update().where(_deliveries.c.run_id.in_(run_ids))
    connection.execute(update.values(state=DeliveryState.PENDING, due_at=now, at=now))


def rotate(connection: sa.Connection, tenant: str, now: float) -> int:
    """Let the next of a tenant's secrets sign from now on; returns its number, 1 for the first."""
    insert = upsert(connection, _secrets).values(tenant=tenant, generation=1, rotated_at=now)
    grown = {"generation": _secrets.c.generation + 1, "rotated_at": now}
    done = insert.on_conflict_do_update(index_elements=["tenant"], set_=grown).returning(_secrets.c.generation)
    return connection.execute(done).scalar_one()
