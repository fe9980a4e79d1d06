"""Sending one request to the outside: checked, limited, redirected, repeated where that is harmless."""

import asyncio
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Self
from urllib.parse import urlencode

import aiohttp
import httpx
from aiohttp.abc import AbstractResolver

from gateway.egress.body import ACCEPTED, read_body
from gateway.egress.guard import guarded_session
from gateway.egress.hosts import Hosts
from gateway.egress.permission import Origin, Permission, Rule
from gateway.egress.retries import IDEMPOTENT, asks_to_come_back, pause
from gateway.transport import SEND_ERRORS, Answer, is_connect_failure
from umi.errors import Forbidden, NotReached, Resting, TimedOut
from umi.observation import MAX_CHARS
from umi.openapi import SAFE

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_ACCEPT = {
    "accept": "application/json, text/*;q=0.9, */*;q=0.1",
    "accept-encoding": ACCEPTED,
    "user-agent": "umi",
}


@dataclass(frozen=True)
class Limits:
    """Seconds and bytes of one request with all its redirects and repetitions; `seconds` and `bytes` are the whole."""

    seconds: float = 10.0
    bytes: int = 1_000_000
    connect_seconds: float = 5.0
    read_seconds: float = 10.0
    """Between two reads."""
    redirects: int = 5
    tries: int = 3
    characters: int = MAX_CHARS
    """Of the response, as it is observed."""


@dataclass(frozen=True)
class Credentials:
    """What says who is asking. Only ever sent to the origin that the request was made for."""

    headers: dict[str, str] = field(default_factory=dict[str, str])
    query: dict[str, str] = field(default_factory=dict[str, str])
    cookies: dict[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True)
class Outgoing:
    """A request to be sent. `headers` do not go to another origin either."""

    method: str
    url: str
    headers: dict[str, str] = field(default_factory=dict[str, str])
    content: bytes | None = None
    credentials: Credentials = Credentials()


@dataclass(frozen=True)
class Request:
    """One request as it goes out."""

    method: str
    url: httpx.URL
    headers: dict[str, str]
    content: bytes | None = None


class Egress:
    """The one client for everything that users name; an async context manager.

    Toolsets that may reach the same addresses share connections, others never do: a connection that one was allowed
    to open is not there for another one.
    """

    def __init__(
        self, hosts: Hosts, connections: int = 512, resolver: Callable[[], AbstractResolver] = aiohttp.ThreadedResolver
    ) -> None:
        self._hosts, self._connections, self._resolver = hosts, connections, resolver
        self._sessions: dict[frozenset[Rule], aiohttp.ClientSession] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        for session in self._sessions.values():
            await session.close()

    async def send(self, outgoing: Outgoing, permission: Permission, limits: Limits) -> Answer:
        """The response to `outgoing`, redirects followed when its method changes nothing.

        Raises Forbidden, NotReached, TimedOut or TooLarge; cancelling drops the connection.
        """
        deadline = asyncio.get_running_loop().time() + limits.seconds
        url = _parsed(outgoing.url)
        origin = home = permission.check(url)
        for _ in range(limits.redirects + 1):
            request = (_request if leads_home(origin, home) else _bare_request)(outgoing, url)
            answer = await self._tried(request, origin, permission, limits, deadline)
            target = answer.headers.get("location")
            if answer.status not in _REDIRECTS or target is None or outgoing.method not in SAFE:
                return answer
            url = _parsed(target, url)
            origin = permission.check(url)
        raise Forbidden(f"redirects more than {limits.redirects} times")

    async def _tried(
        self, request: Request, origin: Origin, permission: Permission, limits: Limits, deadline: float
    ) -> Answer:
        """The request's response, after some more tries if it may be repeated and there is time for them."""
        clock = asyncio.get_running_loop().time
        tried, tries = 0, limits.tries if request.method in IDEMPOTENT else 1
        result: Answer | NotReached | None = None
        while True:
            tried += 1
            try:
                result = await self._exchange(request, origin, permission, limits, deadline)
            except Resting:
                raise
            except TimedOut:
                if result is None:
                    raise
                tries = tried  # what came of the try before says more than that there was no time for this one
            except NotReached as error:
                result = error
            if isinstance(result, Answer) and not asks_to_come_back(result.status):
                return result
            seconds = pause(tried, result.headers if isinstance(result, Answer) else None)
            if tried >= tries or clock() + seconds >= deadline:
                if isinstance(result, Answer):
                    return result
                raise result
            await asyncio.sleep(seconds)

    async def _exchange(
        self, request: Request, origin: Origin, permission: Permission, limits: Limits, deadline: float
    ) -> Answer:
        """One request, one response."""
        late = TimedOut(f"did not answer within {limits.seconds:g} s")
        async with self._hosts.slot(origin, deadline, late):
            with told(late):
                response = await self._sent(request, permission, limits.connect_seconds, limits.read_seconds)
                async with response:
                    return Answer(response.status, response.headers, await read_body(response, limits.bytes))

    async def begin(
        self,
        request: Request,
        permission: Permission,
        late: TimedOut,
        connect_seconds: float,
        read_seconds: float | None,
    ) -> aiohttp.ClientResponse:
        """The head of the response to one request, as it is: not redirected, not repeated.

        Whoever reads its body limits it, reads inside `told`, and closes it. Raises Forbidden, NotReached, or `late`
        when nothing came within `read_seconds`.
        """
        permission.check(request.url)
        with told(late):
            return await self._sent(request, permission, connect_seconds, read_seconds)

    async def _sent(
        self, request: Request, permission: Permission, connect_seconds: float, read_seconds: float | None
    ) -> aiohttp.ClientResponse:
        rules = permission.rules
        if rules not in self._sessions:
            self._sessions[rules] = guarded_session(rules, self._connections, self._resolver())
        return await self._sessions[rules].request(
            request.method,
            str(request.url),
            headers=request.headers,
            data=request.content or None,
            allow_redirects=False,
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=connect_seconds, sock_read=read_seconds),
        )


