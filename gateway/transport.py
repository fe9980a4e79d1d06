"""How the gateway asks its role services."""

from collections.abc import Mapping
from typing import Self

import aiohttp
import httpx

# All that a request can raise, through httpx-aiohttp (gateway/egress) as well: that lets some of aiohttp's errors
# through as they are (a header line that is too long, for one), and odd host names end in UnicodeError.
SEND_ERRORS = (httpx.HTTPError, httpx.InvalidURL, aiohttp.ClientError, UnicodeError, OSError)


class RoleClient:
    """Sends over aiohttp and answers with httpx's responses: no proxies, no cookies, no redirects, no time limits.

    httpx's own client is left out (docs/adr/0008). Idle connections are given up before uvicorn (5 s) closes them, so
    that a request rarely meets a connection that is just being closed. An async context manager.
    """

    def __init__(self, connections: int) -> None:
        self._connections = connections
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        connector = aiohttp.TCPConnector(limit=self._connections, keepalive_timeout=2.0)
        self._session = aiohttp.ClientSession(
            connector=connector, cookie_jar=aiohttp.DummyCookieJar(), timeout=aiohttp.ClientTimeout(total=None)
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._session is not None
        await self._session.close()

    async def get(self, url: str) -> httpx.Response:
        """The whole response. Raises what is in SEND_ERRORS."""
        return await self._send("GET", url)

    async def post(self, url: str, content: str, headers: Mapping[str, str]) -> httpx.Response:
        """As `get`; cancelling drops the connection."""
        return await self._send("POST", url, content.encode(), headers)

    async def _send(
        self, method: str, url: str, content: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> httpx.Response:
        assert self._session is not None
        sending = self._session.request(method, url, data=content, headers=headers, allow_redirects=False)
        async with sending as response:
            body = await response.read()
        told = [(name, value) for name, value in response.headers.items() if name.lower() in _TOLD]
        return httpx.Response(response.status, headers=told, content=body)


_TOLD = frozenset({"retry-after", "content-type"})
"""The headers that matter; those about the body's length and encoding are no longer true."""


def is_connect_failure(error: Exception) -> bool:
    """Whether nothing was connected, or the connection broke before an answer began."""
    return isinstance(error, httpx.ConnectError | httpx.ConnectTimeout | OSError)
