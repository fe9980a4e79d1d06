"""kill -9 in the middle of a swap: what a replica serves when it is started again."""

import random
import time

from tqdm import tqdm

from benchmarks.swap.house import House, plan, replica
from benchmarks.swap.table import Part
from benchmarks.swap.versions import release
from umi.registry import Registry
from umi.roles import Role
from umi.trajectory import Trajectory

_SWAP_SECONDS = {"planner": 1.5, "planner-full": 6.0}
"""How long after the release a kill may come: about what a swap takes."""


def kills(
    house: House, victims: dict[str, tuple[Registry, str, tuple[str, str]]], count: int, probe: Trajectory
) -> Part:
    """Kill replicas at random moments of swaps and start them again, all victims at the same time."""
    part, rng = Part("kill -9 at random moments of a swap, without load"), random.Random(4)
    wrong, moments = list[str](), list[float]()
    house.wait(*victims)
    for number in tqdm(range(-(-count // len(victims))), desc="kills"):
        for name, (registry, _, versions) in victims.items():
            release(registry, versions[number % 2])
            moments.append(rng.uniform(0, _SWAP_SECONDS[name]))
            time.sleep(moments[-1])
            house.kill(name)
        for name in victims:
            house.start(name)
        house.wait(*victims)
        for name, (registry, url, _) in victims.items():
            wanted, found = registry.release(Role.PLANNER), replica(url)
            assert wanted is not None
            _, answers = plan(url, probe)
            if not found.stable == answers == wanted.stable or found.problem:
                serves = f"{found.stable} ({found.problem}), {answers} answers"
                wrong.append(f"{name}: released {wanted.stable}, serves {serves}")
    part.add("kills", len(moments))
    part.none("restarts that did not serve what the release file names", wrong)
    return part
