"""The HTTP client that the gateway uses for everything it calls."""

import aiohttp
import httpx
from httpx_aiohttp import AiohttpTransport

# All that a request can raise. httpx-aiohttp lets some of aiohttp's errors through as they are (a header line that is
# too long, for one), and odd host names end in UnicodeError.
SEND_ERRORS = (httpx.HTTPError, httpx.InvalidURL, aiohttp.ClientError, UnicodeError, OSError)


def create_client(connections: int) -> httpx.AsyncClient:
    """An httpx client over aiohttp (docs: decision 7): no proxies, no cookies, no redirects; no time limits of its own.

    Call it inside a running event loop. Idle connections are given up before uvicorn (5 s) closes them, so that a
    request rarely meets a connection that is just being closed.
    """

    def session() -> aiohttp.ClientSession:
        connector = aiohttp.TCPConnector(limit=connections, keepalive_timeout=2.0)
        return aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar())

    transport = AiohttpTransport(client=session)
    return httpx.AsyncClient(transport=transport, timeout=None, trust_env=False, follow_redirects=False)


def is_connect_failure(error: Exception) -> bool:
    """Whether nothing was connected, or the connection broke before an answer began."""
    return isinstance(error, httpx.ConnectError | httpx.ConnectTimeout | OSError)
