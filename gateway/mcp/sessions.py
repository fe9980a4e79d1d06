"""All sessions with MCP servers: opened when needed, shared by concurrent calls, closed when nobody calls."""

import asyncio
import json
import logging
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Self

import httpx
import httpx2
import mcp_types as types
from mcp import MCPError
from mcp.client.streamable_http import streamable_http_client
from pydantic import ValidationError

from gateway.egress.client import Egress, Limits
from gateway.egress.dispatch import Reply, unanswered
from gateway.egress.hosts import Hosts
from gateway.egress.keys import Keyring
from gateway.egress.permission import Origin, origin_of
from gateway.egress.secrets import Secrets, cut
from gateway.events import ToolOutcome
from gateway.mcp.exchange import Exchange, exchange
from gateway.mcp.http import GuardedTransport
from gateway.mcp.servers import Command, Remote, Server
from gateway.mcp.session import Session
from gateway.mcp.stdio import Allowance, running
from umi.errors import BadInput, Forbidden, NoResponse, NotReached
from umi.mcp import McpRequest
from umi.observation import observe_result
from umi.trajectory import JsonObject

_IDLE_SECONDS, _SWEEP_SECONDS = 300.0, 15.0
Relist = Callable[[Server, JsonObject], Awaitable[None]]


@dataclass
class _Place:
    """Where the session with one server is, or will be. `secrets` are those that a child has in its environment."""

    opening: asyncio.Lock = field(default_factory=asyncio.Lock)
    session: Session | None = None
    secrets: tuple[str, ...] = ()

    def open_session(self) -> Session | None:
        """The session if calls can be made in it, which then begins to idle anew."""
        if self.session is None or not self.session.is_open:
            return None
        self.session.used = time.monotonic()
        return self.session


