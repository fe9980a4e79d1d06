"""API keys and what they have used."""

import hashlib
import re
import secrets
import time
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa

from gateway.store import tables
from gateway.store.database import Database, upsert
from gateway.store.rows import Exceeded, Key, Scope

_keys, _usage, _runs = tables.keys, tables.usage, tables.runs
PREFIX = "umi_"
_FORM = PREFIX + r"[0-9a-f]{8}_[A-Za-z0-9_-]{43,200}"
_SOON = 1.0


class Keys:
    """The keys as a gateway looks them up."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def find(self, digested: str) -> Key | None:
        """The key of that digest, if there is one and it is not revoked."""
        chosen = _keys.select().where(_keys.c.digest == digested, _keys.c.revoked_at.is_(None))
        row = await self._database.read(lambda connection: connection.execute(chosen).mappings().first())
        return None if row is None else _key(row)

    async def any(self) -> bool:
        """Whether there is a key, or was: revoking the last one does not open the gateway to everybody."""
        return await self._database.read(lambda connection: has_any(connection))


def digest(secret: str) -> str:
    """What is stored of a key. It holds 256 random bits, so that a plain hash is as safe as a slow one."""
    return hashlib.sha256(secret.encode("utf-8", "replace")).hexdigest()


def create(connection: sa.Connection, tenant: str, name: str, scopes: Iterable[Scope], **limits: int | None) -> str:
    """A new key: this is the only time that it is seen. `limits` are those of `Key`."""
    key_id, secret = secrets.token_hex(4), secrets.token_urlsafe(32)
    whole = f"{PREFIX}{key_id}_{secret}"
    _insert(connection, whole, tenant, name, scopes, limits)
    return whole


def adopt(connection: sa.Connection, whole: str, tenant: str, name: str, scopes: Iterable[Scope]) -> None:
    """A key that was made elsewhere, in the form of `create`. Raises ValueError when it has another."""
    if not re.fullmatch(_FORM, whole):
        raise ValueError("a key is umi_ID_SECRET: eight hexadecimal digits, then at least 43 letters, digits, - and _")
    _insert(connection, whole, tenant, name, scopes, {})


def _insert(
    connection: sa.Connection,
    whole: str,
    tenant: str,
    name: str,
    scopes: Iterable[Scope],
    limits: dict[str, int | None],
) -> None:
    key_id = whole.split("_")[1]
    row = {"id": key_id, "digest": digest(whole), "tenant": tenant, "name": name, "created_at": time.time()}
    connection.execute(_keys.insert().values(**row, scopes=" ".join(sorted(set(scopes))), **limits))


def every(connection: sa.Connection) -> list[Key]:
    """All keys, revoked ones as well, oldest first."""
    return [_key(row) for row in connection.execute(_keys.select().order_by(_keys.c.created_at)).mappings()]


def revoke(connection: sa.Connection, key_id: str) -> bool:
    """Let a key be none from now on; False when there is none of that id, or it was revoked before."""
    chosen = sa.and_(_keys.c.id == key_id, _keys.c.revoked_at.is_(None))
    return connection.execute(_keys.update().where(chosen).values(revoked_at=time.time())).rowcount > 0


def has_any(connection: sa.Connection) -> bool:
    """Whether there is a key, revoked or not."""
    return connection.execute(sa.select(_keys.c.id).limit(1)).first() is not None


def excess(connection: sa.Connection, key: Key, now: float) -> Exceeded | None:
    """The limit of `key` that leaves no room for a run more. The key's row is locked until the transaction ends, so
    that gateways count one after the other."""
    if not key.has_quota:
        return None
    connection.execute(sa.select(_keys.c.id).where(_keys.c.id == key.id).with_for_update())
    if key.concurrent_runs is not None:
        going_on = sa.select(sa.func.count()).where(_runs.c.key_id == key.id, _runs.c.outcome.is_(None), ~tables.waits)
        if connection.execute(going_on).scalar_one() >= key.concurrent_runs:
            return Exceeded(what="runs at once", limit=key.concurrent_runs, retry_after=_SOON)
    if key.tokens_per_day is not None:
        today = sa.select(_usage.c.tokens).where(_usage.c.key_id == key.id, _usage.c.day == _day(now))
        if (connection.execute(today).scalar() or 0) >= key.tokens_per_day:
            return Exceeded(what="tokens a day", limit=key.tokens_per_day, retry_after=_until_midnight(now))
    return None


def add_usage(connection: sa.Connection, used: Iterable[tuple[str, int]], now: float) -> None:
    """Count tokens for keys, by id; in order, so that two gateways never wait for each other."""
    totals: dict[str, int] = {}
    for key_id, tokens in used:
        if key_id and tokens:
            totals[key_id] = totals.get(key_id, 0) + tokens
    if not totals:
        return
    insert = upsert(connection, _usage)
    grown = {"tokens": _usage.c.tokens + insert.excluded.tokens}
    rows = [{"key_id": key_id, "day": _day(now), "tokens": totals[key_id]} for key_id in sorted(totals)]
    connection.execute(insert.on_conflict_do_update(index_elements=["key_id", "day"], set_=grown), rows)


def used_today(connection: sa.Connection) -> dict[str, int]:
    """Tokens that keys have used today (UTC), by id."""
    rows = connection.execute(sa.select(_usage.c.key_id, _usage.c.tokens).where(_usage.c.day == _day(time.time())))
    return {row.key_id: row.tokens for row in rows}


def _key(row: sa.RowMapping) -> Key:
    fields: dict[str, Any] = {**row, "scopes": row["scopes"].split()}
    return Key.model_validate({name: value for name, value in fields.items() if name != "digest"})


def _day(now: float) -> str:
    return datetime.fromtimestamp(now, UTC).date().isoformat()


def _until_midnight(now: float) -> float:
    today = datetime.fromtimestamp(now, UTC)
    midnight = (today + timedelta(days=1)).replace(hour=0, minute=0, second=0, microsecond=0)
    return (midnight - today).total_seconds()
