"""The evaluation command: systems compared on the same test tasks through the running stack, and the table of it."""

import asyncio
import json
import signal
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from training.live import Result, memory_gib, rows, running, summary
from training.tasks.task import Kind, Task

SYSTEMS = {
    "three roles": ["--checkpoints", "checkpoints"],
    "single model": ["--single", "checkpoints/global"],
}
"""System to the options of `umi up` that serve it."""
TIMED = 15


def compare(tasks: Sequence[Task], at_once: int, folder: Path, systems: Sequence[str]) -> None:
    """Evaluate every system; write `<system>.json` with each result and `table.md`, and print the table."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that what was started is stopped as well
    folder.mkdir(parents=True, exist_ok=True)
    reports: dict[str, dict[str, Any]] = {}
    for system in systems:
        name = system.replace(" ", "-")
        report, results = asyncio.run(_evaluate(system, tasks, at_once, folder / f"{name}.log"))
        reports[system] = report
        (folder / f"{name}.json").write_text(
            json.dumps({**report, "results": rows(results)}, indent=1, ensure_ascii=False)
        )
    text = table(reports)
    (folder / "table.md").write_text(text + "\n")
    print("\n" + text)


async def _evaluate(system: str, tasks: Sequence[Task], at_once: int, log: Path) -> tuple[dict[str, Any], list[Result]]:
    with running(SYSTEMS[system], log) as (stack, ready_seconds, process):
        results = await stack.ask_all(tasks, at_once, False, system)
        report = summary(results)
        # Time is measured one query at a time, on tasks whose reference makes two calls.
        two = [task for task in tasks if sum(step.call is not None for step in task.trajectory.steps) == 2][:TIMED]
        timed = await stack.ask_all(two, 1, False, f"{system}, one at a time")
        whole = [result.seconds for result in timed if result.calls == 2]
        report["two_call_seconds"] = statistics.median(whole) if whole else None
        everything = await stack.ask_all(_answerable(tasks), at_once, True, f"{system}, all tools registered")
        report["all_tools_success"] = sum(result.passed for result in everything) / len(everything)
        report["ready_seconds"] = ready_seconds
        report["memory_gib"] = memory_gib(process)
    return report, results


def _answerable(tasks: Sequence[Task]) -> list[Task]:
    """Every fourth task that stays what it is when all tools are offered: an unanswerable one may become answerable."""
    return [task for task in tasks if task.kind is not Kind.GIVE_UP or task.intent == "out_of_scope"][::4]


def table(reports: dict[str, dict[str, Any]]) -> str:
    """The comparison as Markdown, a column a system."""

    def share(part: Sequence[int]) -> str:
        return f"{100 * part[0] / part[1]:.0f} % ({part[0]}/{part[1]})"

    def row(title: str, cells: Sequence[str]) -> str:
        return f"| {title} | {' | '.join(cells)} |"

    systems = list(reports.values())
    lines = [row("", list(reports)), row("---", ["---"] * len(systems))]
    lines.append(row("**task success**", [f"**{100 * r['success']:.1f} %** of {r['tasks']}" for r in systems]))
    for kind in Kind:
        if any(kind.value in r["by_kind"] for r in systems):
            lines.append(row(kind.value, [share(r["by_kind"].get(kind.value, [0, 1])) for r in systems]))
    lines += [
        row("success when all 39 tools are registered", [f"{100 * r['all_tools_success']:.1f} %" for r in systems]),
        row("invented tool names", [str(r["invented_tools"]) for r in systems]),
        row("calls that break the tool's schema", [str(r["schema_breaks"]) for r in systems]),
        row("tokens per task (read and written)", [f"{r['mean_tokens']:.0f}" for r in systems]),
        row("median seconds of a two-call query", [f"{r['two_call_seconds'] or float('nan'):.1f}" for r in systems]),
        row("seconds from `umi up` to ready", [f"{r['ready_seconds']:.0f}" for r in systems]),
        row("memory of all processes, GiB", [f"{r['memory_gib']:.1f}" for r in systems]),
    ]
    return "\n".join(lines)
