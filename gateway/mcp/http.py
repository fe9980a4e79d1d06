"""The HTTP of the MCP client, sent through the guard of egress: where it may go, with which keys, how much comes back.

It never raises: the client takes an exception here for the end of the whole session, with every other call in it. What
goes wrong is noted in the exchange it belongs to, and answered as an error that only that request meets.
"""

import asyncio
import json
from collections.abc import AsyncIterator

import aiohttp
import httpx
import httpx2

from gateway.egress.body import read_body
from gateway.egress.client import Egress, Limits, Request, leads_home, told
from gateway.egress.keys import Keyring
from gateway.egress.permission import origin_of
from gateway.mcp.exchange import Exchange, current
from gateway.mcp.servers import Remote
from umi.errors import BadInput, CallRejected, Forbidden, NoResponse, NotReached, TooLarge

_OURS = {"accept-encoding": "identity", "user-agent": "umi"}
_NOT_SENT = {"connection", "content-length", "cookie", "host", "transfer-encoding", *_OURS}
_KEPT = {"content-type", "location", "mcp-session-id"}
_EVENTS = "text/event-stream"
_NOTIFYING_SECONDS = 2.0
_LISTENS = 10
"""How often one session may open the stream on which its server says something by itself."""


class GuardedTransport(httpx2.AsyncBaseTransport):
    """Sends the requests of one session with `remote`."""

    def __init__(self, remote: Remote, egress: Egress, keyring: Keyring, limits: Limits) -> None:
        self._remote, self._egress, self._keyring, self._limits = remote, egress, keyring, limits
        self._home = origin_of(httpx.URL(remote.url))
        self._listens = 0

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """The response, or one that says why there is none."""
        exchange = current()
        if exchange is None or (request.method == "GET" and "last-event-id" not in request.headers):
            self._listens += 1
            if self._listens > _LISTENS:
                return _refusal(request, Forbidden("listens no more"), 405)
            exchange = Exchange(self._limits)
        elif request.method == "DELETE" or (request.method == "POST" and _is_notification(await request.aread())):
            # That a session is over, or a call cancelled, whose own time has passed; others wait until that is said.
            exchange = Exchange(self._limits, asyncio.get_running_loop().time() + _NOTIFYING_SECONDS)
        try:
            async with asyncio.timeout_at(exchange.deadline):
                return await self._answer(request, exchange)
        except TimeoutError:
            error = exchange.late
        except NoResponse as failed:
            error = failed
        except (BadInput, CallRejected) as failed:
            error = Forbidden(f"was not asked: {failed}")
        exchange.fail(error)
        return _refusal(request, error)

    async def _answer(self, request: httpx2.Request, exchange: Exchange) -> httpx2.Response:
        outgoing = await self._outgoing(request, exchange)
        read_seconds = None if exchange.deadline is None else exchange.limits.read_seconds
        response = await self._egress.begin(
            outgoing, self._remote.permission, exchange.late, exchange.limits.connect_seconds, read_seconds
        )
        exchange.status = response.status
        has_session = "mcp-session-id" in request.headers
        exchange.is_forgotten |= response.status == 404 and has_session and request.method == "POST"
        headers = {name: value for name, value in response.headers.items() if name.lower() in _KEPT}
        if response.headers.get("content-type", "").lower().startswith(_EVENTS) and request.method != "DELETE":
            if response.headers.get("content-encoding", "identity").strip().lower() not in ("", "identity"):
                response.close()
                raise NotReached("answered in an encoding that was not asked for")
            return httpx2.Response(response.status, headers=headers, stream=_Events(response, exchange))
        try:
            with told(exchange.late):
                body = await read_body(response, max(0, exchange.left))
        except TooLarge as error:
            raise TooLarge(exchange.limits.bytes, error.status) from error
        finally:
            response.release()
        exchange.receive(len(body))
        return httpx2.Response(response.status, headers=headers, content=body)

    async def _outgoing(self, request: httpx2.Request, exchange: Exchange) -> Request:
        """The same request with our own headers, and with the keys if it goes to where they are for."""
        url = httpx.URL(str(request.url))
        headers = {name: value for name, value in request.headers.items() if name.lower() not in _NOT_SENT} | _OURS
        if leads_home(self._remote.permission.check(url), self._home):
            opened = await self._keyring.open(self._remote.keys, self._remote.permission)
            exchange.secrets.update(opened.secrets)
            headers |= opened.credentials.headers
        return Request(request.method, url, headers, await request.aread())


class _Events(httpx2.AsyncByteStream):
    """A stream of events, as long and as large as its exchange admits."""

    def __init__(self, response: aiohttp.ClientResponse, exchange: Exchange) -> None:
        self._response, self._exchange = response, exchange

    async def __aiter__(self) -> AsyncIterator[bytes]:
        pieces = self._response.content.iter_any()
        while (piece := await self._next(pieces)) is not None:
            yield piece

    async def _next(self, pieces: AsyncIterator[bytes]) -> bytes | None:
        exchange = self._exchange
        try:
            async with asyncio.timeout_at(exchange.deadline):
                with told(exchange.late):
                    piece = await anext(pieces, None)
            exchange.receive(len(piece or b""))
            return piece
        except TimeoutError:
            error = exchange.late
        except NoResponse as failed:
            error = failed
        exchange.fail(error)
        raise httpx2.SSEError(str(error)) from error

    async def aclose(self) -> None:
        self._response.close()


def _is_notification(body: bytes) -> bool:
    """Whether a message of JSON-RPC is one that is not answered."""
    return b'"id"' not in body or "id" not in json.loads(body)


def _refusal(request: httpx2.Request, error: NoResponse, status: int = 502) -> httpx2.Response:
    problem = {"jsonrpc": "2.0", "id": None, "error": {"code": -32000, "message": str(error)}}
    headers = {"content-type": "application/json"}
    return httpx2.Response(status, headers=headers, content=json.dumps(problem).encode(), request=request)
