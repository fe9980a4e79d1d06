"""The gateway as an ASGI app."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from gateway import (
    described,
    openai,
    problems,
    routes_export,
    routes_health,
    routes_mcp,
    routes_runs,
    routes_toolsets,
    routes_webhooks,
    routes_weights,
)
from gateway.accounts import Guard
from gateway.limits import BodyLimit
from gateway.parts import open_gateway
from gateway.settings import Settings
from gateway.tracing import Joined


def create_app(settings: Settings | None = None) -> FastAPI:
    """A gateway that opens its store and clients when it starts serving. Settings default to the environment's."""
    chosen = settings or Settings()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncGenerator[None]:
        async with open_gateway(chosen) as gateway, routes_mcp.serving(app, gateway):
            app.state.gateway = gateway
            yield

    app = FastAPI(title="UMi gateway", description="A tool-using agent of three small LLMs.", lifespan=lifespan)
    app.add_middleware(BodyLimit, max_bytes=chosen.max_body_bytes)
    app.add_middleware(Guard)
    app.add_middleware(Joined)
    problems.install(app)
    for routes in (routes_export, routes_runs, routes_webhooks, routes_toolsets, routes_weights, routes_health):
        app.include_router(routes.router)
    openai.install(app)
    routes_mcp.install(app)
    described.install(app)
    return app
