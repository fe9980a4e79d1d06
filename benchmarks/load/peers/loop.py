"""The job as a bare loop: the same eight requests as the gateway makes, nothing checked, nothing stored.

FastAPI and uvicorn around it, as around the gateway: `loop.py PORT BACKEND aiohttp`, or `httpx`.
"""

import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any, Protocol
from uuid import uuid4

import aiohttp
import httpx
import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel

TOOLS = [{"name": "weather", "description": "The current weather in a city", "parameters": {"type": "object"}}]


class Client(Protocol):
    """The two requests that the loop makes."""

    async def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]: ...

    async def get(self, path: str, parameters: dict[str, str]) -> str: ...


class Aiohttp:
    """Over aiohttp."""

    def __init__(self, base: str) -> None:
        connector = aiohttp.TCPConnector(limit=1000)
        self.session = aiohttp.ClientSession(base, connector=connector, cookie_jar=aiohttp.DummyCookieJar())

    async def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """A role."""
        async with self.session.post(path, json=body, raise_for_status=True) as response:
            return await response.json()

    async def get(self, path: str, parameters: dict[str, str]) -> str:
        """A tool."""
        async with self.session.get(path, params=parameters, raise_for_status=True) as response:
            return await response.text()

    async def close(self) -> None:
        """Close the connections."""
        await self.session.close()


class Httpx:
    """Over plain httpx, with as many connections."""

    def __init__(self, base: str) -> None:
        limits = httpx.Limits(max_connections=1000, max_keepalive_connections=100)
        self.client = httpx.AsyncClient(base_url=base, limits=limits, timeout=60, trust_env=False)

    async def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """A role."""
        return (await self.client.post(path, json=body)).raise_for_status().json()

    async def get(self, path: str, parameters: dict[str, str]) -> str:
        """A tool."""
        return (await self.client.get(path, params=parameters)).raise_for_status().text

    async def close(self) -> None:
        """Close the connections."""
        await self.client.aclose()


class Query(BaseModel):
    """A question."""

    query: str


async def run(client: Client, query: str) -> dict[str, Any]:
    """One run."""
    run_id, steps = uuid4().hex, list[dict[str, Any]]()
    body = {"run_id": run_id, "trajectory": {"query": query, "tools": TOOLS, "steps": steps}}
    while (plan := (await client.post("/v1/plan", body))["plan"])["turn"] == "caller":
        steps.append({"plan": plan})
        call = (await client.post("/v1/call", body))["call"]
        steps[-1] |= {"call": call, "observation": await client.get("/weather", call["arguments"])}
    steps.append({"plan": plan})
    answer = (await client.post("/v1/summarize", body))["answer"]
    return {"run_id": run_id, "answer": answer, "steps": steps}


def create_app(base: str, kind: type[Aiohttp] | type[Httpx]) -> FastAPI:
    """The server."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncGenerator[None]:
        app.state.client = kind(base)
        yield
        await app.state.client.close()

    app = FastAPI(lifespan=lifespan)

    @app.post("/v1/queries")
    async def ask(body: Query) -> dict[str, Any]:
        return await run(app.state.client, body.query)

    @app.get("/healthz")
    async def alive() -> str:
        return "ok"

    return app


if __name__ == "__main__":
    port, backend, client = sys.argv[1:]
    app = create_app(backend, {"aiohttp": Aiohttp, "httpx": Httpx}[client])
    uvicorn.run(app, port=int(port), log_level="warning", access_log=False, backlog=4096)
