"""Swapping the planner's weights under load: what fails, what a run sees, how long a release takes to be served.

Starts the real stack on a registry of its own, keeps so many runs going and releases version after version.
Prints a table; exits with 1 when a request failed, a run saw two versions of its planner, or another role was touched.
"""

import asyncio
import itertools
import json
import shutil
import statistics
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import httpx
import typer
from tqdm import tqdm

from training.live import Stack, running
from umi.manifest import FILE_NAME
from umi.registry import Registry
from umi.release import Action, Change, Release, first, released
from umi.roles import Role
from umi.wire import Replica

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
BY = Change(action=Action.RELEASE, who="bench-swap")


@dataclass
class Seen:
    """What the clients and the operator saw."""

    runs: int = 0
    failed: list[str] = field(default_factory=list[str])
    mixed: int = 0
    swaps: list[float] = field(default_factory=list[float])
    refused: list[str] = field(default_factory=list[str])
    others: int = 0


def main(
    swaps: Annotated[int, typer.Option(min=1, help="How many releases.")] = 50,
    at_once: Annotated[int, typer.Option(min=1, help="Runs that are kept going.")] = 8,
    pause: Annotated[float, typer.Option(min=0, help="Seconds between two releases.")] = 3.0,
    checkpoints: Annotated[Path, typer.Option(help="A checkpoint per role.")] = Path("checkpoints"),
) -> None:
    """Swap the planner under load and print what happened."""
    with tempfile.TemporaryDirectory(prefix="umi-swap-") as folder:
        registry = Registry(Path(folder) / "registry")
        fill(registry, checkpoints, swaps, Path(folder) / "copy")
        log = Path("var/logs/bench-swap.log")
        with running(["--registry", str(registry.root)], log, "") as (stack, _, _):
            seen = asyncio.run(measure(stack, registry, swaps, at_once, pause))
    report(seen, at_once)
    raise typer.Exit(1 if seen.failed or seen.mixed or seen.refused or seen.others else 0)


def fill(registry: Registry, checkpoints: Path, swaps: int, copy: Path) -> None:
    """Every role's shipped version, released, and a planner version for every swap: its weights under other names."""
    for role in Role:
        version = registry.add(checkpoints / role, role).manifest.version
        registry.change(role, lambda _, role=role, version=version: first(role, version, BY))
    shutil.copytree(checkpoints / Role.PLANNER, copy)
    manifest: dict[str, Any] = json.loads((copy / FILE_NAME).read_bytes())
    for number in range(swaps):
        (copy / FILE_NAME).write_text(json.dumps({**manifest, "version": f"swap-{number}"}))
        registry.add(copy, Role.PLANNER)


async def measure(stack: Stack, registry: Registry, swaps: int, at_once: int, pause: float) -> Seen:
    """Keep runs going while releases are made."""
    seen, over = Seen(), asyncio.Event()
    limits = httpx.Limits(max_connections=at_once + 4)
    async with stack, httpx.AsyncClient(timeout=620, trust_env=False, limits=limits) as client:
        before = [await replica(client, number) for number in range(3)]
        queries: Iterator[str] = itertools.cycle(QUERIES)
        clients = [asyncio.create_task(ask(client, stack.gateway, queries, seen, over)) for _ in range(at_once)]
        for number in tqdm(range(swaps), desc="swaps"):
            await asyncio.sleep(pause)
            await swap(client, registry, f"swap-{number}", seen)
        over.set()
        await asyncio.gather(*clients)
        after = [await replica(client, number) for number in range(3)]
    seen.others = sum(new.swaps - old.swaps for old, new in zip(before[1:], after[1:], strict=True))
    return seen


async def ask(client: httpx.AsyncClient, gateway: str, queries: Iterator[str], seen: Seen, over: asyncio.Event) -> None:
    """One run after the other until it is over."""
    while not over.is_set():
        body = {"query": next(queries), "deadline_seconds": 600}
        try:
            reply = await client.post(f"{gateway}/v1/queries", json=body)
        except httpx.HTTPError as error:
            seen.failed.append(repr(error))
            continue
        seen.runs += 1
        if reply.status_code != 200 or reply.json()["outcome"] == "failed":
            seen.failed.append(reply.text[:300])
            continue
        versions = {step["versions"][Role.PLANNER] for step in reply.json()["steps"]}
        seen.mixed += len(versions) > 1


async def swap(client: httpx.AsyncClient, registry: Registry, version: str, seen: Seen) -> None:
    """Release a version and wait until it is served; the time counts from the written file."""

    def make(before: Release | None) -> Release:
        assert before is not None
        return released(before, version, BY)

    wanted = await asyncio.to_thread(registry.change, Role.PLANNER, make)
    started = time.monotonic()
    while True:
        found = await replica(client, 0)
        if found.generation == wanted.generation:
            seen.swaps.append(time.monotonic() - started)
            return
        if found.problem is not None:
            seen.refused.append(found.problem)
            return
        await asyncio.sleep(0.02)


async def replica(client: httpx.AsyncClient, number: int) -> Replica:
    """What the planner (0), caller (1) or summarizer (2) says of itself."""
    return Replica.model_validate_json((await client.get(f"http://127.0.0.1:{8101 + number}/v1/replica")).content)


def report(seen: Seen, at_once: int) -> None:
    """The table, and the first of whatever went wrong."""
    rows = [
        ("swaps of the planner", f"{len(seen.swaps)}"),
        (f"runs finished meanwhile ({at_once} at a time)", f"{seen.runs}"),
        ("failed requests", f"{len(seen.failed)}"),
        ("runs that saw two versions of the planner", f"{seen.mixed}"),
        ("releases refused", f"{len(seen.refused)}"),
        ("swaps of the other two roles", f"{seen.others}"),
    ]
    if seen.swaps:
        rows.append(("seconds from the written file to serving, median", f"{statistics.median(seen.swaps):.2f}"))
        rows.append(("the slowest", f"{max(seen.swaps):.2f}"))
    print("\n| | |\n| --- | --- |")
    for title, value in rows:
        print(f"| {title} | {value} |")
    for problem in (*seen.failed, *seen.refused)[:3]:
        print(f"\n{problem}")


if __name__ == "__main__":
    typer.run(main)
