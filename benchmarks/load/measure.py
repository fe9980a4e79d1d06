"""Asking a server, so and so many at once, and what that cost it."""

import asyncio
import contextlib
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

import aiohttp

from benchmarks.load.backend import ANSWER
from benchmarks.load.servers import Server

BODY = {"query": "What is the weather in Paris and in London today, and which city is warmer?"}
ROLE_CALLS, TOOL_CALLS = 6, 2
_SECONDS = 300


@dataclass(frozen=True)
class Point:
    """How many ask at once, and how late every role answers."""

    at_once: int
    milliseconds: int = 0

    def __str__(self) -> str:
        return f"{self.at_once} at once" + (f", {self.milliseconds} ms a role call" if self.milliseconds else "")


@dataclass(frozen=True)
class Result:
    """What was measured. Seconds are wall-clock time, but for `cpu`, the server's own time a run."""

    server: str
    point: Point
    runs: int
    errors: int
    seconds: float
    cpu: float
    mebibytes: float
    latencies: tuple[float, ...]

    def percentile(self, share: float) -> float:
        """The latency that so many are below."""
        ordered = sorted(self.latencies)
        return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else math.nan


def combined(turns: Sequence[Result]) -> Result:
    """What a server did in all of its turns at a point; `cpu` is the median of them."""
    last = turns[-1]
    return Result(
        last.server,
        last.point,
        sum(turn.runs for turn in turns),
        sum(turn.errors for turn in turns),
        sum(turn.seconds for turn in turns),
        median(turn.cpu for turn in turns),
        last.mebibytes,
        tuple(latency for turn in turns for latency in turn.latencies),
    )


async def measure(server: Server, backend: Server, point: Point, runs: int) -> Result:
    """Every asker asks again as soon as it is answered, until `runs` are done; some before them do not count."""
    connector, limit = aiohttp.TCPConnector(limit=0, keepalive_timeout=2), aiohttp.ClientTimeout(_SECONDS)
    async with aiohttp.ClientSession(connector=connector, timeout=limit) as http:
        await script(http, backend, ms=point.milliseconds)
        await _ask(http, server, point.at_once, 2 * point.at_once)
        await script(http, backend, ms=point.milliseconds)
        cpu, started = server.cpu_seconds, time.perf_counter()
        latencies = await _ask(http, server, point.at_once, runs)
        seconds, cpu = time.perf_counter() - started, server.cpu_seconds - cpu
        served = await script(http, backend)
    good = [latency for latency in latencies if latency is not None]
    expected = {"roles": runs * ROLE_CALLS, "tools": runs * TOOL_CALLS}
    if len(good) == runs and served != expected:
        raise RuntimeError(f"{server.name} answered without asking: {served} where {expected} was expected")
    return Result(server.name, point, runs, runs - len(good), seconds, cpu / runs, server.mebibytes, tuple(good))


async def script(http: aiohttp.ClientSession, backend: Server, **settings: int) -> dict[str, int]:
    """Set the backend up, and what it served since that was last done."""
    async with http.get(f"{backend.url}/script", params=settings) as response:
        return await response.json()


async def _ask(http: aiohttp.ClientSession, server: Server, at_once: int, runs: int) -> Sequence[float | None]:
    left, latencies = iter(range(runs)), list[float | None]()

    async def asker() -> None:
        for _ in left:
            started, is_good = time.perf_counter(), False
            with contextlib.suppress(aiohttp.ClientError, TimeoutError):
                async with http.post(f"{server.url}/v1/queries", json=BODY) as response:
                    is_good = response.status == 200 and (await response.json())["answer"] == ANSWER
            latencies.append(time.perf_counter() - started if is_good else None)

    await asyncio.gather(*(asker() for _ in range(at_once)))
    return latencies
