"""Whether the gateway's memory stays flat over many runs."""

from benchmarks.load.measure import Point, measure
from benchmarks.load.servers import Server

PARTS, SETTLED = 10, 2
MOST_GROWTH = 1.1


async def watch(gateway: Server, backend: Server, runs: int) -> list[float]:
    """MiB after each tenth of `runs`, at 64 at once. Raises RuntimeError when one of them failed."""
    sizes: list[float] = []
    for _ in range(PARTS):
        result = await measure(gateway, backend, Point(64), runs // PARTS)
        if result.errors:
            raise RuntimeError(f"{result.errors} runs failed")
        sizes.append(result.mebibytes)
        print(f"{len(sizes) * runs // PARTS} runs: {result.mebibytes:.0f} MiB", flush=True)
    return sizes


def is_flat(sizes: list[float]) -> bool:
    """Whether the end is no more than a tenth above what there was once caches and pools were filled."""
    return sizes[-1] <= MOST_GROWTH * sizes[SETTLED - 1]
