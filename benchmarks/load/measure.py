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
_MOMENT = 0.05


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
    runs: float
    """As many as the role calls meanwhile make up: at the edges of the time there are runs that are half done."""
    errors: int
    seconds: float
    cpu: float
    mebibytes: float
    latencies: tuple[float, ...]
    """Of the runs that ended meanwhile."""

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


async def measure(
    server: Server, backend: Server, point: Point, runs: int = 0, seconds: float = 0, warming: float = 0
) -> Result:
    """Every asker asks again as soon as it is answered. Measured are `seconds` and `runs` at least, after a time of
    `warming`; each is as long as it takes to have as many answers as there are askers.

    Raises RuntimeError when the server did not ask the backend what it should have.
    """
    connector, limit = aiohttp.TCPConnector(limit=0, keepalive_timeout=2), aiohttp.ClientTimeout(_SECONDS)
    async with aiohttp.ClientSession(connector=connector, timeout=limit) as http:
        await script(http, backend, ms=point.milliseconds)
        askers = _Askers(http, server, point.at_once)
        await askers.work(point.at_once, warming)
        before = len(askers.latencies)
        served = [await script(http, backend, ms=point.milliseconds)]
        cpu, started = server.cpu_seconds, time.perf_counter()
        await askers.work(max(runs, point.at_once), seconds)
        took, cpu = time.perf_counter() - started, server.cpu_seconds - cpu
        measured, mebibytes = askers.latencies[before:], server.mebibytes
        served.append(await script(http, backend, ms=point.milliseconds))
        await askers.end()
        served.append(await script(http, backend))
    asked, good = len(askers.latencies), [latency for latency in askers.latencies if latency is not None]
    total = {kind: sum(each[kind] for each in served) for kind in served[0]}
    expected = {"roles": asked * ROLE_CALLS, "tools": asked * TOOL_CALLS}
    done = served[1]["roles"] / ROLE_CALLS
    if not done or (len(good) == asked and total != expected):
        raise RuntimeError(f"{server.name} asked the backend for {total} where {expected} was expected")
    latencies = tuple(latency for latency in measured if latency is not None)
    return Result(server.name, point, done, asked - len(good), took, cpu / done, mebibytes, latencies)


async def script(http: aiohttp.ClientSession, backend: Server, **settings: int) -> dict[str, int]:
    """Set the backend up, and what it served since that was last done."""
    async with http.get(f"{backend.url}/script", params=settings) as response:
        return await response.json()


class _Askers:
    """So many who ask, again and again; `latencies` has a None for each that got no or a wrong answer."""

    def __init__(self, http: aiohttp.ClientSession, server: Server, count: int) -> None:
        self._http, self._url, self._is_over = http, f"{server.url}/v1/queries", False
        self.latencies: list[float | None] = []
        self._tasks = [asyncio.create_task(self._ask()) for _ in range(count)]

    async def work(self, answers: int, seconds: float) -> None:
        """Returns when there were so many more answers, and so many seconds are over; raises what ended an asker."""
        wanted, until = len(self.latencies) + answers, time.perf_counter() + seconds
        while (left := until - time.perf_counter()) > 0 or len(self.latencies) < wanted:
            wait = max(left, _MOMENT)
            ended, _ = await asyncio.wait(self._tasks, timeout=wait, return_when=asyncio.FIRST_COMPLETED)
            for asker in ended:
                asker.result()

    async def end(self) -> None:
        """Let everybody have their last answer."""
        self._is_over = True
        await asyncio.gather(*self._tasks)

    async def _ask(self) -> None:
        while not self._is_over:
            started, is_good = time.perf_counter(), False
            with contextlib.suppress(aiohttp.ClientError, TimeoutError):
                async with self._http.post(self._url, json=BODY) as response:
                    is_good = response.status == 200 and (await response.json())["answer"] == ANSWER
            self.latencies.append(time.perf_counter() - started if is_good else None)
            if not is_good:
                await asyncio.sleep(_MOMENT)
