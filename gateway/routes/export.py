"""Runs as lines of JSON, for whoever keeps or learns from them."""

import json
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Query, Response
from fastapi.responses import StreamingResponse

from gateway import accounts
from gateway.accounts import Asker
from gateway.events import Outcome, ToolSource
from gateway.parts import Current, Gateway
from gateway.store import Selection
from gateway.store.export import logs
from gateway.tools.catalogue import Tool
from gateway.tools.toolsets import Registry
from gateway.views import RunView, fold
from umi.errors import BadInput

router = APIRouter(prefix="/v1", tags=["runs"], responses=accounts.PROBLEMS)
_TYPE = "application/x-ndjson"
_VERSIONS = 50
"""Of toolsets, as many as are held at once."""


@router.get("/runs/export", response_class=Response, responses={200: {"content": {_TYPE: {}}}})
async def export(
    gateway: Current,
    key: Asker,
    since: Annotated[datetime | None, Query(description="Only runs that began then or later (UTC).")] = None,
    until: Annotated[datetime | None, Query(description="Only runs that began before.")] = None,
    outcome: Annotated[Outcome | None, Query(description="Only runs that ended so.")] = None,
    documents: Annotated[
        bool, Query(description="Tools as documents in place of their names, as the run was offered them.")
    ] = False,
) -> Response:
    """All runs that have ended, oldest first, each a line as `GET /v1/runs/{id}` shows it."""
    selection = Selection(tenant=key.tenant, since=_seconds(since), until=_seconds(until), outcome=outcome)
    documented = _Documents(gateway.registry, key.tenant) if documents else None
    return StreamingResponse(_lines(gateway, selection, documented), media_type=_TYPE)


class _Documents:
    """Tools as documents, of the versions that runs were offered; of runs that do not tell, those of now."""

    def __init__(self, registry: Registry, tenant: str) -> None:
        self._registry, self._tenant = registry, tenant
        self._versions: dict[ToolSource, Mapping[str, Tool]] = {}

    async def of(self, run: RunView) -> list[object]:
        """A document for each of the run's tools, or its name if there is none."""
        found: list[object] = []
        for name in run.tools:
            source = run.sources.get(name)
            tools = self._registry.catalogue(self._tenant).tools if source is None else await self._tools(source)
            found.append(tools[name].spec.model_dump(mode="json") if name in tools else name)
        return found

    async def _tools(self, source: ToolSource) -> Mapping[str, Tool]:
        if source not in self._versions:
            if len(self._versions) == _VERSIONS:
                self._versions.clear()
            try:
                _, toolset = await self._registry.version(self._tenant, source.toolset, source.version)
            except BadInput:
                self._versions[source] = {}
            else:
                self._versions[source] = {tool.name: tool for tool in toolset.tools}
        return self._versions[source]


async def _lines(gateway: Gateway, selection: Selection, documents: _Documents | None) -> AsyncIterator[str]:
    async for log in logs(gateway.store.database, selection):
        view = fold(log)
        run = view.model_dump(mode="json")
        if documents is not None:
            run["tools"] = await documents.of(view)
        yield json.dumps(run) + "\n"


def _seconds(at: datetime | None) -> float | None:
    return None if at is None else (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()
