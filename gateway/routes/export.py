"""Runs as lines of JSON, for whoever keeps or learns from them."""

import json
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Query, Response
from fastapi.responses import StreamingResponse

from gateway import accounts
from gateway.accounts import Asker
from gateway.events import Outcome
from gateway.parts import Current, Gateway
from gateway.store import Selection
from gateway.store.export import logs
from gateway.views import fold

router = APIRouter(prefix="/v1", tags=["runs"], responses=accounts.PROBLEMS)
_TYPE = "application/x-ndjson"


@router.get("/runs/export", response_class=Response, responses={200: {"content": {_TYPE: {}}}})
async def export(
    gateway: Current,
    key: Asker,
    since: Annotated[datetime | None, Query(description="Only runs that began then or later (UTC).")] = None,
    until: Annotated[datetime | None, Query(description="Only runs that began before.")] = None,
    outcome: Annotated[Outcome | None, Query(description="Only runs that ended so.")] = None,
    documents: Annotated[
        bool, Query(description="Tools that are still registered as documents in place of their names.")
    ] = False,
) -> Response:
    """All runs that have ended, oldest first, each a line as `GET /v1/runs/{id}` shows it."""
    selection = Selection(tenant=key.tenant, since=_seconds(since), until=_seconds(until), outcome=outcome)
    known = gateway.registry.catalogue(key.tenant).tools if documents else {}
    specs = {name: tool.spec.model_dump(mode="json") for name, tool in known.items()}
    return StreamingResponse(_lines(gateway, selection, specs), media_type=_TYPE)


async def _lines(gateway: Gateway, selection: Selection, specs: Mapping[str, object]) -> AsyncIterator[str]:
    async for log in logs(gateway.store.database, selection):
        run = fold(log).model_dump(mode="json")
        run["tools"] = [specs.get(name, name) for name in run["tools"]]
        yield json.dumps(run) + "\n"


def _seconds(at: datetime | None) -> float | None:
    return None if at is None else (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()
