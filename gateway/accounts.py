"""Who asks: API keys, what they allow, and how often they may be used.

A gateway whose database has never had a key serves whoever reaches it, as the tenant "default"; it then listens on
loopback only (gateway/__main__.py). Runs at once and tokens a day are counted by the store, when a run begins.
"""

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated, Any, cast

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway import store
from gateway.problems import MissingScope, TooMany, Unauthorized, problem_of, rate_limit, respond
from gateway.store import LOCAL, Key, Keys
from umi import logs
from umi.errors import UmiError
from umi.wire import Problem

_OPEN = {"/healthz", "/readyz", "/openapi.json", "/docs", "/docs/oauth2-redirect", "/redoc"}
_FRESH = 1.0
"""Seconds until a key that was found is looked up again: so long can a revoked one be used."""
_MANY = 10_000
_HOW = "pass an API key as `Authorization: Bearer …`; `umi keys create` makes one"
PROBLEMS: dict[int | str, dict[str, Any]] = {
    400: {"model": Problem, "description": "Not HTTP, or a URL that is too long"},
    401: {"model": Problem, "description": "No key, or one that is unknown or revoked"},
    403: {"model": Problem, "description": "The key lacks a scope"},
    429: {"model": Problem, "description": "A limit of the key is reached; `Retry-After` says when to come back"},
}


@dataclass
class _Bucket:
    """Requests left to a key at a time of the monotonic clock; it fills up within a minute."""

    left: float
    at: float


class Accounts:
    """The keys that were used lately, and how much they were used in this gateway."""

    def __init__(self, keys: Keys) -> None:
        self._keys = keys
        self._found: dict[str, tuple[Key, float]] = {}
        self._buckets: dict[str, _Bucket] = {}
        self._closed, self._closed_at = False, -_FRESH

    async def identify(self, authorization: str | None) -> Key:
        """Whose request this is. Raises Unauthorized."""
        scheme, _, secret = (authorization or "").partition(" ")
        if not await self._needs_key():
            return LOCAL
        if scheme.lower() != "bearer" or not secret.strip():
            raise Unauthorized(f"this gateway needs a key: {_HOW}")
        if (key := await self._find(secret.strip())) is None:
            raise Unauthorized(f"this key is unknown or revoked: {_HOW}")
        return key

    def admit(self, key: Key) -> dict[str, str]:
        """Count a request, and tell of the limit in headers. Raises TooMany."""
        if (limit := key.requests_per_minute) is None:
            return {}
        now, second = time.monotonic(), limit / 60
        bucket = self._buckets.setdefault(key.id, _Bucket(limit, now))
        bucket.left, bucket.at = min(limit, bucket.left + (now - bucket.at) * second), now
        if bucket.left < 1:
            raise TooMany(f"this key may make {limit} requests a minute", limit, (1 - bucket.left) / second)
        bucket.left -= 1
        return rate_limit(limit, int(bucket.left), (limit - bucket.left) / second)

    async def _needs_key(self) -> bool:
        """Once there has been a key there always has."""
        if not self._closed and time.monotonic() - self._closed_at >= _FRESH:
            self._closed = await self._keys.any()
            self._closed_at = time.monotonic()
        return self._closed

    async def _find(self, secret: str) -> Key | None:
        digest = store.digest(secret)
        key, until = self._found.get(digest, (None, 0.0))
        if key is None or time.monotonic() >= until:
            key = await self._keys.find(digest)
            self._found.pop(digest, None)
            if key is not None:
                if len(self._found) >= _MANY:
                    self._found.clear()
                self._found[digest] = key, time.monotonic() + _FRESH
        return key


class Guard:
    """ASGI middleware: lets a request pass that has a key, if keys are needed, and is within the key's rate."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Identify, count, pass on with `request.state.key` set; headers tell of the rate limit, if there is one."""
        if scope["type"] != "http" or scope["path"] in _OPEN:
            return await self.app(scope, receive, send)
        accounts = cast(Accounts, scope["app"].state.gateway.accounts)
        given = dict(scope["headers"]).get(b"authorization", b"").decode("latin-1")
        try:
            key = await accounts.identify(given)
            told = accounts.admit(key)
        except UmiError as error:
            response = respond(problem_of(error), getattr(error, "headers", None))
            return await response(scope, receive, send)
        scope.setdefault("state", {})["key"] = key
        headers = [(name.encode(), value.encode()) for name, value in told.items()]

        async def tell(message: Message) -> None:
            if message["type"] == "http.response.start":
                present = {name for name, _ in message["headers"]}
                missing = [header for header in headers if header[0] not in present]
                message = {**message, "headers": [*message["headers"], *missing]}
            await send(message)

        with logs.bound(tenant=key.tenant):
            await self.app(scope, receive, tell)


_bearer = HTTPBearer(auto_error=False, description="Needed once `umi keys create` has made a key.")


def needs(*scopes: store.Scope) -> Callable[..., Awaitable[Key]]:
    """The dependency that gives a request's key, and raises MissingScope when it has none of `scopes`."""

    async def check(request: Request, _: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]) -> Key:
        key = cast(Key, request.state.key)
        if not any(key.may(scope) for scope in scopes):
            raise MissingScope(f"this needs a key with the scope {' or '.join(scopes)}; this one has {_named(key)}")
        return key

    return check


def _named(key: Key) -> str:
    return ", ".join(sorted(key.scopes)) or "none"


Asker = Annotated[Key, Depends(needs(store.Scope.QUERY))]
Reader = Annotated[Key, Depends(needs(store.Scope.QUERY, store.Scope.TOOLS))]
Keeper = Annotated[Key, Depends(needs(store.Scope.TOOLS))]
Releaser = Annotated[Key, Depends(needs(store.Scope.WEIGHTS))]
Admin = Annotated[Key, Depends(needs(store.Scope.ADMIN))]
