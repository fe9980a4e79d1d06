"""The results as a table, and what of the goals is met."""

from collections.abc import Sequence

from benchmarks.load.measure import ROLE_CALLS, Point, Result

_HEAD = ("", "server", "runs/s", "p50 ms", "p99 ms", "CPU ms/run", "MiB", "errors")


def show(results: Sequence[Result]) -> None:
    """One line for each point and server."""
    print(f"\n| {' | '.join(_HEAD)} |\n|{' --- |' * len(_HEAD)}")
    for result in sorted(results, key=lambda each: (each.point.milliseconds, each.point.at_once)):
        cells = (
            str(result.point),
            result.server,
            f"{result.runs / result.seconds:.0f}",
            f"{1000 * result.percentile(0.5):.0f}",
            f"{1000 * result.percentile(0.99):.0f}",
            f"{1000 * result.cpu:.2f}",
            f"{result.mebibytes:.0f}",
            str(result.errors),
        )
        print(f"| {' | '.join(cells)} |")


def goals(results: Sequence[Result]) -> dict[str, bool]:
    """Each goal that could be measured, with the figure in its words, and whether it is met."""
    by = {(result.server, result.point): result for result in results}
    found = {"no errors of the gateway": not any(result.errors for result in results if result.server == "gateway")}
    busy = Point(64)
    ours, loop, peer = (by.get((name, busy)) for name in ("gateway", "aiohttp loop", "LangGraph"))
    if ours and loop:
        times = ours.cpu / loop.cpu
        found[f"CPU a run is {times:.1f} times the aiohttp loop's (at most 4)"] = times <= 4
    if ours and peer:
        share = ours.cpu / peer.cpu
        found[f"CPU a run is {share:.2f} of LangGraph's (at most 0.25)"] = share <= 0.25
    for (name, point), result in by.items():
        if name == "gateway" and point.milliseconds:
            times, bare = _over_ideal(result), by.get(("aiohttp loop", point))
            beside = f"; the bare loop's: {_over_ideal(bare):.2f}" if bare else ""
            found[f"the median at {point} is {times:.2f} times the ideal (at most 1.2{beside})"] = times <= 1.2
    return found


def _over_ideal(result: Result) -> float:
    """The median latency over the time that its role calls take by themselves."""
    return 1000 * result.percentile(0.5) / (ROLE_CALLS * result.point.milliseconds)
