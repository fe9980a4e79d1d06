"""umi weights: versions in the registry, and which of them the roles serve."""

import getpass
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, TypeVar
from urllib.parse import urlsplit

import typer
from rich.console import Console
from rich.table import Table

from gateway.cli.api import Failed
from gateway.cli.ask import plain
from gateway.cli.replicas import Report, reports
from gateway.settings import Settings
from umi.errors import BadInput
from umi.registry import Registry
from umi.release import Action, Change, Release, first, promoted, released, rolled_back, tried
from umi.roles import Role
from umi.trial import Rules, Tally, Verdict, judge

app = typer.Typer(no_args_is_help=True, help="Versions of the roles' weights, and which of them are served.")

Folder = Annotated[Path, typer.Option("--registry", envvar="UMI_REGISTRY", help="Directory of the registry.")]
Name = Annotated[str, typer.Argument(metavar="VERSION", help="As `umi weights list` shows it.")]
Who = Annotated[str, typer.Option(help="Who decides this; kept in the history.")]
Why = Annotated[str, typer.Option(help="Why; kept in the history.")]
Expected = Annotated[
    int | None, typer.Option("--generation", min=0, help="Refuse unless the release is at this generation.")
]
DEFAULT = Path("var/registry")
T = TypeVar("T")


@app.command()
def add(
    role: Role,
    directory: Annotated[Path, typer.Argument(help="A checkpoint: manifest.json, prompt template and weights.")],
    at_once: Annotated[bool, typer.Option("--release", help="Serve it to all new runs as well.")] = False,
    registry: Folder = DEFAULT,
) -> None:
    """Copy a checkpoint into the registry. It is served once it is released."""
    version = _done(lambda: Registry(registry).add(directory, role)).manifest.version
    if at_once:
        release(role, version, registry=registry)
    else:
        print(f"{role}: {version} is in the registry. Serve it with: umi weights release {role} {version}")


@app.command(name="list")
def list_versions(registry: Folder = DEFAULT) -> None:
    """All versions, and what each of them is used for."""
    table = Table("role", "version", "used as", "stage", "loss", box=None)
    shelf = Registry(registry)
    for role in Role:
        release = _done(lambda role=role: shelf.release(role))
        for version in shelf.versions(role):
            try:
                manifest = shelf.open(role, version).manifest
            except BadInput as error:
                table.add_row(role, version, plain(f"broken: {error}"), "", "")
                continue
            stage, loss = manifest.training.get("stage", ""), manifest.metrics.get("final_loss", "")
            table.add_row(role, version, _use(release, version), plain(str(stage)), str(loss))
    Console().print(table if table.row_count else "No versions yet. Add one with: umi weights add ROLE DIRECTORY")


@app.command()
def show(role: Role, registry: Folder = DEFAULT) -> None:
    """A role's release: what is served now, and how it came to be."""
    release = _done(lambda: Registry(registry).release(role))
    if release is None:
        raise Failed(f"The {role} has no release yet. Make one with: umi weights release {role} VERSION")
    table = Table("generation", "when", "action", "stable", "canary", "who", "why", box=None)
    for state in (*release.history, release):
        when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(state.at))
        canary = f"{state.canary.version} ({state.canary.share:.0%})" if state.canary else ""
        table.add_row(
            str(state.generation), when, state.action, state.stable, canary, plain(state.who), plain(state.why)
        )
    Console().print(table)


@app.command()
def release(
    role: Role, version: Name, who: Who = "", why: Why = "", generation: Expected = None, registry: Folder = DEFAULT
) -> None:
    """Serve a version to all runs that begin from now on; runs in progress keep theirs."""
    by = _by(Action.RELEASE, who, why)

    def make(before: Release | None) -> Release:
        return first(role, version, by) if before is None else released(before, version, by)

    _say(_done(lambda: Registry(registry).change(role, make, generation)))


@app.command()
def canary(
    role: Role,
    version: Name,
    share: Annotated[float, typer.Option(help="Share of the runs that get it, between 0 and 1.")] = 0.05,
    who: Who = "",
    why: Why = "",
    generation: Expected = None,
    registry: Folder = DEFAULT,
) -> None:
    """Try a version on a share of the runs."""
    if not 0 < share < 1:
        raise typer.BadParameter("must lie between 0 and 1", param_hint="--share")
    by = _by(Action.CANARY, who, why)
    _change(registry, role, generation, lambda before: tried(before, version, share, by))


