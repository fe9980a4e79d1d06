"""Swapping weights under load, on real role services: what fails, what runs see, how long it takes.

Starts everything itself, on ports 8000 and 8100 to 8106, and prints a table; exits with 1 when something is not as
wanted. Takes about a quarter of an hour on two cores.
"""

import asyncio
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer

from benchmarks.swap.adapters import adapters
from benchmarks.swap.full import A, B, full_weights, merge_planners
from benchmarks.swap.house import ROLE_PORT, House
from benchmarks.swap.kills import kills
from benchmarks.swap.table import Part, text
from benchmarks.swap.versions import fill, release
from umi.registry import Registry
from umi.roles import Role
from umi.smoke import cases


def main(
    adapter_swaps: Annotated[int, typer.Option(min=1, help="Releases of planner adapters.")] = 50,
    full_swaps: Annotated[int, typer.Option(min=1, help="Releases of full planner weights.")] = 10,
    kill: Annotated[int, typer.Option(min=0, help="Replicas killed in the middle of a swap.")] = 20,
    at_once: Annotated[int, typer.Option(min=1, help="Runs that are kept going.")] = 8,
    pause: Annotated[float, typer.Option(min=0, help="Seconds between two releases.")] = 2.0,
    checkpoints: Annotated[Path, typer.Option(help="A checkpoint per role.")] = Path("checkpoints"),
    backbone: Annotated[Path, typer.Option(help="The backbone.")] = Path("var/backbone"),
) -> None:
    """Swap the planner's weights in every way that is promised, and print what happened."""
    started, parts = time.monotonic(), list[Part]()
    Path("var").mkdir(exist_ok=True)
    with TemporaryDirectory(prefix="bench-swap-", dir="var") as temporary:
        folder = Path(temporary)
        of_adapters, of_full = Registry(folder / "adapters"), Registry(folder / "full")
        fill(of_adapters, checkpoints)
        for directory in merge_planners(checkpoints, backbone, folder):
            of_full.add(directory, Role.PLANNER)
        release(of_full, A)
        with House(Path(of_adapters.place), backbone, folder, Path("var/logs")) as house:
            urls = {role: f"http://127.0.0.1:{ROLE_PORT + number}" for number, role in enumerate(Role)}
            source = checkpoints / Role.PLANNER
            parts += asyncio.run(adapters(house, of_adapters, source, folder, adapter_swaps, at_once, pause))
            parts += asyncio.run(full_weights(house, of_full, urls, full_swaps, at_once, 2 * pause))
            house.stop(Role.CALLER, Role.SUMMARIZER, "tools")
            house.start(Role.PLANNER)
            victims = {
                "planner": (of_adapters, urls[Role.PLANNER], ("swap-0", "swap-1")),
                "planner-full": (of_full, f"http://127.0.0.1:{ROLE_PORT + 4}", (A, B)),
            }
            probe = cases(of_full.open(Role.PLANNER, A))[0].trajectory
            parts.append(kills(house, victims, kill, probe))
    print(f"\n{text(parts)}\n{(time.monotonic() - started) / 60:.0f} minutes")
    raise typer.Exit(0 if all(part.is_met for part in parts) else 1)


if __name__ == "__main__":
    typer.run(main)
