"""Every query of the dashboards, asked of a real Prometheus that watched a real agent at work, and drawn.

Needs Debian's `prometheus`. Starts everything itself, on ports 8000, 8100 to 8103 and 9090: roles on vLLM, a canary of
the planner and a shadow of the caller. Prints what each panel had to show; exits with 1 when Prometheus refuses a
query, or a panel that must have something to show has nothing.
"""

import asyncio
import itertools
import json
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import httpx
import typer
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.swap.house import House
from benchmarks.swap.load import QUERIES, load
from benchmarks.swap.versions import fill
from umi.client import AsyncClient
from umi.registry import Registry
from umi.release import Action, Change, Release, shadowed, tried
from umi.roles import Role
from umi.trajectory import JsonObject

_PROMETHEUS = "http://127.0.0.1:9090"
_MAY_BE_EMPTY = {
    "A role's requests that were not answered, a minute": "every request was answered",
    "Pause of the newest swap of full weights": "adapters were served",
    "Texts sampled again, a minute": "no text broke the grammar",
}
_WINDOW, _EVERY = "1m", 5
"""What Grafana puts for $__rate_interval at most, and the seconds between two looks of Prometheus."""
_COLUMNS = 24
Panel = JsonObject
Series = tuple[str, list[tuple[float, float]]]
"""Its legend, and seconds since the epoch with values."""


def main(
    minutes: Annotated[float, typer.Option(min=1, help="For which the agent is at work.")] = 5.0,
    at_once: Annotated[int, typer.Option(min=1, help="Runs at all times.")] = 4,
    dashboards: Annotated[Path, typer.Option(help="Grafana's JSON files.")] = Path("deploy/grafana"),
    pictures: Annotated[Path, typer.Option(help="Where the pictures go.")] = Path("docs"),
    checkpoints: Annotated[Path, typer.Option(help="A checkpoint per role, and `global`.")] = Path("checkpoints"),
    backbone: Annotated[Path, typer.Option(help="The backbone.")] = Path("var/backbone"),
) -> None:
    """Let the agent work, ask, print and draw."""
    if shutil.which("prometheus") is None:
        sys.exit("dashboards: there is no prometheus; apt-get install prometheus")
    Path("var").mkdir(exist_ok=True)
    missing = False
    with TemporaryDirectory(prefix="dashboards-", dir="var") as temporary:
        folder = Path(temporary)
        registry = _registry(folder / "registry", checkpoints)
        with House(Path(registry.place), backbone, folder, Path("var/logs")) as house:
            house.tools()
            roles = {role: house.role(role, role) for role in Role}
            house.wait(*roles)
            gateway = house.gateway(roles)
            with _prometheus(folder, gateway, list(roles.values())):
                began = time.time()
                asyncio.run(_work(gateway, at_once, 60 * minutes))
                for file in sorted(dashboards.glob("*.json")):
                    dashboard = json.loads(file.read_text())
                    found = {panel["id"]: _ask(panel, began, time.time()) for panel in dashboard["panels"]}
                    missing |= _print(dashboard, found)
                    picture = pictures / f"dashboard-{file.stem}.png"
                    _draw(dashboard, found, began).savefig(picture, dpi=80, bbox_inches="tight")
                    print(f"drawn in {picture}\n")
    raise typer.Exit(1 if missing else 0)


def _registry(folder: Path, checkpoints: Path) -> Registry:
    """Every role's own weights released; the global stage's as the planner's canary and the caller's shadow."""
    registry = Registry(folder)
    fill(registry, checkpoints)
    _try(registry, Role.PLANNER, checkpoints / "global", tried, 0.4, Action.CANARY)
    _try(registry, Role.CALLER, checkpoints / "global", shadowed, 0.9, Action.SHADOW)
    return registry


def _try(
    registry: Registry,
    role: Role,
    checkpoint: Path,
    trial: Callable[[Release, str, float, Change], Release],
    share: float,
    action: Action,
) -> None:
    version = registry.add(checkpoint, role).manifest.version

    def make(before: Release | None) -> Release:
        assert before is not None
        return trial(before, version, share, Change(action=action, who="benchmarks.dashboards"))

    registry.change(role, make)


async def _work(gateway: str, at_once: int, seconds: float) -> None:
    reading = asyncio.create_task(_read_along(gateway))
    async with load(gateway, at_once) as seen:
        await asyncio.sleep(seconds)
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
    print(f"{seen.runs} runs, {len(seen.failed)} failed")


async def _read_along(gateway: str) -> None:
    """One more client, which reads texts while they are written."""
    async with AsyncClient(gateway, timeout=600) as client:
        for query in itertools.cycle(QUERIES):
            async for _ in client.queries.stream(query, deadline_seconds=600):
                pass