@app.command()
def watch(
    role: Role,
    least: Annotated[int, typer.Option(min=1, help="Turns that both versions take before a promotion.")] = 200,
    worse: Annotated[float, typer.Option(help="How much more often a canary must fail to be called worse.")] = 0.03,
    every: Annotated[float, typer.Option(min=0.1, help="Seconds between two looks.")] = 5.0,
    registry: Folder = DEFAULT,
) -> None:
    """Watch a canary until it is promoted or rolled back, by a sequential test of its failures and its speed.

    The counts are those of all replicas since they loaded the two versions. Exits with 1 when it was rolled back.
    """
    rules, shelf, said = Rules(least_turns=least, worse=worse), Registry(registry), ""
    while True:
        now = _done(lambda: shelf.release(role))
        if now is None or now.canary is None:
            raise Failed(f"The {role} has no canary. Begin a trial with: umi weights canary {role} VERSION")
        found = reports({role: Settings().role_urls[role]})
        verdict, why = judge(_tally(found, now.stable), _tally(found, now.canary.version), rules)
        if why != said:
            print(f"{now.canary.version}: {verdict}: {why}", flush=True)
            said = why
        if verdict is Verdict.GO_ON:
            time.sleep(every)
            continue
        action, step = (Action.PROMOTE, promoted) if verdict is Verdict.PROMOTE else (Action.ROLLBACK, rolled_back)
        by = _by(action, "umi weights watch", why)
        _change(registry, role, now.generation, lambda before: step(before, by))
        raise typer.Exit(0 if verdict is Verdict.PROMOTE else 1)


def _tally(found: list[Report], version: str) -> Tally:
    total = Tally()
    for report in found:
        total = total.plus(report.tallies.get(version, Tally()))
    return total


@app.command()
def promote(role: Role, who: Who = "", why: Why = "", generation: Expected = None, registry: Folder = DEFAULT) -> None:
    """The canary becomes stable."""
    by = _by(Action.PROMOTE, who, why)
    _change(registry, role, generation, lambda before: promoted(before, by))


@app.command()
def rollback(role: Role, who: Who = "", why: Why = "", generation: Expected = None, registry: Folder = DEFAULT) -> None:
    """End a trial; without one, go back to the stable version before this one."""
    by = _by(Action.ROLLBACK, who, why)
    _change(registry, role, generation, lambda before: rolled_back(before, by))


@app.command()
def status(
    registry: Folder = DEFAULT,
    wait: Annotated[float, typer.Option(min=0, help="Wait so many seconds for all replicas to catch up.")] = 0.0,
) -> None:
    """What every replica of every role serves, and why one is behind. Exits with 1 when one is.

    Replicas are found through the roles' addresses (UMI_PLANNER_URL and so on): every address that the name stands for.
    """
    shelf = Registry(registry)
    until = time.monotonic() + wait
    while True:
        wanted = {role: _done(lambda role=role: shelf.release(role)) for role in Role}
        found = reports(Settings().role_urls)
        behind = [report for report in found if _behind(report, wanted[report.role])]
        if not behind or time.monotonic() >= until:
            break
        time.sleep(0.2)
    table = Table("role", "replica", "generation", "stable", "canary", "state", box=None)
    for report in found:
        state = report.problem or ("behind" if report in behind else "serving")
        address = urlsplit(report.url).netloc
        table.add_row(report.role, address, str(report.generation or "-"), report.stable, report.canary, plain(state))
    Console().print(table)
    raise typer.Exit(1 if behind else 0)


def _behind(report: Report, release: Release | None) -> bool:
    return report.problem is not None or (release is not None and report.generation != release.generation)


def _change(registry: Path, role: Role, generation: int | None, make: Callable[[Release], Release]) -> None:
    def from_release(before: Release | None) -> Release:
        if before is None:
            raise BadInput(f"the {role} has no release yet; make one with: umi weights release {role} VERSION", "role")
        return make(before)

    _say(_done(lambda: Registry(registry).change(role, from_release, generation)))


def _say(release: Release) -> None:
    trial = f", {release.canary.version} on {release.canary.share:.0%} of the runs" if release.canary else ""
    print(f"{release.role}: generation {release.generation} serves {release.stable}{trial}")


def _use(release: Release | None, version: str) -> str:
    if release is None:
        return ""
    if version == release.stable:
        return "stable"
    return f"canary ({release.canary.share:.0%})" if release.canary and release.canary.version == version else ""


def _by(action: Action, who: str, why: str) -> Change:
    return Change(action=action, who=who or getpass.getuser(), why=why)


def _done(work: Callable[[], T]) -> T:
    try:
        return work()
    except BadInput as error:
        raise Failed(str(error)) from error
    except OSError as error:
        raise Failed(f"{error.filename}: {error.strerror}") from error
