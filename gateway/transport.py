"""How the gateway asks its role services."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import aiohttp

from umi.sse import Parser
from umi.wire import EVENT_STREAM, Heard, Problem, StreamedTurn

SEND_ERRORS = (aiohttp.ClientError, UnicodeError, OSError)
"""All that a request can raise; odd host names end in UnicodeError."""


@dataclass(frozen=True)
class Answer:
    """A response, read and decoded. The case of a name in `headers` does not matter."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class RoleClient:
    """Sends over aiohttp: no proxies, no cookies, no redirects, no time limits.

    httpx is left out (docs/adr/0008). Idle connections are given up before uvicorn (5 s) closes them, so
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

    async def get(self, url: str, headers: Mapping[str, str] | None = None) -> Answer:
        """The whole response. Raises what is in SEND_ERRORS."""
        return await self._send("GET", url, headers=headers)

    async def post(self, url: str, content: str, headers: Mapping[str, str], heard: Heard | None = None) -> Answer:
        """As `get`; cancelling drops the connection.

        `heard` is told of the text of a turn while it is written, if the role service can do that. Then it may also
        raise pydantic's ValidationError.
        """
        if heard is not None:
            headers = {**headers, "accept": EVENT_STREAM}
        return await self._send("POST", url, content.encode(), headers, heard)

    async def _send(
        self,
        method: str,
        url: str,
        content: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        heard: Heard | None = None,
    ) -> Answer:
        assert self._session is not None
        sending = self._session.request(method, url, data=content, headers=headers, allow_redirects=False)
        async with sending as response:
            if heard is not None and response.content_type == EVENT_STREAM:
                return await _end_of_turn(response.content, heard)
            return Answer(response.status, response.headers, await response.read())


async def _end_of_turn(stream: aiohttp.StreamReader, heard: Heard) -> Answer:
    """The answer that a streamed turn ends with (services/streaming.py), as if nothing had come before it."""
    parser, text, answer = Parser(), "", None
    async for received in stream.iter_any():  # to the very end, so that the connection can be used again
        for message in parser.feed(received):
            event = StreamedTurn.model_validate_json(message.data)
            if event.part is not None:
                text = text[: event.part.offset] + event.part.text
                heard(text)
            elif event.reply is not None:
                answer = Answer(200, {}, json.dumps(event.reply).encode())
            elif event.problem is not None:
                problem = Problem.model_validate(event.problem)
                answer = Answer(problem.status, {}, json.dumps(event.problem).encode())
    if answer is None:
        raise aiohttp.ClientPayloadError("the turn broke off")
    return answer


def is_connect_failure(error: Exception) -> bool:
    """Whether nothing was connected, or the connection broke before an answer began."""
    return isinstance(error, aiohttp.ClientConnectionError | OSError)
