"""Full weights under load: replaced in place, compared with a service that was started with them, broken versions."""

import asyncio
from pathlib import Path

from tqdm import tqdm

from benchmarks.swap.broken import OF_FULL_WEIGHTS, refuse
from benchmarks.swap.house import House, plan, replica
from benchmarks.swap.load import QUERIES, load
from benchmarks.swap.table import Part
from benchmarks.swap.versions import release, taken_over
from umi.registry import Registry
from umi.roles import Role
from umi.smoke import cases
from umi.trajectory import Trajectory

A, B = "full-a", "full-b"


async def full_weights(
    house: House, registry: Registry, others: dict[Role, str], swaps: int, at_once: int, pause: float
) -> list[Part]:
    """Both parts about full weights; `registry` holds A and B for the planner, A is released."""
    planner = house.role("planner-full", Role.PLANNER, Path(registry.place))
    house.wait("planner-full")
    probes = _probes(registry)
    fresh = {A: _texts(planner, probes)}
    gateway = house.gateway(others | {Role.PLANNER: planner})
    part = Part(f"{swaps} full-weight swaps of the planner, {at_once} runs at all times")
    broken = Part("broken full weights, under the same load")
    pauses, took, refused = list[float](), list[float](), list[str]()
    async with load(gateway, at_once) as seen:
        for number in tqdm(range(swaps), desc="full-weight swaps"):
            await asyncio.sleep(pause)
            wanted = release(registry, A if number % 2 else B)
            seconds, problem = await asyncio.to_thread(taken_over, planner, wanted)
            took.append(seconds)
            refused += [problem] if problem else []
            pauses.append(replica(planner).pause_seconds or 0.0)
        await asyncio.to_thread(taken_over, planner, release(registry, A))
        await asyncio.to_thread(refuse, broken, registry, planner, A, OF_FULL_WEIGHTS, probes[0])
    part.add("runs finished during this and the next part", seen.runs)
    part.none("failed requests", seen.failed)
    part.none("good releases refused", refused)
    part.most("no text is written, slowest", max(pauses), 3.0)
    part.add("from the written file to answers, slowest", f"{max(took):.2f} s")
    house.stop("gateway")
    swapped = dict[str, list[str]]()
    for version in (B, A, B):  # nobody else asks now, as with the fresh ones
        taken_over(planner, release(registry, version))
        swapped[version] = _texts(planner, probes)
    other = house.role("planner-fresh", Role.PLANNER, Path(registry.place))
    house.wait("planner-fresh")
    fresh[B] = _texts(other, probes)
    house.stop("planner-fresh")
    alike = sum(swapped[version][n] == fresh[version][n] for version in (A, B) for n in range(len(probes)))
    part.add("texts equal to those of a freshly started service", f"{alike} of {2 * len(probes)}",
             f"{2 * len(probes)}", alike == 2 * len(probes))  # fmt: skip
    differ = sum(a != b for a, b in zip(fresh[A], fresh[B], strict=True))
    part.add("of these, texts on which the two versions differ at all", differ, "at least 1", differ > 0)
    return [part, broken]


def _probes(registry: Registry) -> list[Trajectory]:
    """Questions with tools in another order than the smoke cases have them, so that no cache knows their prompts."""
    known = [case.trajectory for case in cases(registry.open(Role.PLANNER, A))]
    return [
        known[number % len(known)].model_copy(
            update={"query": query, "tools": known[number % len(known)].tools[::-1], "steps": ()}
        )
        for number, query in enumerate(QUERIES)
    ]


def _texts(url: str, probes: list[Trajectory]) -> list[str]:
    return [plan(url, probe)[0] for probe in probes]


def merge_planners(checkpoints: Path, backbone: Path, folder: Path) -> tuple[Path, Path]:
    """The shipped planner as full weights, and the shipped global adapter in the planner's place."""
    from training.merge import merged

    merged(checkpoints / "planner", folder / A, backbone, A)
    merged(checkpoints / "global", folder / B, backbone, B)
    return folder / A, folder / B
