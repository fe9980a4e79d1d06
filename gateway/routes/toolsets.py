"""Registering toolsets and listing tools."""

from typing import Annotated

from fastapi import APIRouter, Path, Query

from gateway import accounts
from gateway.accounts import Keeper, Reader
from gateway.bodies import McpBody, RegisteredToolset, ToolsetBody, ToolsetVersionView, ToolsetView, ToolView
from gateway.egress.permission import permission
from gateway.mcp.servers import server_of
from gateway.parts import Current, Gateway
from gateway.policy import Decision
from gateway.problems import MissingScope, NotFound
from gateway.store import McpOptions, Scope, ToolsetOptions, ToolsetRow, ToolsetVersion
from gateway.store.rows import NAME
from gateway.tools.catalogue import Tool, Toolset
from gateway.tools.fetch import fetch
from gateway.tools.references import Fetched, fetch_references
from umi.errors import NoResponse, Unreachable
from umi.openapi import moved
from umi.trajectory import JsonObject
from umi.wire import Problem

router = APIRouter(prefix="/v1", tags=["tools"], responses=accounts.PROBLEMS)
Name = Annotated[str, Path(pattern=NAME)]


@router.post(
    "/toolsets",
    status_code=201,
    responses={502: {"model": Problem, "description": "The document could not be fetched"}},
)
async def register(body: ToolsetBody, gateway: Current, key: Keeper) -> RegisteredToolset:
    """Register a toolset, or replace the one of that name: what has changed is a new version."""
    if (body.allow or body.secrets) and not key.may(Scope.ADMIN):
        raise MissingScope("what is not public, and the gateway's secrets, only a key with the scope admin may name")
    if body.mcp is not None and body.mcp.command is not None and not key.may(Scope.ADMIN):
        raise MissingScope("a command on the gateway's machine only a key with the scope admin may name")
    row = await (_of_document(body, gateway) if body.mcp is None else _of_server(body, body.mcp, gateway, key.tenant))
    toolset = await gateway.registry.register(row.model_copy(update={"tenant": key.tenant}))
    return _shown(toolset)


@router.get("/toolsets")
async def list_toolsets(gateway: Current, key: Reader) -> list[ToolsetView]:
    """All toolsets in order of registration."""
    return [_view(toolset) for toolset in gateway.registry.catalogue(key.tenant).toolsets.values()]


@router.get("/toolsets/{name}")
async def show(name: Name, gateway: Current, key: Reader) -> RegisteredToolset:
    """A toolset as it is now."""
    toolset = gateway.registry.catalogue(key.tenant).toolsets.get(name)
    if toolset is None:
        raise NotFound(f"no toolset is named {name!r}", "name")
    return _shown(toolset)


@router.get("/toolsets/{name}/versions")
async def list_versions(name: Name, gateway: Current, key: Reader) -> list[ToolsetVersion]:
    """The versions of a toolset that are kept, the newest first; also of one that was deleted."""
    if not (found := await gateway.store.toolsets.versions(key.tenant, name)):
        raise NotFound(f"no version of a toolset {name!r} is kept", "name")
    return found


@router.get("/toolsets/{name}/versions/{version}")
async def show_version(
    name: Name, version: Annotated[int, Path(ge=1, le=2**31 - 1)], gateway: Current, key: Reader
) -> ToolsetVersionView:
    """A toolset as it was registered then; also of one that was deleted."""
    kept, toolset = await gateway.registry.version(key.tenant, name, version)
    told = {**_shown(toolset).model_dump(), **kept.model_dump(exclude={"operations"})}
    return ToolsetVersionView(**told, specs=[_tool(tool) for tool in toolset.tools], document=toolset.row.document)


@router.delete("/toolsets/{name}", status_code=204)
async def delete(name: str, gateway: Current, key: Keeper) -> None:
    """Forget a toolset, but not its versions; runs in progress keep it."""
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
    tools = catalogue.tools if query is None else await catalogue.offer(query, None, gateway.settings.max_offered)
    return [_tool(tool) for tool in tools.values()]


def _options(body: ToolsetBody) -> ToolsetOptions:
    return ToolsetOptions(
        allow=tuple(body.allow),
        secrets=body.secrets,
        select=body.select,
        policy=body.policy,
        tool_policy=body.tool_policy,
    )


async def _of_document(body: ToolsetBody, gateway: Gateway) -> ToolsetRow:
    base_url = str(body.base_url) if body.base_url else None
    document, references = await _documents(body, gateway)
    if base_url is not None:
        document = moved(document, base_url)
    options = _options(body).model_copy(update={"base_url": base_url, "references": references})
    return ToolsetRow(name=body.name, url=str(body.url) if body.url else None, document=document, options=options)


async def _of_server(body: ToolsetBody, given: McpBody, gateway: Gateway, tenant: str) -> ToolsetRow:
    """The server is asked for its tools, under the same rules as a call."""
    mcp = McpOptions(command=tuple(given.command or ()), env=given.env, trust_hints=given.trust_hints)
    options = _options(body).model_copy(update={"mcp": mcp})
    url = str(given.url) if given.url else None
    row = ToolsetRow(name=body.name, url=url, document={}, tenant=tenant, options=options)
    server = server_of(row, gateway.settings.tool_allow)
    try:
        return row.model_copy(update={"document": await gateway.sessions.listing(server)})
    except NoResponse as error:
        raise Unreachable(f"{server.shown} {error}") from error


async def _documents(body: ToolsetBody, gateway: Gateway) -> tuple[JsonObject, Fetched]:
    """The toolset's document and those that it refers to."""
    settings, url = gateway.settings, None if body.url is None else str(body.url)
    allowed = permission((), [url] if url else (), body.allow, settings.tool_allow)
    limits = settings.document_limits
    document = await fetch(gateway.egress, url, allowed, limits) if url else body.document
    assert document is not None
    return document, await fetch_references(gateway.egress, document, url, allowed, limits)


def _tool(tool: Tool) -> ToolView:
    return ToolView(
        name=tool.name,
        summary=tool.spec.description,
        toolset=tool.toolset,
        version=tool.version,
        method=tool.method,
        path=tool.path,
        changes_state=not tool.is_read_only,
        needs_approval=tool.decision is Decision.ASK,
        spec=tool.spec,
    )


def _shown(toolset: Toolset) -> RegisteredToolset:
    return RegisteredToolset(**_view(toolset).model_dump(), report=list(toolset.report.operations))


def _view(toolset: Toolset) -> ToolsetView:
    return ToolsetView(
        name=toolset.row.name,
        version=toolset.row.version,
        url=toolset.row.url,
        base_url=toolset.address,
        tools=[tool.name for tool in toolset.tools],
        select=toolset.row.options.select,
        policy=toolset.row.options.policy,
        tool_policy=toolset.row.options.tool_policy,
        withheld=list(toolset.withheld),
    )
