"""Sending webhooks: whatever is due, by whichever gateway comes first, until it arrives or is given up."""

import asyncio
import json
import logging
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Self

import httpx
from sqlalchemy.exc import SQLAlchemyError

from gateway.egress.client import Egress, Limits, Outgoing
from gateway.egress.permission import Permission, may_be_reached, permission
from gateway.events import Event
from gateway.metrics import Metrics
from gateway.store import DeliveryState, Due, RunStore, WebhookStore
from gateway.views import fold
from gateway.webhooks import signing
from gateway.webhooks.terms import Terms
from umi import logs
from umi.errors import BadInput, Forbidden, NoResponse, TooLarge
from umi.patience import retry_after

_log = logging.getLogger("umi.gateway")
_MOMENT = 0.5
_AT_ONCE = 32
_SPARE = 30.0
"""Seconds beyond its time until an attempt is taken for lost, and another gateway makes the next one."""
_TOLD = {"run_id", "created_at", "outcome", "answer", "problem"}
_GONE = 410


@dataclass(frozen=True)
class _Result:
    """What became of an attempt; `wait` is what the receiver asks for, in seconds."""

    status: int | None = None
    problem: str | None = None
    wait: float = 0.0


class Webhooks:
    """Checks the webhooks of new runs, and sends those of runs that have ended; an async context manager."""

    def __init__(self, store: WebhookStore, runs: RunStore, egress: Egress, metrics: Metrics, terms: Terms) -> None:
        self._store, self._runs, self._egress, self._metrics, self._terms = store, runs, egress, metrics, terms
        self._limits = Limits(seconds=terms.seconds, bytes=65_536, read_seconds=terms.seconds, tries=1)
        self._watching: asyncio.Task[None] | None = None
        self._sending: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        if self._terms.key is not None:
            self._watching = asyncio.create_task(self._watch(self._terms.key), name="webhooks")
        return self

    async def __aexit__(self, *_: object) -> None:
        """What is being sent is dropped; it is sent again, by whichever gateway finds it."""
        tasks = [*self._sending, *([self._watching] if self._watching else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def checked(self, tenant: str, url: str) -> str:
        """The URL. Raises BadInput when no webhook can be signed for the tenant, or none may go there."""
        if self._terms.key is None:
            raise BadInput("this gateway sends no webhooks: it needs a key in UMI_WEBHOOK_KEY", "webhook")
        if await self._store.secret(tenant) is None:
            raise BadInput(f"there is no secret to sign with: umi webhooks rotate --tenant {tenant}", "webhook")
        try:
            allowed = self._permission(url)
            origin = allowed.check(httpx.URL(url))
        except (Forbidden, httpx.InvalidURL) as error:
            raise BadInput(f"the address {error}", "webhook.url") from error
        if not may_be_reached(origin, allowed):
            raise BadInput(f"{origin.host} is not public, and UMI_WEBHOOK_ALLOW does not name it", "webhook.url")
        return url

    def _permission(self, url: str) -> Permission:
        return permission((), [url], (), self._terms.allow)

    async def _watch(self, key: bytes) -> None:
        while True:
            await asyncio.sleep(_MOMENT)
            try:
                now, room = time.time(), _AT_ONCE - len(self._sending)
                for due in await self._store.claim(now, now + self._limits.seconds + _SPARE, room) if room else ():
                    task = asyncio.create_task(self._attempt(key, due), name=f"webhook of {due.run_id}")
                    self._sending.add(task)
                    task.add_done_callback(self._over)
            except SQLAlchemyError:
                _log.exception("webhooks could not be looked for; trying again")

    def _over(self, task: asyncio.Task[None]) -> None:
        self._sending.discard(task)
        if not task.cancelled() and (error := task.exception()):
            _log.error("%s: what became of it is not known; it is sent again", task.get_name(), exc_info=error)

    async def _attempt(self, key: bytes, due: Due) -> None:
        with logs.bound(run_id=due.run_id, tenant=due.tenant):
            await self._tell(key, due)

    async def _tell(self, key: bytes, due: Due) -> None:
        started = time.monotonic()
        events, current = await self._runs.events(due.run_id), await self._store.secret(due.tenant)
        if not events:
            return  # the run is forgotten, and the webhook with it
        if current is None:
            result = _Result(problem="cannot be signed: its tenant has no secret any more")
        else:
            now = time.time()
            secrets = signing.in_use(key, due.tenant, current, now)
            result = await self._post(due, message(events), secrets, int(now))
        state, due_at = self._verdict(due, result)
        self._metrics.webhook(state, time.monotonic() - started)
        if result.problem is not None:
            _log.warning("attempt %d of run %s's webhook: it %s", due.attempt, due.run_id, result.problem)
        await self._store.settle(due, state, time.time(), due_at, result.status, result.problem)

    async def _post(self, due: Due, body: bytes, secrets: Sequence[bytes], at: int) -> _Result:
        headers = signing.headers(f"msg_{due.run_id}", at, body, secrets) | {"content-type": "application/json"}
        try:
            answer = await self._egress.send(
                Outgoing("POST", due.url, headers, body), self._permission(due.url), self._limits
            )
        except TooLarge as error:
            return _result(error.status)
        except Forbidden:
            return _Result(problem="may not go there: its address is not public, or cannot be read")
        except NoResponse as error:
            return _Result(problem=str(error))
        return _result(answer.status, retry_after(answer.headers.get("retry-after", "")))

    def _verdict(self, due: Due, result: _Result) -> tuple[DeliveryState, float | None]:
        """Where the delivery stands, and when the next attempt is due."""
        if result.problem is None:
            return DeliveryState.DELIVERED, None
        if result.status == _GONE or due.attempt > len(self._terms.pauses):
            return DeliveryState.FAILED, None
        pause = self._terms.pauses[due.attempt - 1]
        wait = max(pause * random.uniform(0.8, 1.2), min(result.wait, self._terms.pauses[-1]))
        return DeliveryState.PENDING, time.time() + wait


def message(events: Sequence[Event]) -> bytes:
    """The body that tells of a run's end, the same whenever it is made; its steps are at `GET /v1/runs/{id}`."""
    last = events[-1]
    told = fold(events).model_dump(mode="json", include=_TOLD)
    ended = datetime.fromtimestamp(last.at, UTC).isoformat().replace("+00:00", "Z")
    return json.dumps({"type": last.type, "timestamp": ended, "data": told}, separators=(",", ":")).encode()


def _result(status: int, wait: float = 0.0) -> _Result:
    return _Result(status, None if 200 <= status < 300 else f"was answered {status}", wait)
