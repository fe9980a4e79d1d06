"""A client that never gives up on its run: what breaks is asked for again, and nothing is read twice."""

import asyncio
import json
import random
import time
from dataclasses import dataclass, field
from typing import Any

import httpx

from umi.sse import Parser


@dataclass
class Stream:
    """What a client has seen of its run: the number of each event, in the order of their coming.

    Texts come in parts before their event: `texts` counts those, `taken_up` those of them whose stream broke in the
    middle, and `spoiled` those whose parts did not make the event's own text.
    """

    run_id: str = ""
    mark: str = ""
    """The id of the newest event, or part of a text, from which to go on."""
    seen: list[int] = field(default_factory=list[int])
    text: str | None = None
    """What the parts of the next event's text have made so far."""
    texts: int = 0
    taken_up: int = 0
    spoiled: int = 0
    _broke_at: str = ""
    breaks: int = 0
    is_over: bool = False

    def take(self, mark: str, event: dict[str, Any]) -> None:
        """One more event, or part of a text."""
        self.run_id, self.mark, data = event["run_id"], mark, event["data"]
        if event["type"] in {"plan.delta", "answer.delta"}:
            self.text = (self.text or "")[: data["offset"]] + data["text"]
            return
        if self.text is not None:
            self.texts += 1
            self.spoiled += self.text != (data["plan"]["rationale"] if "plan" in data else data["answer"])
            self.text = None
        self.seen.append(event["seq"])
        self.is_over = event["type"] == "run.completed"

    def broke(self) -> None:
        """The connection broke, or there still is none."""
        if self.text is not None and self.mark != self._broke_at:
            self.taken_up, self._broke_at = self.taken_up + 1, self.mark


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
                stream.broke()
                await asyncio.sleep(0.1)
        return stream

    async def _read(self, key: str, stream: Stream) -> None:
        """Begin the run, or go on reading it. Raises httpx.HTTPError when that breaks."""
        url = self._chance.choice(self._urls)
        if stream.run_id:
            last = {"last-event-id": stream.mark}
            reading = self._http.stream("GET", f"{url}/v1/runs/{stream.run_id}/events", headers=last)
        else:
            body = {"query": "Do what the script says.", "stream": True, "deadline_seconds": 600}
            reading = self._http.stream("POST", f"{url}/v1/queries", json=body, headers={"idempotency-key": key})
        async with reading as response:
            response.raise_for_status()
            parser = Parser()
            async for received in response.aiter_bytes():
                for message in parser.feed(received):
                    stream.take(message.id, json.loads(message.data))
