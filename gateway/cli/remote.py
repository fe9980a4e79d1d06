"""The tool `ask` over standard input and output, for clients that start their MCP servers themselves."""

import asyncio
import json
import os
from collections.abc import AsyncIterator
from importlib.metadata import version

import httpx
from mcp.server.stdio import stdio_server

from gateway.asking import AskBody, Context, create_server
from gateway.events import PAYLOADS, Event
from umi.errors import BadInput, Unreachable

_SECONDS, _TRIES = 60.0, 5


class Remote:
    """Asks the gateway that `client` leads to."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client

    async def start(self, context: Context, body: AskBody) -> str:
        """Begin a run that goes on by itself."""
        response = await self._post("/v1/queries", {**body.model_dump(exclude_none=True), "background": True})
        return str(response.json()["run_id"])

    async def follow(self, run_id: str) -> AsyncIterator[Event | None]:
        """Its events as the gateway streams them, from where the stream broke off if it does."""
        after, tries = -1, 0
        while tries < _TRIES:
            tries += 1
            try:
                path = f"/v1/runs/{run_id}/events"
                async with self._client.stream("GET", path, params={"after": after}) as response:
                    response.raise_for_status()
                    async for line in response.aiter_lines():
                        if line.startswith("data: "):
                            said = json.loads(line[6:])
                            if said["type"] not in PAYLOADS:  # a part of a text that will come as a whole
                                continue
                            event = Event.model_validate(said)
                            after, tries = event.seq, 0
                            yield event
                            if event.is_last:
                                return
            except httpx.HTTPError as error:
                if tries == _TRIES:
                    raise self._lost(error) from error
            await asyncio.sleep(1)
        raise Unreachable("the gateway ended the run's events before the run was over")

    async def cancel(self, run_id: str) -> None:
        """End it."""
        await self._post(f"/v1/runs/{run_id}/cancel", None)

    async def _post(self, path: str, body: object) -> httpx.Response:
        try:
            response = await self._client.post(path, json=body)
        except httpx.HTTPError as error:
            raise self._lost(error) from error
        if not response.is_success:
            is_problem = "json" in response.headers.get("content-type", "")
            raise BadInput(response.json().get("detail", "") if is_problem else f"it answers {response.status_code}")
        return response

    def _lost(self, error: httpx.HTTPError) -> Unreachable:
        reason = error or type(error).__name__
        return Unreachable(f"the gateway at {self._client.base_url} does not answer ({reason}); start it with: umi up")


async def serve(url: str) -> None:
    """Be the MCP server on standard input and output, until the input ends."""
    key = os.environ.get("UMI_API_KEY", "").strip()
    headers = {"authorization": f"Bearer {key}"} if key else {}
    async with httpx.AsyncClient(base_url=url, headers=headers, timeout=_SECONDS, trust_env=False) as client:
        server = create_server(Remote(client), version("umi-agent"))
        async with stdio_server() as (incoming, outgoing):
            await server.run(incoming, outgoing, server.create_initialization_options())
