"""The registry of toolsets: named groups of tools, each from one OpenAPI document."""

import asyncio
import logging
import re
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Self

import httpx
from jsonschema import Draft202012Validator, FormatChecker
from jsonschema.exceptions import SchemaError, ValidationError, best_match
from jsonschema.validators import extend
from sqlalchemy.exc import SQLAlchemyError

from gateway.egress.keys import Key
from gateway.egress.permission import Origin, Permission, may_be_reached, origin_of, permission, shown
from gateway.egress.retries import SAFE
from gateway.egress.secrets import Secrets
from gateway.policy import Decision, decide
from gateway.problems import NotFound
from gateway.references import resolver
from gateway.retrieval import Retriever
from gateway.store import ToolsetOptions, ToolsetRow, ToolsetStore
from umi.errors import BadDocument, BadInput, CallRejected, Forbidden, UnknownTool
from umi.openapi import (
    HttpRequest,
    Imported,
    Operation,
    OperationReport,
    Report,
    Status,
    build_request,
    import_document,
)
from umi.openapi.security import Kind, Scheme, chosen, read_schemes
from umi.trajectory import JsonObject

_log = logging.getLogger("umi.gateway")
_LOOK_SECONDS = 1.0


def _pattern(_: Any, pattern: str, instance: Any, __: Any) -> Iterator[ValidationError]:
    """`pattern`, except that one Python cannot read (documents may mean Java's or ECMA's) is left to the tool."""
    try:
        if isinstance(instance, str) and not re.search(pattern, instance):
            yield ValidationError(f"{instance!r} does not match {pattern!r}")
    except re.error:
        return


_Validator: Any = extend(Draft202012Validator, {"pattern": _pattern})  # pyright: ignore[reportUnknownMemberType]


@dataclass(frozen=True)
class Tool:
    """An operation, the toolset it belongs to, where that one's requests may go, and whether they need approval."""

    operation: Operation
    toolset: str
    permission: Permission
    keys: tuple[Key, ...] = ()
    decision: Decision = Decision.ALLOW

    @property
    def changes_state(self) -> bool:
        """Whether a call of it may change something: only GET and HEAD are known not to."""
        return self.operation.method not in SAFE

    @property
    def name(self) -> str:
        """The name that models use."""
        return self.operation.tool.name

    @cached_property
    def _validator(self) -> Any:
        return _Validator(self.operation.tool.parameters)

    def request(self, arguments: JsonObject) -> HttpRequest:
        """The request for a call. Raises CallRejected saying what to fix when the arguments break the schema."""
        if (error := best_match(self._validator.iter_errors(arguments))) is not None:
            where = ".".join(str(part) for part in error.absolute_path)
            message = error.message if len(error.message) <= 300 else error.message[:300] + "…"
            raise CallRejected(f"argument {where!r}: {message}" if where else message)
        try:
            return build_request(self.operation, arguments)
        except ValueError as error:  # half a surrogate pair in a path or query
            raise CallRejected(f"the arguments cannot be written into a URL: {error}") from error


@dataclass(frozen=True)
class Toolset:
    """A registered document and its tools, in the document's order. `report` also tells of what became no tool.

    Tools that its policy denies are `withheld`: they are known by name only.
    """

    row: ToolsetRow
    tools: tuple[Tool, ...]
    withheld: tuple[str, ...] = ()
    report: Report = field(default_factory=Report)


