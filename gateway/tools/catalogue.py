"""Tools as a run sees them: what a tool is, the toolset it belongs to, and the catalogue of all that may be offered."""

import re
from abc import ABC, abstractmethod
from collections.abc import Container, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Generic, Protocol, TypeVar

from gateway.egress.permission import Permission
from gateway.events import ToolSource
from gateway.policy import Decision
from gateway.store import ToolsetRow
from gateway.tools import validation
from gateway.tools.embeddings import Embeddings, Nearness
from gateway.tools.retrieval import Retriever, Scores
from umi.errors import UnknownTool
from umi.mcp import McpRequest
from umi.openapi import HttpRequest, Report
from umi.trajectory import JsonObject, ToolSpec

Sent = HttpRequest | McpRequest
"""What goes out for a call: an HTTP request to an OpenAPI operation, or a `tools/call` to an MCP server."""


class Described(Protocol):
    """What a tool is made of: an operation of a document, or a tool of an MCP server's listing."""

    @property
    def tool(self) -> ToolSpec:
        """What models see."""
        ...

    @property
    def search_text(self) -> str:
        """All words of it, for retrieval."""
        ...


Source = TypeVar("Source", bound=Described)


@dataclass(frozen=True)
class Tool(ABC, Generic[Source]):
    """A tool, the toolset it belongs to, and what that one's policy says of calling it."""

    operation: Source
    toolset: str
    version: int = field(default=0, kw_only=True)
    """Of its toolset."""
    decision: Decision = field(default=Decision.ALLOW, kw_only=True)

    @property
    def source(self) -> ToolSource:
        """Where it is from."""
        return ToolSource(toolset=self.toolset, version=self.version)

    @property
    def name(self) -> str:
        """The name that models use."""
        return self.spec.name

    @property
    def spec(self) -> ToolSpec:
        """What models see."""
        return self.operation.tool

    @property
    def search_text(self) -> str:
        """All words of it, for retrieval."""
        return self.operation.search_text

    @property
    @abstractmethod
    def method(self) -> str:
        """The HTTP method, or the one of MCP."""

    @property
    @abstractmethod
    def path(self) -> str:
        """The path under the toolset's address, or the MCP server's name for it."""

    @property
    @abstractmethod
    def is_read_only(self) -> bool:
        """Whether calling it changes nothing, as far as that may be relied on: what policies ask."""

    @abstractmethod
    def may_repeat(self, request: Sent) -> bool:
        """Whether `request` can be sent twice without doing more than once: what is asked after a crash."""

    @abstractmethod
    def request(self, arguments: JsonObject) -> Sent:
        """What to send for a call. Raises CallRejected saying what to fix when the arguments break the schema."""

    def check(self, arguments: JsonObject) -> None:
        """Raises CallRejected saying what to fix when the arguments break the schema."""
        validation.check(self._validator, arguments)

    @cached_property
    def _validator(self) -> Any:
        return validation.validator(self.spec.parameters)


@dataclass(frozen=True)
class Toolset:
    """A registered toolset and its tools, in its own order. `report` also tells of what became no tool."""

    row: ToolsetRow
    tools: tuple[Tool, ...]
    address: str
    """Where it is: a URL, or a command line."""
    permission: Permission
    """Where its requests may go."""
    report: Report = field(default_factory=Report)
    withheld: tuple[str, ...] = ()
    """Names of the tools that its policy denies."""

    def numbered(self, version: int) -> "Toolset":
        """The same as that version."""
        tools = tuple(replace(tool, version=version) for tool in self.tools)
        return replace(self, row=self.row.model_copy(update={"version": version}), tools=tools)


@dataclass(frozen=True)
class Catalogue:
    """All tools at one moment. A run keeps the catalogue it began with."""

    toolsets: dict[str, Toolset] = field(default_factory=dict[str, Toolset])
    embeddings: Embeddings | None = None
    """What texts mean, where there is an endpoint that knows."""

    @cached_property
    def tools(self) -> dict[str, Tool]:
        """By name, in order of registration."""
        return {tool.name: tool for toolset in self.toolsets.values() for tool in toolset.tools}

    @cached_property
    def retriever(self) -> Retriever:
        """The index over all tools."""
        return Retriever({name: tool.search_text for name, tool in self.tools.items()})

    @cached_property
    def _nearness(self) -> Nearness | None:
        texts = [tool.search_text for tool in self.tools.values()]
        return None if self.embeddings is None else Nearness(texts, self.embeddings)

    async def _near(self, words: str) -> Scores | None:
        return None if self._nearness is None else await self._nearness.to(words)

    async def offer(self, query: str, names: Sequence[str] | None, k: int) -> dict[str, Tool]:
        """At most `k` tools for `query` among those named (all, when None). Raises UnknownTool."""
        if unknown := [name for name in names or () if name not in self.tools]:
            raise UnknownTool(f"no tool is named {unknown[0]!r}", "tools")
        wanted = [name for name in self.tools if names is None or name in names]
        near = await self._near(query) if len(wanted) > k else None
        return {name: self.tools[name] for name in self.retriever.top(query, k, wanted, near)}

    async def more(self, need: str, offered: Container[str], k: int) -> dict[str, Tool]:
        """At most `k` tools beside those `offered` that fit `need`, the planner's words for what it misses.

        Tools that it calls by name come first; none when nothing fits. In meaning something is always nearest.
        """
        others = [name for name in self.tools if name not in offered]
        named = [name for name in others if re.search(rf"\b{re.escape(name)}\b", need)]
        words = need.replace("_", " ")
        fitting = self.retriever.fitting(words, k, others, await self._near(words) if others else None)
        return {name: self.tools[name] for name in list(dict.fromkeys([*named, *fitting]))[:k]}
