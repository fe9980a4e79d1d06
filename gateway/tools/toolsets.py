"""The registry of toolsets: named groups of tools, each from one OpenAPI document or one MCP server."""

import asyncio
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Self

from sqlalchemy.exc import SQLAlchemyError

from gateway.egress.permission import may_be_reached, shown
from gateway.egress.secrets import Secrets
from gateway.events import ToolSource
from gateway.mcp.servers import Server, server_of
from gateway.policy import Decision, decide
from gateway.problems import NotFound
from gateway.store import ToolsetRow, ToolsetStore, ToolsetVersion
from gateway.tools.catalogue import Catalogue, Tool, Toolset
from gateway.tools.earlier import resumed
from gateway.tools.embeddings import Embeddings
from gateway.tools.http_tools import read_document
from gateway.tools.mcp_tools import read_listing
from umi.errors import BadInput
from umi.trajectory import JsonObject

_log = logging.getLogger("umi.gateway")
_LOOK_SECONDS = 1.0
_MOST_RELISTED = 200
"""How many versions of a toolset are kept before a server can make no more of them by changing its tools."""


class Registry:
    """Every tenant's catalogue, kept in the store. Changes happen one at a time, each wholly or not at all.

    Use as an async context manager, which reads the store and goes on looking for what other gateways change.
    """

    def __init__(
        self,
        store: ToolsetStore,
        max_toolsets: int = 100,
        trusted: Sequence[str] = (),
        secrets: Secrets = Secrets(),
        embeddings: Embeddings | None = None,
    ) -> None:
        self._store, self._max, self._trusted, self._secrets = store, max_toolsets, trusted, secrets
        self._embeddings = embeddings
        self._changing = asyncio.Lock()
        self._catalogues: dict[str, Catalogue] = {}
        self._revisions: frozenset[str] = frozenset()
        self._looking: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        await self.refresh()
        self._looking = asyncio.create_task(self._look(), name="toolsets")
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._looking is not None
        self._looking.cancel()
        await asyncio.gather(self._looking, return_exceptions=True)

    def catalogue(self, tenant: str) -> Catalogue:
        """The tenant's tools now."""
        return self._catalogues.get(tenant, Catalogue())

    async def version(self, tenant: str, name: str, version: int) -> tuple[ToolsetVersion, Toolset]:
        """A toolset as it was registered then. Raises NotFound."""
        if (found := await self._store.version(tenant, name, version)) is None:
            raise NotFound(f"no version {version} of a toolset {name!r} is kept", "version")
        return found[0], await asyncio.to_thread(read_toolset, found[1], self._trusted)

    async def earlier(self, tenant: str, tools: Mapping[str, ToolSource | None]) -> dict[str, Tool]:
        """Tools that a run was offered, for going on with it: each as it was then, as far as that may be called now.

        One of unknown source is what has its name now. One that cannot be had at all is left out.
        """
        await self.refresh()
        now = self.catalogue(tenant)
        then: dict[ToolSource, Catalogue] = {}
        found: dict[str, Tool] = {}
        for name, source in tools.items():
            if source is not None and source not in then:
                then[source] = await self._then(tenant, source)
            known = now if source is None else then[source]
            if (tool := known.tools.get(name)) is not None:
                found[name] = resumed(tool, now)
        return found

    async def _then(self, tenant: str, source: ToolSource) -> Catalogue:
        """One version of one toolset; nothing when it cannot be had any more."""
        current = self.catalogue(tenant).toolsets.get(source.toolset)
        try:
            if current is None or current.row.version != source.version:
                _, current = await self.version(tenant, source.toolset, source.version)
        except BadInput as error:
            _log.warning("tools that a run of %s was offered cannot be had any more: %s", tenant, error)
            return Catalogue()
        return Catalogue({source.toolset: current})

    async def refresh(self) -> None:
        """Take over what the store holds, if it has changed."""
        async with self._changing:
            await self._refresh()

    async def register(self, row: ToolsetRow) -> Toolset:
        """Add a toolset to its tenant's, or replace the one of that name: as a new version, unless there was the same.

        Raises BadDocument, or BadInput when a tool's name is taken by another toolset or a server is at an address that
        is not public and not allowed; then nothing has changed.
        """
        toolset = await asyncio.to_thread(read_toolset, row, self._trusted)
        async with self._changing:
            await self._refresh()
            before = self.catalogue(row.tenant).toolsets
            others = {name: other for name, other in before.items() if name != row.name}
            if len(others) >= self._max:
                raise BadInput(f"there are {self._max} toolsets already; delete one first", "name")
            taken = Catalogue(others).tools
            if clash := [tool.name for tool in toolset.tools if tool.name in taken]:
                owner = taken[clash[0]].toolset
                raise BadInput(f"the toolset {owner!r} has a tool named {clash[0]!r} already", "document.paths")
            _require_reachable(toolset)
            env = row.options.mcp.env if row.options.mcp else {}
            for reference in [*row.options.secrets.values(), *env.values()]:
                await asyncio.to_thread(self._secrets.read, reference)
            operations = Counter(operation.status.value for operation in toolset.report.operations)
            toolset = toolset.numbered(await self._store.save(row, operations))
            changed = Catalogue({**before, row.name: toolset}, self._embeddings)
            await asyncio.to_thread(lambda: changed.retriever)
            self._keep({**self._catalogues, row.tenant: changed})
        return toolset

    async def delete(self, tenant: str, name: str) -> None:
        """Forget a toolset but not its versions; runs that began with it keep it. Raises NotFound."""
        async with self._changing:
            await self._refresh()
            before = self.catalogue(tenant).toolsets
            if name not in before:
                raise NotFound(f"no toolset is named {name!r}", "name")
            await self._store.delete(tenant, name)
            left = Catalogue({key: kept for key, kept in before.items() if key != name}, self._embeddings)
            self._keep({**self._catalogues, tenant: left})

    async def relist(self, server: Server, listing: JsonObject) -> None:
        """An MCP server has other tools now. A listing that cannot be used changes nothing and is logged."""
        known = self.catalogue(server.tenant).toolsets.get(server.toolset)
        if known is None or known.row.options.mcp is None or known.row.document == listing:
            return
        if server_of(known.row, self._trusted) != server:
            return  # the toolset is another server's by now
        if len(await self._store.versions(server.tenant, server.toolset)) >= _MOST_RELISTED:
            _log.warning("the tools of %s of %s change too often; register it again", server.toolset, server.tenant)
            return
        try:
            await self.register(known.row.model_copy(update={"document": listing}))
        except BadInput as error:
            _log.warning("the new tools of %s of %s are not usable: %s", server.toolset, server.tenant, error)

    def holds(self, name: str) -> bool:
        """Whether any tenant has a toolset of that name."""
        return any(name in catalogue.toolsets for catalogue in self._catalogues.values())

    async def _look(self) -> None:
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            try:
                await self.refresh()
            except SQLAlchemyError:
                _log.exception("the toolsets could not be looked at; trying again")

    async def _refresh(self) -> None:
        """A document that an older version could still read is left out and logged."""
        revisions = await self._store.revisions()
        if revisions == self._revisions:
            return
        found: dict[str, dict[str, Toolset]] = {}
        for row in await self._store.all():
            known = self.catalogue(row.tenant).toolsets.get(row.name)
            try:
                if known is None or known.row != row:
                    known = await asyncio.to_thread(read_toolset, row, self._trusted)
            except BadInput as error:
                _log.warning("the toolset %s of %s is not usable any more: %s", row.name, row.tenant, error)
                continue
            found.setdefault(row.tenant, {})[row.name] = known
        unchanged = {tenant for tenant, toolsets in found.items() if self.catalogue(tenant).toolsets == toolsets}
        self._keep(
            {
                tenant: self.catalogue(tenant) if tenant in unchanged else Catalogue(toolsets, self._embeddings)
                for tenant, toolsets in found.items()
            }
        )
        self._revisions = revisions

    def _keep(self, catalogues: dict[str, Catalogue]) -> None:
        self._catalogues = catalogues
        if self._embeddings is not None:
            self._embeddings.hold(tool.search_text for each in catalogues.values() for tool in each.tools.values())