@contextmanager
def told(late: TimedOut) -> Generator[None]:
    """Says in our own errors what aiohttp raises inside: `late`, Forbidden or NotReached."""
    try:
        yield
    except aiohttp.SocketTimeoutError as error:
        raise late from error
    except (aiohttp.NonHttpUrlClientError, aiohttp.InvalidURL) as error:  # a host such as 2130706433
        raise Forbidden("leads to an address that cannot be read") from error
    except SEND_ERRORS as error:
        if is_connect_failure(error):
            raise NotReached("could not be reached: the connection failed") from error
        raise NotReached("gave a response that could not be read: it broke off") from error


def _parsed(text: str, base: httpx.URL | None = None) -> httpx.URL:
    """Raises Forbidden."""
    try:
        return httpx.URL(text) if base is None else base.join(text)
    except (httpx.InvalidURL, ValueError) as error:
        raise Forbidden("leads to an address that cannot be read") from error


def leads_home(origin: Origin, home: Origin) -> bool:
    """Whether a redirect stays where the request was made for, which also holds when it only goes over to https."""
    return origin == home or (origin == home._replace(scheme="https", port=443) and home.port == 80)


def _request(outgoing: Outgoing, url: httpx.URL) -> Request:
    """The whole request, with what says who is asking."""
    credentials = outgoing.credentials
    headers = _ACCEPT | outgoing.headers | credentials.headers
    if credentials.cookies:
        given = [headers["cookie"]] if "cookie" in headers else []
        headers["cookie"] = "; ".join([*given, *(f"{key}={value}" for key, value in credentials.cookies.items())])
    # Appended as text: the query that is there must stay as the tool's document wants it written.
    added = [urlencode({key: value}) for key, value in credentials.query.items() if key not in url.params]
    if added:
        url = url.copy_with(query="&".join([*filter(None, [url.query.decode("ascii")]), *added]).encode())
    return Request(outgoing.method, url, headers, outgoing.content)


def _bare_request(outgoing: Outgoing, url: httpx.URL) -> Request:
    """What another origin may see of a request: nothing that was written for the first one."""
    return Request(outgoing.method, url, _ACCEPT)