@dataclass(frozen=True)
class Catalogue:
    """All tools at one moment. A run keeps the catalogue it began with."""

    toolsets: dict[str, Toolset] = field(default_factory=dict[str, Toolset])

    @cached_property
    def tools(self) -> dict[str, Tool]:
        """By name, in order of registration."""
        return {tool.name: tool for toolset in self.toolsets.values() for tool in toolset.tools}

    @cached_property
    def retriever(self) -> Retriever:
        """The index over all tools."""
        return Retriever({name: tool.operation.search_text for name, tool in self.tools.items()})

    def offer(self, query: str, names: Sequence[str] | None, k: int) -> dict[str, Tool]:
        """At most `k` tools for `query` among those named (all, when None). Raises UnknownTool."""
        if unknown := [name for name in names or () if name not in self.tools]:
            raise UnknownTool(f"no tool is named {unknown[0]!r}", "tools")
        wanted = None if names is None else [name for name in self.tools if name in names]
        return {name: self.tools[name] for name in self.retriever.top(query, k, wanted)}

    def more(self, need: str, offered: Container[str], k: int) -> dict[str, Tool]:
        """At most `k` tools beside those `offered` that fit `need`, the planner's words for what it misses.

        Tools that it calls by name come first; none when nothing fits.
        """
        others = [name for name in self.tools if name not in offered]
        named = [name for name in others if re.search(rf"\b{re.escape(name)}\b", need)]
        fitting = self.retriever.fitting(need.replace("_", " "), k, others)
        return {name: self.tools[name] for name in list(dict.fromkeys([*named, *fitting]))[:k]}


