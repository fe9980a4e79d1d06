"""The gateway as an ASGI app."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from gateway import described, openai, problems
from gateway.accounts import Guard
from gateway.limits import BodyLimit
from gateway.parts import open_gateway
from gateway.routes import export, health, mcp, runs, toolsets, webhooks, weights
from gateway.settings import Settings
from gateway.tracing import Joined


def create_app(settings: Settings | None = None) -> FastAPI:
    """A gateway that opens its store and clients when it starts serving. Settings default to the environment's."""
    chosen = settings or Settings()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncGenerator[None]:
        async with open_gateway(chosen) as gateway, mcp.serving(app, gateway):
            app.state.gateway = gateway
            yield

    app = FastAPI(title="UMi gateway", description="A tool-using agent of three small LLMs.", lifespan=lifespan)
    app.add_middleware(BodyLimit, max_bytes=chosen.max_body_bytes)
    app.add_middleware(Guard)
    app.add_middleware(Joined)
    problems.install(app)
    for routes in (export, runs, webhooks, toolsets, weights, health):  # `export` looks like a run's id
        app.include_router(routes.router)
    openai.install(app)
    mcp.install(app)
    described.install(app)
    return app
