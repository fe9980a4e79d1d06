"""Many event streams, all open at the same time on one gateway: each must get all of its events, in order, once."""

import asyncio
import json
import time
from dataclasses import dataclass

import aiohttp

from benchmarks.load.measure import BODY, script
from benchmarks.load.servers import Server

EVENTS = ["run.created", *("plan", "call", "observation") * 2, "plan", "run.completed"]


@dataclass(frozen=True)
class Streams:
    """What came of them: `whole` had every event; all were `open` before the first role answered."""

    count: int
    open: int
    whole: int
    seconds: float
    cpu: float
    mebibytes: float


async def watch(gateway: Server, backend: Server, count: int, patience: float = 540.0) -> Streams:
    """Begin `count` streams while no role answers; once all are open, let the roles answer and read to the ends."""
    begun = 0
    all_open = asyncio.Event()

    async def stream(http: aiohttp.ClientSession) -> bool:
        nonlocal begun
        seen: list[tuple[int, str]] = []
        async with http.post(
            f"{gateway.url}/v1/queries", json={**BODY, "stream": True, "deadline_seconds": 600}
        ) as reply:
            async for line in reply.content:
                if line.startswith(b"data: "):
                    event = json.loads(line[6:])
                    if not seen:
                        begun += 1
                        if begun == count:
                            all_open.set()
                    seen.append((event["seq"], event["type"]))
        return seen == list(enumerate(EVENTS))

    connector, limit = aiohttp.TCPConnector(limit=0), aiohttp.ClientTimeout(patience)
    async with aiohttp.ClientSession(connector=connector, timeout=limit) as http:
        await script(http, backend, hold=1)
        tasks = [asyncio.create_task(stream(http)) for _ in range(count)]
        try:
            async with asyncio.timeout(patience):
                await all_open.wait()
        finally:
            opened = begun
            await script(http, backend, hold=0)
        cpu, started = gateway.cpu_seconds, time.perf_counter()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        seconds, cpu = time.perf_counter() - started, gateway.cpu_seconds - cpu
    return Streams(count, opened, sum(result is True for result in results), seconds, cpu / count, gateway.mebibytes)