class Registry:
    """Every tenant's catalogue, kept in the store. Changes happen one at a time, each wholly or not at all.

    Use as an async context manager, which reads the store and goes on looking for what other gateways change.
    """

    def __init__(
        self, store: ToolsetStore, max_toolsets: int = 100, trusted: Sequence[str] = (), secrets: Secrets = Secrets()
    ) -> None:
        self._store, self._max, self._trusted, self._secrets = store, max_toolsets, trusted, secrets
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

    async def fresh(self, tenant: str) -> Catalogue:
        """The tenant's tools, with whatever another gateway has changed until now."""
        await self.refresh()
        return self.catalogue(tenant)

    async def refresh(self) -> None:
        """Take over what the store holds, if it has changed."""
        async with self._changing:
            await self._refresh()

    async def register(self, row: ToolsetRow) -> Toolset:
        """Add a toolset to its tenant's, or replace the one of that name.

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
            for reference in row.options.secrets.values():
                await asyncio.to_thread(self._secrets.read, reference)
            changed = Catalogue({**before, row.name: toolset})
            await asyncio.to_thread(lambda: changed.retriever)
            await self._store.save(row)
            self._catalogues[row.tenant] = changed
        return toolset

    async def delete(self, tenant: str, name: str) -> None:
        """Forget a toolset; runs that began with it keep it. Raises NotFound."""
        async with self._changing:
            await self._refresh()
            before = self.catalogue(tenant).toolsets
            if name not in before:
                raise NotFound(f"no toolset is named {name!r}", "name")
            await self._store.delete(tenant, name)
            self._catalogues[tenant] = Catalogue({key: kept for key, kept in before.items() if key != name})

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
        self._catalogues = {
            tenant: before if (before := self.catalogue(tenant)).toolsets == toolsets else Catalogue(toolsets)
            for tenant, toolsets in found.items()
        }
        self._revisions = revisions


def read_toolset(row: ToolsetRow, trusted: Sequence[str] = ()) -> Toolset:
    """The usable tools of a document that its policy lets be offered, and what became of the other operations.

    `trusted` lists what is not public and may be reached all the same, as in `permission`. Raises BadDocument if no
    operation is usable, BadInput when an entry of the row's allow list cannot be read or its policy leaves no tool.
    """
    try:
        imported = import_document(row.document, row.url, resolve=resolver(row.options.references))
    except (AttributeError, KeyError, TypeError, ValueError, IndexError, RecursionError) as error:
        # The document comes from outside and may have the wrong type anywhere.
        raise BadDocument(f"the document is malformed: {type(error).__name__}: {error}", "document") from error
    wrong = {operation.tool.name: error for operation in imported.operations if (error := _schema_error(operation))}
    checked = Imported(
        operations=tuple(operation for operation in imported.operations if operation.tool.name not in wrong),
        report=Report(operations=tuple(_refused(entry, wrong) for entry in imported.report.operations)),
    )
    operations = checked.usable()
    named = [url for url in (row.url, row.options.base_url) if url is not None]
    allowed = permission({each.base_url for each in operations}, named, row.options.allow, trusted)
    schemes = _bound(row, allowed)
    made = [_tool(operation, row, allowed, schemes) for operation in operations]
    tools = _offered(made, row.options)
    if len({origin for tool in tools if tool.keys and (origin := _apart(tool, allowed)) is not None}) > 1:
        raise BadInput("its operations are at several hosts; allow those that may see its secrets", "allow")
    withheld = tuple(tool.name for tool in made if tool.decision is Decision.DENY)
    return Toolset(row, tools, withheld, checked.report)


def _offered(tools: Sequence[Tool], options: ToolsetOptions) -> tuple[Tool, ...]:
    """Those that their policy does not deny. Raises BadInput when there are none, or an exception is for no tool."""
    names = {tool.name for tool in tools}
    if unknown := [name for name in options.tool_policy if name not in names]:
        raise BadInput(f"the document has no usable tool named {unknown[0]!r}", "tool_policy")
    offered = tuple(tool for tool in tools if tool.decision is not Decision.DENY)
    if not offered:
        raise BadInput("every tool of it may change something, so that a read-only policy leaves none", "policy")
    return offered


def _bound(row: ToolsetRow, allowed: Permission) -> dict[str, Scheme]:
    """The schemes that there are secrets for. Raises BadInput for one that there is not, or that leads elsewhere."""
    known = read_schemes(row.document, row.url)
    for name in row.options.secrets:
        if name not in known:
            there = ", ".join(sorted(known)[:20]) or "there are none"
            raise BadInput(f"the document has no usable security scheme {name!r} ({there})", "secrets")
        if known[name].kind is Kind.CLIENT_CREDENTIALS:
            try:
                allowed.check(httpx.URL(known[name].token_url))
            except (Forbidden, httpx.InvalidURL) as error:
                raise BadInput(f"the token address of {name!r} {error}: allow its host", "allow") from error
    return {name: known[name] for name in row.options.secrets}


def _tool(operation: Operation, row: ToolsetRow, allowed: Permission, schemes: dict[str, Scheme]) -> Tool:
    """A tool with its keys; what they fill in is no argument of it any more."""
    keys: list[Key] = []
    for name, scopes in chosen(operation.security, schemes, tuple(schemes)).items():
        scheme = schemes[name]
        keys.append(Key(scheme, row.options.secrets[name], scopes))
        operation = operation.without(scheme.place, scheme.name)
    tool, options = Tool(operation, row.name, allowed, tuple(keys)), row.options
    return replace(tool, decision=decide(options.policy, options.tool_policy, tool.name, tool.changes_state))


def _apart(tool: Tool, allowed: Permission) -> Origin | None:
    """Where a tool is, unless whoever registered it named that host."""
    try:
        origin = origin_of(httpx.URL(tool.operation.base_url))
    except (Forbidden, httpx.InvalidURL):
        return None  # and so it is never asked
    return None if origin.host in allowed.hosts else origin


def _require_reachable(toolset: Toolset) -> None:
    """Raises BadInput for a server whose calls would all be refused. A name is only looked up when it is dialled."""
    allowed = toolset.tools[0].permission
    for origin in sorted(allowed.origins):
        if not may_be_reached(origin, allowed):
            where, host = shown(origin), origin.host
            raise BadInput(f"its server {where} is not public; to reach it all the same, allow {host!r}", "allow")


def _schema_error(operation: Operation) -> str | None:
    try:
        Draft202012Validator.check_schema(operation.tool.parameters, format_checker=FormatChecker(()))
    except SchemaError as error:
        return f"not a usable schema: {error.message[:300]}"
    return None


def _refused(entry: OperationReport, wrong: dict[str, str]) -> OperationReport:
    if entry.name not in wrong:
        return entry
    return entry.model_copy(update={"status": Status.REFUSED, "losses": (), "reason": wrong[entry.name]})