class Sessions:
    """An async context manager; leaving ends every session and every child.

    `commands` are the command lines that may be run, as the gateway's operator has written them. `relist` is told a
    server's new tools.
    """

    def __init__(
        self,
        egress: Egress,
        keyring: Keyring,
        hosts: Hosts,
        secrets: Secrets,
        limits: Limits,
        listing_limits: Limits,
        commands: Iterable[tuple[str, ...]],
        relist: Relist,
    ) -> None:
        self._egress, self._keyring, self._hosts, self._secrets = egress, keyring, hosts, secrets
        self._limits, self._listing_limits = limits, listing_limits
        self._commands, self._relist = frozenset(commands), relist
        self._places: dict[Server, _Place] = {}
        self._telling: set[asyncio.Future[None]] = set()
        self._sweeping: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        # What servers write must neither fill our log nor bring secrets into it; what goes wrong is an observation.
        logging.getLogger("mcp.client").setLevel(logging.CRITICAL)
        logging.getLogger("httpx2").setLevel(logging.WARNING)  # it would log whole URLs
        self._sweeping = asyncio.create_task(self._sweep(), name="mcp sessions")
        return self

    async def __aexit__(self, *_: object) -> None:
        tasks = [task for task in (self._sweeping, *self._telling) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        sessions = [place.session for place in self._places.values() if place.session is not None]
        await asyncio.gather(*(session.close() for session in sessions))
        self._places.clear()

    async def listing(self, server: Server) -> JsonObject:
        """The server's tools now. Raises BadInput for a command that may not be run, NoResponse when there is none."""
        if isinstance(server, Command) and server.words not in self._commands:
            raise BadInput("only commands that UMI_MCP_COMMANDS names can be run", "mcp.command")
        session, is_new = await self._session(server)
        if is_new:
            return session.listing
        try:
            return {"tools": await session.tools()}
        except NoResponse:  # perhaps only because the server has forgotten the session
            await session.close()
            return (await self._session(server))[0].listing

    async def call(self, server: Server, request: McpRequest) -> Reply:
        """Whatever goes wrong is an observation. Cancelling tells the server that its answer is not wanted any more."""
        started = time.monotonic()
        with exchange(self._limits) as now:
            assert now.deadline is not None
            try:
                async with self._hosts.slot(_origin(server), now.deadline, now.late):
                    reply = await self._answered(server, request, now)
            except BadInput as error:
                reply = Reply(f"Not sent: {error}.", ToolOutcome.REJECTED)
            except NoResponse as error:
                reply = unanswered(error)
        return replace(reply, seconds=time.monotonic() - started)

    async def _answered(self, server: Server, request: McpRequest, now: Exchange) -> Reply:
        """Asks once more when the server has forgotten the session: then it cannot have carried out the call."""
        for is_last in (False, True):
            session, is_new = await self._session(server)
            place = self._places[server]
            if is_new:
                self._tell(server, session.listing)
            try:
                result = await session.call(request, self._limits.bytes)
            except ValidationError:
                return Reply("Error: the answer is not MCP.", ToolOutcome.ERROR)
            except MCPError as error:
                if now.is_forgotten and not is_last:
                    now.is_forgotten, now.error = False, None
                    await session.close()
                    continue
                if (failed := _failed(session, now, error)) is not None:
                    raise failed from error
                text = f"Error{f' {now.status}' if (now.status or 0) >= 400 else ''}: {error.message}"
                result = types.CallToolResult(content=[types.TextContent(text=text)], is_error=True)
            return _reply(result, {*now.secrets, *place.secrets}, self._limits.characters)
        raise AssertionError("the last round returns or raises")

    async def _session(self, server: Server) -> tuple[Session, bool]:
        """An open session, and whether it was opened just now."""
        place = self._places.setdefault(server, _Place())
        if (session := place.open_session()) is not None:  # not behind those who still queue for the lock
            return session, False
        async with place.opening:
            if (session := place.open_session()) is not None:
                return session, False
            if place.session is not None:
                await place.session.close()

            async def relist(listing: JsonObject) -> None:
                await self._relist(server, listing)

            ended, allowance = asyncio.Event(), Allowance()
            transport = await self._transport(server, place, allowance, ended)
            session = Session(transport, self._listing_limits, relist, ended, allowance)
            await session.open()
            place.session = session
            return session, True

    async def _transport(
        self, server: Server, place: _Place, allowance: Allowance, ended: asyncio.Event
    ) -> AbstractAsyncContextManager[Any]:
        if isinstance(server, Remote):
            return self._http(server)
        if server.words not in self._commands:
            raise Forbidden("is a command that UMI_MCP_COMMANDS does not name")
        env = {name: await asyncio.to_thread(self._secrets.read, reference) for name, reference in server.env}
        place.secrets = tuple(env.values())
        return running(server, env, allowance, ended)

    @asynccontextmanager
    async def _http(self, server: Remote) -> AsyncGenerator[Any]:
        guarded = GuardedTransport(server, self._egress, self._keyring, self._listing_limits)
        async with httpx2.AsyncClient(transport=guarded, timeout=None, trust_env=False) as client:
            limit = max(self._limits.bytes, self._listing_limits.bytes)
            async with streamable_http_client(server.url, http_client=client, max_sse_event_size=limit) as streams:
                yield streams

    def _tell(self, server: Server, listing: JsonObject) -> None:
        """A session that was opened for a call may have found other tools than were known."""
        task = asyncio.ensure_future(self._relist(server, listing))
        self._telling.add(task)
        task.add_done_callback(self._telling.discard)

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(_SWEEP_SECONDS)
            long_ago = time.monotonic() - _IDLE_SECONDS
            for server, place in list(self._places.items()):
                session = place.session
                if place.opening.locked() or (session is not None and (session.busy or session.used > long_ago)):
                    continue
                del self._places[server]
                if session is not None:
                    await session.close()


def _origin(server: Server) -> Origin:
    if isinstance(server, Remote):
        return origin_of(httpx.URL(server.url))
    return Origin("stdio", f"{server.tenant}/{server.toolset}", 0)


def _failed(session: Session, now: Exchange, error: MCPError) -> NoResponse | None:
    """Why there was no answer; None when the error is the server's answer."""
    if now.error is not None:
        return now.error
    if error.code == types.CONNECTION_CLOSED:
        return session.allowance.error or NotReached("broke off")
    return None


def _reply(result: types.CallToolResult | types.InputRequiredResult, secrets: set[str], characters: int) -> Reply:
    if isinstance(result, types.InputRequiredResult):
        return Reply("Error: the tool asks for more from its user, which is not possible here.", ToolOutcome.ERROR)
    outcome = ToolOutcome.ERROR if result.is_error else ToolOutcome.OK
    try:
        answer = result.model_dump(mode="json", by_alias=True, include={"content", "structured_content"})
        if secrets:  # before it is shortened, which could leave half of one
            answer = json.loads(cut(json.dumps(answer).encode(), secrets))
        text = observe_result(answer["content"], answer.get("structuredContent"), result.is_error, characters)
    except (RecursionError, ValueError):
        return Reply("The answer is nested too deeply, or cannot be shown.", outcome)
    return Reply(cut(text.encode("utf-8", "replace"), secrets).decode(), outcome)
