"""A client that never gives up on its run: what breaks is asked for again, and nothing is read twice."""

import asyncio
import json
import random
import time
from dataclasses import dataclass, field

import httpx


@dataclass
class Stream:
    """What a client has seen of its run: the number of each event, in the order of their coming."""

    run_id: str = ""
    seen: list[int] = field(default_factory=list[int])
    breaks: int = 0
    is_over: bool = False


class Client:
    """Asks whichever of the gateways at `urls` chance picks."""

    def __init__(self, http: httpx.AsyncClient, urls: list[str], chance: random.Random) -> None:
        self._http, self._urls, self._chance = http, urls, chance

    async def ask(self, key: str, patience: float) -> Stream:
        """Ask with an Idempotency-Key until the run's last event is read, or for `patience` seconds."""
        stream = Stream()
        until = time.monotonic() + patience
        while not stream.is_over and time.monotonic() < until:
            try:
                await self._read(key, stream)
            except httpx.HTTPError:
                stream.breaks += bool(stream.seen)
                await asyncio.sleep(0.1)
        return stream

    async def _read(self, key: str, stream: Stream) -> None:
        """Begin the run, or go on reading it. Raises httpx.HTTPError when that breaks."""
        url = self._chance.choice(self._urls)
        if stream.run_id:
            last = {"last-event-id": str(stream.seen[-1])}
            reading = self._http.stream("GET", f"{url}/v1/runs/{stream.run_id}/events", headers=last)
        else:
            body = {"query": "Do what the script says.", "stream": True, "deadline_seconds": 600}
            reading = self._http.stream("POST", f"{url}/v1/queries", json=body, headers={"idempotency-key": key})
        async with reading as response:
            response.raise_for_status()
            async for line in response.aiter_lines():
                if line.startswith("data: "):
                    event = json.loads(line[6:])
                    stream.run_id = event["run_id"]
                    stream.seen.append(event["seq"])
                    stream.is_over = event["type"] == "run.completed"
