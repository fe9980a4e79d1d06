"""Sending one tool call: request in, observation out. Whatever goes wrong is an observation, never an exception."""

import asyncio
import json
import time
from dataclasses import dataclass

import httpx

from gateway.events import ToolOutcome
from gateway.transport import SEND_ERRORS, is_connect_failure
from umi.observation import observe
from umi.openapi import HttpRequest


@dataclass(frozen=True)
class Reply:
    """What the planner is told, and what the log keeps beside it."""

    observation: str
    outcome: ToolOutcome
    status: int | None = None
    seconds: float = 0.0


class Dispatcher:
    """The one place from which tools are called.

    `seconds` bounds a call from connecting to the last byte, `max_bytes` the response body. Cancelling `send` drops
    the connection, which is how a run's deadline reaches a call in flight.
    """

    def __init__(self, client: httpx.AsyncClient, seconds: float = 10.0, max_bytes: int = 1_000_000) -> None:
        self._client, self._seconds, self._max_bytes = client, seconds, max_bytes

    async def send(self, request: HttpRequest) -> Reply:
        """Send `request` once and observe what comes back."""
        started = time.monotonic()
        reply = await self._attempt(request)
        text = reply.observation.encode("utf-8", "replace").decode()  # half a surrogate pair cannot be stored or shown
        return Reply(text, reply.outcome, reply.status, time.monotonic() - started)

    async def _attempt(self, request: HttpRequest) -> Reply:
        # The egress guard belongs here: every address that a tool call dials passes this line.
        try:
            async with asyncio.timeout(self._seconds):
                return await self._exchange(request)
        except TimeoutError:
            return Reply(f"The tool did not answer within {self._seconds:g} s.", ToolOutcome.TIMEOUT)
        except SEND_ERRORS as error:
            if is_connect_failure(error):
                return Reply("The tool could not be reached: the connection failed.", ToolOutcome.UNREACHABLE)
            return Reply("The tool's response could not be read: it broke off.", ToolOutcome.UNREACHABLE)

    async def _exchange(self, request: HttpRequest) -> Reply:
        headers = {"accept": "application/json, text/*;q=0.9, */*;q=0.1", "accept-encoding": "gzip", **request.headers}
        content = None if request.text_body is None else request.text_body.encode()
        if request.json_body is not None:
            try:
                content = json.dumps(request.json_body, allow_nan=False).encode()
            except ValueError:
                return Reply("Not sent: NaN and infinity are not valid JSON.", ToolOutcome.REJECTED)
            headers = {"content-type": "application/json", **headers}
        async with self._client.stream(request.method, request.url, headers=headers, content=content) as response:
            body = bytearray()
            async for chunk in response.aiter_bytes():
                body += chunk
                if len(body) > self._max_bytes:
                    text = f"Response larger than {_size(self._max_bytes)}; not shown."
                    return Reply(text, ToolOutcome.TOO_LARGE, response.status_code)
        return self._observe(response.status_code, response.headers, bytes(body))

    def _observe(self, status: int, headers: httpx.Headers, body: bytes) -> Reply:
        if 300 <= status < 400:
            target = headers.get("location", "elsewhere")[:200]
            return Reply(
                f"Error {status}: redirects to {target}; redirects are not followed.", ToolOutcome.ERROR, status
            )
        try:
            text = observe(status, headers.get("content-type", ""), body)
        except RecursionError:
            text = "The response is nested too deeply; not shown."
        return Reply(text, ToolOutcome.ERROR if status >= 400 else ToolOutcome.OK, status)


def _size(count: int) -> str:
    return f"{count / 1_000_000:g} MB" if count >= 100_000 else f"{count} bytes"
