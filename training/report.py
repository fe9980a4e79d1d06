"""The table of an evaluation, even one in progress: systems side by side, intervals, a test of their difference."""

import json
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from training.live import Result, Setting
from training.statistics import bootstrap
from training.statistics import compare as paired
from training.tasks.task import Kind

ROLES, SINGLE = "three roles", "single model"
"""The systems: each role with its own weights, or one set of weights in all three."""


def file_of(folder: Path, system: str) -> Path:
    """Where a system's results lie, one a line; facts of its stack lie beside them in a file that ends in .json."""
    return folder / f"{system.replace(' ', '-')}.jsonl"


def read(file: Path) -> list[Result]:
    """The results that are there; none without a file."""
    if not file.exists():
        return []
    return [Result.model_validate_json(line) for line in file.read_text("utf-8").splitlines()]


def table(folder: Path) -> str:
    """The comparison as Markdown, a column for every system that has results in `folder`."""
    columns: dict[str, list[Result]] = {system: read(file_of(folder, system)) for system in (ROLES, SINGLE)}
    columns = {system: results for system, results in columns.items() if results}
    if not columns:
        return f"no results in {folder} yet"
    facts: dict[str, dict[str, float]] = {}
    for system in columns:
        file = file_of(folder, system).with_suffix(".json")
        facts[system] = json.loads(file.read_text("utf-8")) if file.exists() else {}

    def row(title: str, cell: Callable[[list[Result]], Any], setting: Setting = Setting.OFFERED) -> str:
        cells = [[result for result in results if result.setting is setting] for results in columns.values()]
        return _row(title, [str(cell(results)) if results else "" for results in cells])

    def fact(title: str, name: str, form: str) -> str:
        return _row(title, [form.format(facts[system][name]) if facts[system] else "" for system in columns])

    lines = [
        _row("", list(columns)),
        _row("---", ["---"] * len(columns)),
        row("**task success**", _share),
        row("95 % interval", _interval),
    ]
    for kind in Kind:
        lines.append(row(kind.value, lambda results, kind=kind: _share([r for r in results if r.kind == kind])))
    lines += [
        row("with all tools registered (every fourth task)", _share, Setting.ALL_TOOLS),
        row("calls made", lambda results: sum(result.calls for result in results)),
        row("invented tool names", lambda results: sum(result.invented_tools for result in results)),
        row("calls that break the tool's schema", lambda results: sum(result.schema_breaks for result in results)),
        row("tokens per task (read and written)", lambda results: round(statistics.mean(r.tokens for r in results))),
        row("median seconds of a two-call query, asked alone", _two_call_seconds, Setting.ALONE),
        fact("needed tools among the ten offered of all", "retrieval_recall", "{:.1%}"),
        fact("seconds from `umi up` to ready", "ready_seconds", "{:.0f}"),
        fact("memory of all processes, GiB", "memory_gib", "{:.1f}"),
    ]
    return "\n".join([*lines, *_difference(columns)])


def _row(title: str, cells: Sequence[str]) -> str:
    return f"| {title} | {' | '.join(cells)} |"


def _share(results: Sequence[Result]) -> str:
    passed = sum(result.passed for result in results)
    return f"{100 * passed / len(results):.1f} % ({passed}/{len(results)})" if results else ""


def _interval(results: Sequence[Result]) -> str:
    interval = bootstrap(_successes(results), seed=7)
    return f"{100 * interval.low:.0f} to {100 * interval.high:.0f} %"


def _difference(columns: dict[str, list[Result]]) -> list[str]:
    """A line on the two systems' difference over the tasks that both have done."""
    if len(columns) < 2:
        return []
    roles, single = (_successes(columns[system]) for system in (ROLES, SINGLE))
    both = sorted(roles.keys() & single.keys())
    if not both:
        return []
    gap = paired({task: single[task] for task in both}, {task: roles[task] for task in both}, seed=7)
    low, value, high = (100 * share for share in (gap.difference.low, gap.difference.value, gap.difference.high))
    text = f"{ROLES} minus {SINGLE}: {value:+.1f} points (95 % interval {low:+.1f} to {high:+.1f}"
    return ["", f"{text}; paired permutation test over {len(both)} tasks, p = {gap.p_value:.3f})"]


def _successes(results: Sequence[Result]) -> dict[str, list[float]]:
    return {result.id: [float(result.passed)] for result in results if result.setting is Setting.OFFERED}


def _two_call_seconds(results: Sequence[Result]) -> str:
    seconds = [result.seconds for result in results if result.calls == 2]
    return f"{statistics.median(seconds):.1f} ({len(seconds)} queries)" if seconds else ""