@contextmanager
def _prometheus(folder: Path, gateway: str, roles: list[str]) -> Generator[None]:
    """Watches the gateway and the roles under the jobs that deploy/observability/prometheus.yml gives them."""
    jobs = {"gateway": [gateway], "roles": roles}
    config = {
        "global": {"scrape_interval": f"{_EVERY}s", "scrape_timeout": "4s"},
        "scrape_configs": [
            {"job_name": job, "static_configs": [{"targets": [url.removeprefix("http://") for url in urls]}]}
            for job, urls in jobs.items()
        ],
    }
    (folder / "prometheus.yml").write_text(json.dumps(config))  # JSON is YAML
    command = ["prometheus", f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/tsdb"]
    address = _PROMETHEUS.removeprefix("http://")
    with (folder / "prometheus.log").open("wb") as log:
        process = subprocess.Popen([*command, f"--web.listen-address={address}"], stdout=log, stderr=log)
    try:
        yield
    finally:
        process.terminate()
        process.wait(30)


def _ask(panel: Panel, began: float, ended: float) -> list[Series]:
    """The series of a panel. Exits when Prometheus refuses a query."""
    found: list[Series] = []
    for target in panel["targets"]:
        query = target["expr"].replace("$__rate_interval", _WINDOW)
        asked = {"query": query, "start": str(began), "end": str(ended), "step": str(_EVERY)}
        reply = httpx.post(f"{_PROMETHEUS}/api/v1/query_range", data=asked, trust_env=False).json()
        if reply["status"] != "success":
            sys.exit(f"dashboards: {panel['title']}: {reply['error']}\n{query}")
        for series in reply["data"]["result"]:
            points = [(float(at), float(value)) for at, value in series["values"] if value != "NaN"]
            if points:
                found.append((_legend(target.get("legendFormat") or "", series["metric"]), points))
    return found


def _legend(template: str, labels: dict[str, str]) -> str:
    """Grafana's legend of a series; a table's row is all of its labels."""
    if not template:
        return "  ".join(value for name, value in labels.items() if not name.startswith("__"))
    return re.sub(r"\{\{(\w+)\}\}", lambda match: labels.get(match[1], ""), template)


def _print(dashboard: JsonObject, found: dict[int, list[Series]]) -> bool:
    """The table; whether a panel has nothing to show that should."""
    print(f"| {dashboard['title']} | series | newest values |\n| --- | --- | --- |")
    missing = False
    for panel in dashboard["panels"]:
        series = found[panel["id"]]
        newest = ", ".join(f"{name} {points[-1][1]:.3g}".strip() for name, points in series[:4])
        if not series:
            newest = _MAY_BE_EMPTY.get(panel["title"], "MISSING")
            missing |= newest == "MISSING"
        print(f"| {panel['title']} | {len(series)} | {newest} |")
    return missing


def _draw(dashboard: JsonObject, found: dict[int, list[Series]], began: float) -> Figure:
    """The panels where Grafana has them."""
    rows = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in dashboard["panels"])
    figure = Figure(figsize=(18, rows * 0.45))
    figure.suptitle(dashboard["title"], y=0.92)
    grid = figure.add_gridspec(rows, _COLUMNS, hspace=3, wspace=3)
    for panel in dashboard["panels"]:
        at, series = panel["gridPos"], found[panel["id"]]
        top, left = at["y"], at["x"]
        axes = figure.add_subplot(grid[top : top + at["h"] - 1, left : left + at["w"] - 1])
        axes.set_title(panel["title"], fontsize=9)
        unit = panel.get("fieldConfig", {}).get("defaults", {}).get("unit", "short")
        if panel["type"] == "timeseries":
            _lines(axes, series, unit, began)
        else:
            axes.axis("off")
            is_stat = panel["type"] == "stat"
            shown = [f"{name}  {_value(points[-1][1], unit)}" if is_stat else name for name, points in series]
            axes.text(0, 0.5, "\n".join(shown) or "–", va="center", fontsize=14 if is_stat else 8)
    return figure


def _lines(axes: Axes, series: list[Series], unit: str, began: float) -> None:
    scale = 100 if unit == "percentunit" else 1
    moved = [(name, points) for name, points in series if any(value for _, value in points)]
    for name, points in moved:
        axes.plot([(at - began) / 60 for at, _ in points], [value * scale for _, value in points], label=name)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("minutes", fontsize=7)
    axes.set_ylabel({"percentunit": "%", "s": "s"}.get(unit, ""), fontsize=7)
    axes.tick_params(labelsize=7)
    if moved:
        axes.legend(fontsize=6, loc="upper left")
    else:
        said = "0 all the time" if series else "nothing to show"
        axes.text(0.5, 0.5, said, ha="center", transform=axes.transAxes, fontsize=8)


def _value(value: float, unit: str) -> str:
    match unit:
        case "percentunit":
            return f"{100 * value:.0f} %"
        case "s":
            return f"{value:.2f} s"
        case _:
            return f"{value:.3g}"


if __name__ == "__main__":
    typer.run(main)
