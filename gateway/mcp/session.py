"""One session with an MCP server."""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from typing import Any

import mcp_types as types
from mcp import Client, MCPError
from mcp.client import ClientSession, Transport
from mcp_types.version import MODERN_PROTOCOL_VERSIONS
from pydantic import TypeAdapter, ValidationError

from gateway.egress.client import Limits
from gateway.mcp.exchange import exchange, listen
from gateway.mcp.stdio import Allowance
from umi.errors import NoResponse, NotReached
from umi.mcp import McpRequest
from umi.trajectory import JsonObject

_Result = TypeAdapter[types.CallToolResult | types.InputRequiredResult](
    types.CallToolResult | types.InputRequiredResult
)
_CLIENT = types.Implementation(name="umi", version="1")
_LISTED = {"name", "title", "description", "input_schema", "annotations"}
_PAGES, _RELIST_SECONDS = 100, 5.0
Relist = Callable[[JsonObject], Awaitable[None]]


class Session:
    """A client of the official package, held by a task of its own: its scopes must end in the task that began them.

    `limits` are those of opening it and of every listing. `relist` is told when the server has other tools. The
    session is over when `ended` is set, which its transport may do as well; `allowance` is that of a child.
    """

    def __init__(
        self,
        transport: Transport,
        limits: Limits,
        relist: Relist,
        ended: asyncio.Event,
        allowance: Allowance | None = None,
    ) -> None:
        self._transport, self._limits, self._relist = transport, limits, relist
        self._ended, self._changed = ended, asyncio.Event()
        self.allowance = allowance or Allowance()
        self._session: ClientSession | None = None
        self._task: asyncio.Task[None] | None = None
        self.listing: JsonObject = {"tools": []}
        self.busy, self.used = 0, time.monotonic()

    @property
    def is_open(self) -> bool:
        """Whether calls can be made."""
        return self._session is not None and not self._ended.is_set()

    async def open(self) -> None:
        """Connect and list the tools. Raises NoResponse when that cannot be done."""
        ready = asyncio.Event()
        try:
            self.allowance.grant(self._limits.bytes)
            with exchange(self._limits) as opening:
                self._task = asyncio.create_task(self._hold(ready), name="mcp session")
                self._task.add_done_callback(self._is_over)
                try:
                    async with asyncio.timeout_at(opening.deadline):
                        await ready.wait()
                except TimeoutError as error:
                    raise opening.error or opening.late from error
                if not self.is_open:
                    raise self.allowance.error or opening.error or NotReached("does not speak MCP")
            self.listing = {"tools": await self.tools()}
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """End it, and with it the child if there is one."""
        self._ended.set()
        if self._task is not None:
            done, _ = await asyncio.wait([self._task], timeout=self._limits.seconds)
            if not done:
                self._task.cancel()
                await asyncio.wait([self._task])

    async def call(self, request: McpRequest, max_bytes: int) -> types.CallToolResult | types.InputRequiredResult:
        """What the tool answers. Raises MCPError, and ValidationError for what is no answer."""
        assert self._session is not None
        self.busy += 1
        self.allowance.grant(max_bytes, self.busy)
        try:
            params = types.CallToolRequestParams(name=request.tool, arguments=request.arguments)
            # Not `call_tool`, which runs the server's own output schemas, with their patterns, over what it answers.
            return await self._session.send_request(types.CallToolRequest(params=params), _Result)
        finally:
            self.busy, self.used = self.busy - 1, time.monotonic()

    async def tools(self) -> list[JsonObject]:
        """All pages of the server's tools, each as it is kept. Raises NoResponse."""
        assert self._session is not None
        found: list[JsonObject] = []
        cursor: str | None = None
        self.allowance.grant(self._limits.bytes)
        with exchange(self._limits) as listing:
            try:
                async with asyncio.timeout_at(listing.deadline):
                    for _ in range(_PAGES):
                        page = await self._session.list_tools(params=types.PaginatedRequestParams(cursor=cursor))
                        found += [_kept(tool) for tool in page.tools]
                        if (cursor := page.next_cursor) is None:
                            return found
            except TimeoutError as error:
                raise listing.late from error
            except MCPError as error:
                raise (
                    self.allowance.error
                    or listing.error
                    or NotReached(f"does not list its tools: {error.message[:200]}")
                ) from error
            except ValidationError as error:
                raise NotReached("lists its tools in a way that is not MCP") from error
        raise NotReached(f"lists its tools on more than {_PAGES} pages")

    async def _hold(self, ready: asyncio.Event) -> None:
        try:
            async with Client(self._transport, cache=None, client_info=_CLIENT, message_handler=self._heard) as client:
                self._session = client.session
                ready.set()
                watching = [asyncio.create_task(self._watch()), asyncio.create_task(self._subscribe(client))]
                try:
                    await self._ended.wait()
                finally:
                    for task in watching:
                        task.cancel()
                    await asyncio.gather(*watching, return_exceptions=True)
        finally:
            self._ended.set()
            ready.set()

    def _is_over(self, task: asyncio.Task[None]) -> None:
        """The client's own failures end here: whoever waits for it is told by the exchange, or that it is closed."""
        if not task.cancelled():
            task.exception()

    async def _heard(self, message: Any) -> None:
        if isinstance(message, types.ToolListChangedNotification):
            self._changed.set()

    async def _subscribe(self, client: Client) -> None:
        """Since 2026-07-28 a server only says that its tools have changed to whoever listens for that."""
        tools = client.server_capabilities.tools
        if client.protocol_version in MODERN_PROTOCOL_VERSIONS and tools is not None and tools.list_changed:
            listen(self._limits)
            async with client.listen(tools_list_changed=True) as events:
                async for _ in events:
                    self._changed.set()

    async def _watch(self) -> None:
        while True:
            await self._changed.wait()
            self._changed.clear()
            with contextlib.suppress(NoResponse):
                self.listing = {"tools": await self.tools()}
                await self._relist(self.listing)
            await asyncio.sleep(_RELIST_SECONDS)  # however often it says so


def _kept(tool: types.Tool) -> JsonObject:
    return tool.model_dump(mode="json", by_alias=True, exclude_none=True, include=_LISTED)
