"""Adapters under load: fifty releases, two replicas that converge, broken versions."""

import asyncio
import statistics
import time
from pathlib import Path

from tqdm import tqdm

from benchmarks.swap.broken import OF_ADAPTERS, refuse, refuse_without_disk
from benchmarks.swap.house import House, replica
from benchmarks.swap.load import load
from benchmarks.swap.table import Part
from benchmarks.swap.versions import release, renamed, taken_over
from umi.registry import Registry
from umi.roles import Role
from umi.smoke import cases

_CONVERGENCES = 5


async def adapters(
    house: House, registry: Registry, source: Path, folder: Path, swaps: int, at_once: int, pause: float
) -> list[Part]:
    """Both parts about adapters; leaves the caller, the summarizer and the tools running."""
    for number in range(swaps + 2 * _CONVERGENCES):
        registry.add(renamed(source, f"swap-{number}", folder), Role.PLANNER)
    house.tools()
    urls = {role: house.role(role, role) for role in Role}
    house.wait(*(role.value for role in Role))
    gateway, planner = house.gateway(urls), urls[Role.PLANNER]
    others = [urls[Role.CALLER], urls[Role.SUMMARIZER]]
    before = [replica(url).swaps for url in others]
    part, both = Part(f"{swaps} adapter swaps of the planner, {at_once} runs at all times"), Part("two planners")
    broken = Part("broken versions, under the same load")
    async with load(gateway, at_once) as seen:
        took, refused = list[float](), list[str]()
        for number in tqdm(range(swaps), desc="adapter swaps"):
            await asyncio.sleep(pause)
            seconds, problem = await asyncio.to_thread(_swap, registry, planner, f"swap-{number}")
            took.append(seconds)
            refused += [problem] if problem else []
        second = house.role("planner-2", Role.PLANNER)
        await asyncio.to_thread(house.wait, "planner-2")
        await asyncio.to_thread(_converge, both, house, registry, (planner, second), swaps)
        good = f"swap-{swaps + 2 * _CONVERGENCES - 1}"
        probe = cases(registry.open(Role.PLANNER, good))[0].trajectory
        await asyncio.to_thread(refuse, broken, registry, planner, good, OF_ADAPTERS, probe)
        await asyncio.to_thread(refuse_without_disk, broken, registry, folder / "huge")
    part.add("runs finished during this and the next two parts", seen.runs)
    part.none("failed requests", seen.failed)
    part.none("runs that saw two versions of the planner", seen.mixed)
    part.none("good releases refused", refused)
    part.most("from the written file to serving, median", statistics.median(took), 1.0)
    part.add("the slowest", f"{max(took):.2f} s")
    touched = sum(replica(url).swaps for url in others) - sum(before)
    part.add("swaps of the other two roles", touched, "0", touched == 0)
    house.stop("gateway", Role.PLANNER)
    return [part, both, broken]


def _swap(registry: Registry, url: str, version: str) -> tuple[float, str | None]:
    return taken_over(url, release(registry, version))


def _converge(part: Part, house: House, registry: Registry, urls: tuple[str, str], first: int) -> None:
    """Releases until both replicas serve them, then some while one of the two is down."""
    slowest = 0.0
    for number in range(first, first + _CONVERGENCES):
        wanted, started = release(registry, f"swap-{number}"), time.monotonic()
        for url in urls:
            taken_over(url, wanted)
        slowest = max(slowest, time.monotonic() - started)
    part.most(f"both serve a release, slowest of {_CONVERGENCES}", slowest, 3.0)
    house.stop("planner-2")
    wanted = [release(registry, f"swap-{first + _CONVERGENCES + number}") for number in range(_CONVERGENCES)][-1]
    house.start("planner-2")
    house.wait("planner-2")
    back = replica(urls[1])
    what = f"one that was down for {_CONVERGENCES} releases, as soon as it is ready"
    served = f"generation {back.generation}"
    part.add(what, served, f"generation {wanted.generation}", back.generation == wanted.generation)
    house.stop("planner-2")
