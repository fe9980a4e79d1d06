"""Looking at webhooks, and sending one once more."""

import time
from typing import Annotated

from fastapi import APIRouter, Query

from gateway import accounts
from gateway.accounts import Asker
from gateway.bodies import DeliveryList
from gateway.cursors import cursor_of, position
from gateway.parts import Current, Gateway
from gateway.problems import Conflict, NotFound
from gateway.routes.runs import RunId
from gateway.store import Delivery, DeliveryState, Key

router = APIRouter(prefix="/v1", tags=["webhooks"], responses=accounts.PROBLEMS)


@router.get("/webhooks")
async def list_webhooks(
    gateway: Current,
    key: Asker,
    state: Annotated[DeliveryState | None, Query(description="Only those; `failed` are given up.")] = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    cursor: Annotated[str | None, Query(max_length=200, description="`next` of the page before.")] = None,
) -> DeliveryList:
    """Webhooks, those of the newest runs first."""
    before = position(cursor) if cursor else None
    found = await gateway.store.webhooks.page(key.tenant, limit + 1, state, before)
    page = found[:limit]
    following = cursor_of(page[-1].created_at, page[-1].run_id) if len(found) > limit else None
    return DeliveryList(webhooks=page, next=following)


@router.get("/runs/{run_id}/webhook")
async def show(run_id: RunId, gateway: Current, key: Asker) -> Delivery:
    """Where a run's webhook stands."""
    return await _delivery(gateway, key, run_id)


@router.post("/runs/{run_id}/webhook/resend", status_code=202)
async def resend(run_id: RunId, gateway: Current, key: Asker) -> Delivery:
    """Send a webhook once more that was delivered or given up."""
    delivery = await _delivery(gateway, key, run_id)
    if not await gateway.store.webhooks.send_again(delivery.run_id, time.time()):
        raise Conflict("it is still to be sent", "run_id")
    return await _delivery(gateway, key, run_id)


async def _delivery(gateway: Gateway, key: Key, run_id: str) -> Delivery:
    if (delivery := await gateway.store.webhooks.of(key.tenant, run_id)) is None:
        raise NotFound(f"there is no run {run_id!r} with a webhook", "run_id")
    return delivery
