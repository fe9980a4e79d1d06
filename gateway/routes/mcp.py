"""The gateway's own MCP server at /mcp, over streamable HTTP.

It keeps no sessions, so that any gateway on the same database can answer any request. Keys, limits and tenants are
those of the rest of the API. Since 2026-07-28 a client cancels a call by closing its connection; what an older one says
afterwards, in a request of its own, cannot be told apart from somebody else's without a session, and has no effect.
"""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import cast

from fastapi import FastAPI
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from mcp.server.transport_security import TransportSecuritySettings
from starlette.requests import Request
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from gateway import store
from gateway.asking import AskBody, Context, create_server
from gateway.events import Event
from gateway.openai.bodies import Options
from gateway.openai.runs import begin
from gateway.parts import Gateway
from gateway.problems import MissingScope
from gateway.settings import Settings
from gateway.store import Key

PATH = "/mcp"
_LOCAL = ("127.0.0.1", "localhost", "[::1]")


class Here:
    """Asks this gateway, as whoever has the key of the request."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    async def start(self, context: Context, body: AskBody) -> str:
        """Begin a run for the key's tenant."""
        key = cast(Key, cast(Request, context.request).state.key)
        if not key.may(store.Scope.QUERY):
            raise MissingScope("this needs a key with the scope query")
        options = Options(tools=body.tools, max_steps=body.max_steps)
        return await begin(self._gateway, key, body.query, options)

    def follow(self, run_id: str) -> AsyncIterator[Event | None]:
        """Its events."""
        return self._gateway.store.runs.follow(run_id)

    async def cancel(self, run_id: str) -> None:
        """End it."""
        await self._gateway.runs.cancel(run_id)


class _Endpoint:
    """The route: an ASGI app that hands on to what serves while the gateway runs."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        manager = cast(StreamableHTTPSessionManager, scope["app"].state.mcp)
        await manager.handle_request(scope, receive, send)


def install(app: FastAPI) -> None:
    """Add the route to `app`; it answers while `serving`."""
    app.router.routes.append(Route(PATH, _Endpoint()))


@asynccontextmanager
async def serving(app: FastAPI, gateway: Gateway) -> AsyncGenerator[None]:
    """Around the time that `app` serves."""
    manager = StreamableHTTPSessionManager(
        create_server(Here(gateway), version("umi-agent")),
        stateless=True,
        security_settings=_names(gateway.settings),
        max_request_body_size=gateway.settings.max_body_bytes,
    )
    async with manager.run():
        app.state.mcp = manager
        yield


def _names(settings: Settings) -> TransportSecuritySettings:
    """Under which names it is asked. A page in a browser that makes some other name mean this machine is refused."""
    names = (*_LOCAL, *settings.mcp_hosts)
    origins = [f"{scheme}://{name}" for scheme in ("http", "https") for name in names]
    return TransportSecuritySettings(
        allowed_hosts=[form for name in names for form in (name, f"{name}:*")],
        allowed_origins=[form for origin in origins for form in (origin, f"{origin}:*")],
    )
