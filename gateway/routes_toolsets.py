"""Registering toolsets and listing tools."""

from typing import Annotated

from fastapi import APIRouter, Query

from gateway import accounts
from gateway.accounts import Keeper, Reader
from gateway.bodies import RegisteredToolset, ToolsetBody, ToolsetView, ToolView
from gateway.egress.permission import permission
from gateway.fetch import fetch
from gateway.parts import Current, Gateway
from gateway.problems import MissingScope
from gateway.store import Scope, ToolsetOptions, ToolsetRow
from gateway.toolsets import Toolset
from umi.openapi import moved
from umi.trajectory import JsonObject
from umi.wire import Problem

router = APIRouter(prefix="/v1", tags=["tools"], responses=accounts.PROBLEMS)


@router.post(
    "/toolsets",
    status_code=201,
    responses={502: {"model": Problem, "description": "The document could not be fetched"}},
)
async def register(body: ToolsetBody, gateway: Current, key: Keeper) -> RegisteredToolset:
    """Register a toolset, or replace the one of that name."""
    if (body.allow or body.secrets) and not key.may(Scope.ADMIN):
        raise MissingScope("what is not public, and the gateway's secrets, only a key with the scope admin may name")
    base_url = str(body.base_url) if body.base_url else None
    document = await _document(body, gateway)
    if base_url is not None:
        document = moved(document, base_url)
    options = ToolsetOptions(base_url=base_url, allow=tuple(body.allow), secrets=body.secrets)
    url = str(body.url) if body.url else None
    row = ToolsetRow(name=body.name, url=url, document=document, tenant=key.tenant, options=options)
    toolset = await gateway.registry.register(row)
    return RegisteredToolset(**_view(toolset).model_dump(), report=list(toolset.report.operations))


@router.get("/toolsets")
async def list_toolsets(gateway: Current, key: Reader) -> list[ToolsetView]:
    """All toolsets in order of registration."""
    return [_view(toolset) for toolset in gateway.registry.catalogue(key.tenant).toolsets.values()]


@router.delete("/toolsets/{name}", status_code=204)
async def delete(name: str, gateway: Current, key: Keeper) -> None:
    """Forget a toolset; runs in progress keep it."""
    await gateway.registry.delete(key.tenant, name)
    if not gateway.registry.holds(name):
        gateway.metrics.forget_toolset(name)


@router.get("/tools")
async def list_tools(
    gateway: Current,
    key: Reader,
    query: Annotated[
        str | None, Query(max_length=8000, description="Only the tools that the roles would be offered for this query.")
    ] = None,
) -> list[ToolView]:
    """All tools in order of registration, or those that a query would be offered."""
    catalogue = gateway.registry.catalogue(key.tenant)
    tools = catalogue.tools if query is None else catalogue.offer(query, None, gateway.settings.max_offered)
    return [
        ToolView(
            name=tool.name,
            summary=tool.operation.tool.description,
            toolset=tool.toolset,
            method=tool.operation.method,
            path=tool.operation.path,
            spec=tool.operation.tool,
        )
        for tool in tools.values()
    ]


async def _document(body: ToolsetBody, gateway: Gateway) -> JsonObject:
    if body.url is None:
        assert body.document is not None
        return body.document
    url, settings = str(body.url), gateway.settings
    allowed = permission((), [url], body.allow, settings.tool_allow)
    return await fetch(gateway.egress, url, allowed, settings.document_limits)


def _view(toolset: Toolset) -> ToolsetView:
    return ToolsetView(
        name=toolset.row.name,
        url=toolset.row.url,
        base_url=toolset.tools[0].operation.base_url,
        tools=[tool.name for tool in toolset.tools],
    )
