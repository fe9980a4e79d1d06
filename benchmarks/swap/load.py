"""Steady load: clients that ask one query after the other."""

import asyncio
import itertools
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import httpx

from umi.roles import Role

QUERIES = (
    "What is the capital of France?",
    "How many people live in Lyon?",
    "What is 17 times 23?",
    "How far is it from Oslo to Rome?",
    "Which weekday is 2031-05-09?",
    "What is the atomic number of iron?",
    "Is 7919 a prime number?",
    "Which currency is used in Kenya?",
)


@dataclass
class Seen:
    """What the clients saw: runs, those that failed, and those whose steps were planned by more than one version."""

    runs: int = 0
    failed: list[str] = field(default_factory=list[str])
    mixed: list[str] = field(default_factory=list[str])


@asynccontextmanager
async def load(gateway: str, at_once: int) -> AsyncGenerator[Seen]:
    """So many runs going on at all times within the block; it is left when the last of them has ended."""
    seen, over, queries = Seen(), asyncio.Event(), itertools.cycle(QUERIES)
    limits = httpx.Limits(max_connections=at_once)
    async with httpx.AsyncClient(base_url=gateway, timeout=620, trust_env=False, limits=limits) as client:
        asking = [asyncio.create_task(_ask(client, queries, seen, over)) for _ in range(at_once)]
        try:
            yield seen
        finally:
            over.set()
            await asyncio.gather(*asking)


async def _ask(client: httpx.AsyncClient, queries: Iterator[str], seen: Seen, over: asyncio.Event) -> None:
    while not over.is_set():
        try:
            reply = await client.post("/v1/queries", json={"query": next(queries), "deadline_seconds": 600})
        except httpx.HTTPError as error:
            seen.failed.append(repr(error))
            continue
        seen.runs += 1
        if reply.status_code != 200 or reply.json()["outcome"] == "failed":
            seen.failed.append(reply.text[:300])
            continue
        versions = {step["versions"][Role.PLANNER] for step in reply.json()["steps"]}
        if len(versions) > 1:
            seen.mixed.append(f"{reply.json()['run_id']}: {', '.join(sorted(versions))}")
