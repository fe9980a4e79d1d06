"""umi weights status and watch: what replicas really serve, and a canary that is decided on by its counts."""

import time
from typing import Annotated
from urllib.parse import urlsplit

import typer
from rich.console import Console
from rich.table import Table

from gateway.cli import tallies
from gateway.cli.api import Failed
from gateway.cli.ask import plain
from gateway.cli.replicas import Report, reports
from gateway.cli.shelf import DEFAULT, Folder, change, decided, done
from gateway.settings import Settings
from umi.registry import Registry
from umi.release import Action, Release, promoted, rolled_back
from umi.roles import Role
from umi.trial import Rules, Verdict, judge


def status(
    registry: Folder = DEFAULT,
    wait: Annotated[float, typer.Option(min=0, help="Wait so many seconds for all replicas to catch up.")] = 0.0,
) -> None:
    """What every replica of every role serves, and why one is behind. Exits with 1 when one is.

    Replicas are found through the roles' addresses (UMI_PLANNER_URL and so on): every address that the name stands for.
    """
    shelf, settings = Registry(registry), Settings()
    until = time.monotonic() + wait
    while True:
        wanted = {role: done(lambda role=role: shelf.release(role)) for role in Role}
        found = reports(settings.role_urls, settings.shown_to_roles)
        behind = [report for report in found if _behind(report, wanted[report.role])]
        if not behind or time.monotonic() >= until:
            break
        time.sleep(0.2)
    table = Table("role", "replica", "generation", "stable", "canary", "shadow agrees", "state", box=None)
    for report in found:
        state = report.problem or ("behind" if report in behind else "serving")
        row = (report.role, urlsplit(report.url).netloc, str(report.generation or "-"), report.stable, report.canary)
        table.add_row(*row, _agreement(report), plain(state))
    Console().print(table)
    counts = tallies.table(found, wanted)
    if counts.row_count:
        Console().print("", counts, sep="\n")
    raise typer.Exit(1 if behind else 0)


def watch(
    role: Role,
    least: Annotated[int, typer.Option(min=1, help="Turns that both versions take before a promotion.")] = 200,
    worse: Annotated[float, typer.Option(help="How much more often a canary must fail to be called worse.")] = 0.03,
    every: Annotated[float, typer.Option(min=0.1, help="Seconds between two looks.")] = 5.0,
    registry: Folder = DEFAULT,
) -> None:
    """Watch a canary until it is promoted or rolled back: by a sequential test of its failures, by its speed and steps.

    The counts are those of all replicas since they loaded the two versions. Exits with 1 when it was rolled back.
    """
    rules, shelf, settings, said = Rules(least_turns=least, worse=worse), Registry(registry), Settings(), ""
    while True:
        now = done(lambda: shelf.release(role))
        if now is None or now.canary is None:
            raise Failed(f"The {role} has no canary. Begin a trial with: umi weights canary {role} VERSION")
        found = reports({role: settings.role_urls[role]}, settings.shown_to_roles)
        stable, canary = (tallies.tally(found, role, version) for version in (now.stable, now.canary.version))
        verdict, why = judge(stable, canary, rules)
        if why != said:
            print(f"{now.canary.version}: {verdict}: {why}", flush=True)
            said = why
        if verdict is not Verdict.GO_ON:
            break
        time.sleep(every)
    Console().print(tallies.table(found, {role: now}))
    action, step = (Action.PROMOTE, promoted) if verdict is Verdict.PROMOTE else (Action.ROLLBACK, rolled_back)
    by = decided(action, "umi weights watch", why)
    change(registry, role, now.generation, lambda before: step(before, by))
    raise typer.Exit(0 if verdict is Verdict.PROMOTE else 1)


def _behind(report: Report, release: Release | None) -> bool:
    return report.problem is not None or (release is not None and report.generation != release.generation)


def _agreement(report: Report) -> str:
    shadow = report.agreement
    return f"{shadow.version}: {shadow.same} of {shadow.turns}" if shadow else ""