def read_toolset(row: ToolsetRow, trusted: Sequence[str] = ()) -> Toolset:
    """The usable tools of a document or a listing that their policy lets be offered, and what became of the others.

    `trusted` lists what is not public and may be reached all the same, as in `permission`. Raises BadDocument if
    nothing is usable, BadInput when an entry of the row's allow list cannot be read or its policy leaves no tool.
    """
    return _under_policy(read_document(row, trusted) if row.options.mcp is None else read_listing(row, trusted))


def _under_policy(toolset: Toolset) -> Toolset:
    """The toolset without what its policy denies. Raises BadInput when that is all, or an exception is for no tool."""
    options = toolset.row.options
    if unknown := set(options.tool_policy) - {tool.name for tool in toolset.tools}:
        raise BadInput(f"there is no usable tool named {min(unknown)!r}", "tool_policy")
    decided = [
        replace(
            tool,
            version=toolset.row.version,
            decision=decide(options.policy, options.tool_policy, tool.name, not tool.is_read_only),
        )
        for tool in toolset.tools
    ]
    offered = tuple(tool for tool in decided if tool.decision is not Decision.DENY)
    if not offered:
        raise BadInput("every tool of it may change something, so that a read-only policy leaves none", "policy")
    withheld = tuple(tool.name for tool in decided if tool.decision is Decision.DENY)
    return replace(toolset, tools=offered, withheld=withheld)


def _require_reachable(toolset: Toolset) -> None:
    """Raises BadInput for a server whose calls would all be refused. A name is only looked up when it is dialled."""
    for origin in sorted(toolset.permission.origins):
        if not may_be_reached(origin, toolset.permission):
            where, host = shown(origin), origin.host
            raise BadInput(f"its server {where} is not public; to reach it all the same, allow {host!r}", "allow")
