"""All tool services behind one address, each under its own path with its own OpenAPI document."""

from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager

from fastapi import FastAPI

from examples.tools import (
    airports,
    cities,
    clock,
    countries,
    elements,
    maths,
    mcp,
    public_holidays,
    rooms,
    sky,
    todos,
    units,
)

FACTORIES: dict[str, Callable[[], FastAPI]] = {
    "countries": countries.create_app,
    "cities": cities.create_app,
    "airports": airports.create_app,
    "holidays": public_holidays.create_app,
    "clock": clock.create_app,
    "units": units.create_app,
    "maths": maths.create_app,
    "sky": sky.create_app,
    "elements": elements.create_app,
    "todos": todos.create_app,
    "rooms": rooms.create_app,
}


def create_services() -> dict[str, FastAPI]:
    """Every service anew, with state of its own."""
    return {name: factory() for name, factory in FACTORIES.items()}


def create_app(services: Mapping[str, FastAPI] | None = None) -> FastAPI:
    """One app that mounts the services given, or new ones, under their names."""
    mounted = create_services() if services is None else dict(services)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncGenerator[None]:
        async with mcp.serving(app, mounted):
            yield

    description = "Lists the tool services mounted here; all of them together are the MCP server at /mcp."
    root = FastAPI(title="Example tools", description=description, version="1.0.0", lifespan=lifespan)

    @root.get("/", summary="The services and where their OpenAPI documents are")
    async def list_services() -> dict[str, str]:
        return {name: f"/{name}/openapi.json" for name in mounted}

    @root.get("/healthz", summary="Whether the server is up")
    async def health() -> dict[str, str]:
        return {"status": "ok"}

    mcp.install(root)
    for name, service in mounted.items():
        root.mount(f"/{name}", service)
    return root
