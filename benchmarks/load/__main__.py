"""Load: runs of six role calls and two tool calls, 1 to 512 at once, on the gateway and on what it is compared with.

The server that is measured has a core to itself, everything else has the others. All are measured in turns, some
seconds each, so that a machine that is faster or slower for a while is so for all. Exits with 1 when a goal is missed.
CPU a run can be compared on a busy machine, times cannot: they need two idle cores.
"""

import resource
import tempfile
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Annotated

import typer
import uvloop

from benchmarks.load import memory, servers, streams, table
from benchmarks.load.measure import Point, Result, combined, measure
from benchmarks.load.servers import Server

AT_ONCE = (1, 16, 64, 512)
ROUNDS, FEW = 3, 64
"""How often each server has its turn at a point; one with more at once than a few takes a minute and has one."""
WARMING = 3.0
"""Seconds before each turn that do not count: the askers begin together, and drift apart."""


def main(
    seconds: Annotated[float, typer.Option(min=0.1, help="How long each turn is measured.")] = 6.0,
    at: Annotated[list[int] | None, typer.Option(help="Only with so many at once; may be repeated.")] = None,
    open_streams: Annotated[int, typer.Option("--streams", min=0, help="Event streams open at once; 0: none.")] = 2000,
    memory_runs: Annotated[int, typer.Option("--memory", min=0, help="Also watch memory over so many runs.")] = 0,
    role_ms: Annotated[
        int,
        typer.Option(min=1, help="How late roles answer 64 at once; on slow cores, as much more as they are slower."),
    ] = 50,
    peers: Annotated[bool, typer.Option(help="Measure the two loops and LangGraph as well.")] = True,
    environment: Annotated[Path, typer.Option(help="Where LangGraph is installed, apart from everything else.")] = Path(
        tempfile.gettempdir()
    )
    / "umi-load-langgraph",
) -> None:
    """Measure, and print it."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    logs = Path("var/logs")
    logs.mkdir(parents=True, exist_ok=True)
    log = logs / "load.log"
    points = [point for point in (*map(Point, AT_ONCE), Point(64, role_ms)) if not at or point.at_once in at]
    results: list[Result] = []
    met: dict[str, bool] = {}
    with ExitStack() as stack:
        measured, others = servers.cores()
        stack.enter_context(servers.on(others))
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="umi-load-")))
        backend = stack.enter_context(servers.scripted_backend(log))
        contexts = _servers(backend, folder, log, environment if peers else None)
        with servers.on(measured):
            running = [stack.enter_context(context) for context in contexts]
        for point in points:
            turns = [
                [uvloop.run(measure(server, backend, point, seconds=seconds, warming=WARMING)) for server in running]
                for _ in range(ROUNDS if point.at_once <= FEW else 1)
            ]
            results += map(combined, zip(*turns, strict=True))
            table.show(results[-len(running) :])
        met |= _gateway_alone(running[0], backend, open_streams, memory_runs)
    table.show(results)
    met = table.goals(results) | met
    print()
    for goal, is_met in met.items():
        print(f"{'met   ' if is_met else 'MISSED'} {goal}")
    raise typer.Exit(0 if all(met.values()) else 1)


def _servers(
    backend: Server, folder: Path, log: Path, environment: Path | None
) -> list[AbstractContextManager[Server]]:
    """The gateway first, and what it is compared with if there is an `environment` for that."""
    found = [servers.gateway(backend.url, folder, log)]
    if environment is not None:
        found += [servers.loop(client, backend.url, log) for client in ("aiohttp", "httpx")]
        if python := servers.langgraph_python(environment):
            found.append(servers.langgraph(python, backend.url, folder, log))
    return found


def _gateway_alone(gateway: Server, backend: Server, open_streams: int, memory_runs: int) -> dict[str, bool]:
    met: dict[str, bool] = {}
    if open_streams:
        seen = uvloop.run(streams.watch(gateway, backend, open_streams))
        told = f"{seen.whole} of {seen.count} streams, all {seen.open} open at once, got all of their events"
        met[f"{told} ({1000 * seen.cpu:.1f} ms of CPU each, {seen.mebibytes:.0f} MiB)"] = seen.whole == seen.count
    if memory_runs:
        sizes = uvloop.run(memory.watch(gateway, backend, memory_runs))
        told = f"{sizes[memory.SETTLED - 1]:.0f} MiB after a fifth of {memory_runs} runs, {sizes[-1]:.0f} at the end"
        met[told] = memory.is_flat(sizes)
    return met


if __name__ == "__main__":
    typer.run(main)
