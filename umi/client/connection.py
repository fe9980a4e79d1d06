"""What both clients know of the gateway: where it is, who asks, how long to wait."""

import os
from dataclasses import dataclass, field
from typing import Any

import httpx

from umi.client.requests import Request

_CONNECT_SECONDS = 5.0
_SILENCE_SECONDS = 30.0
"""A stream that says nothing for so long is broken: the gateway sends a comment every ten seconds."""


@dataclass(frozen=True)
class Connection:
    """A gateway's URL, the headers that go with every request, and the seconds that an answer may take."""

    url: str
    headers: dict[str, str] = field(repr=False)
    timeout: float

    @classmethod
    def to(cls, url: str | None, api_key: str | None, timeout: float) -> "Connection":
        """Defaults are UMI_GATEWAY, or this machine, and UMI_API_KEY. Raises ValueError for what is no URL of HTTP."""
        where = (url or os.environ.get("UMI_GATEWAY") or "http://127.0.0.1:8000").rstrip("/")
        try:
            parsed = httpx.URL(where)
        except httpx.InvalidURL as error:
            raise ValueError(f"{where!r} is not a URL: {error}") from error
        if parsed.scheme not in {"http", "https"} or not parsed.host:
            raise ValueError(f"{where!r} is not a URL that begins with http:// or https://")
        key = (api_key if api_key is not None else os.environ.get("UMI_API_KEY", "")).strip()
        return cls(where, {"authorization": f"Bearer {key}"} if key else {}, timeout)

    def arguments(self, request: Request[Any], streamed: bool) -> dict[str, Any]:
        """What httpx builds the request from."""
        seconds = max(self.timeout, _SILENCE_SECONDS) if streamed else self.timeout + request.seconds
        return {
            "method": request.method,
            "url": self.url + request.path,
            "params": dict(request.parameters) or None,
            "json": request.body,
            "headers": {**self.headers, **request.headers},
            "timeout": httpx.Timeout(seconds, connect=_CONNECT_SECONDS),
        }

    def explain(self, error: Exception) -> str:
        """Why nothing was answered, in one sentence."""
        if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
            return f"no gateway answers at {self.url}"
        if isinstance(error, httpx.TimeoutException):
            return f"the gateway at {self.url} did not answer in time"
        return f"the connection to the gateway at {self.url} broke: {error or type(error).__name__}"
