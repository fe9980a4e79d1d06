"""umi weights: versions in the registry, and which of them the roles serve."""

import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from gateway.cli.api import Failed
from gateway.cli.ask import plain
from gateway.cli.rollout import status, watch
from gateway.cli.shelf import DEFAULT, Folder, change, decided, done, say
from gateway.cli.tallies import use
from umi.errors import BadInput
from umi.registry import Registry
from umi.release import Action, Release, first, promoted, released, rolled_back, shadowed, tried, unshadowed
from umi.roles import Role

app = typer.Typer(no_args_is_help=True, help="Versions of the roles' weights, and which of them are served.")

Name = Annotated[str, typer.Argument(metavar="VERSION", help="As `umi weights list` shows it.")]
Who = Annotated[str, typer.Option(help="Who decides this; kept in the history.")]
Why = Annotated[str, typer.Option(help="Why; kept in the history.")]
Expected = Annotated[
    int | None, typer.Option("--generation", min=0, help="Refuse unless the release is at this generation.")
]
app.command()(status)
app.command()(watch)


@app.command()
def add(
    role: Role,
    directory: Annotated[Path, typer.Argument(help="A checkpoint: manifest.json, prompt template and weights.")],
    at_once: Annotated[bool, typer.Option("--release", help="Serve it to all new runs as well.")] = False,
    registry: Folder = DEFAULT,
) -> None:
    """Copy a checkpoint into the registry. It is served once it is released."""
    version = done(lambda: Registry(registry).add(directory, role)).manifest.version
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
        release = done(lambda role=role: shelf.release(role))
        for version in shelf.versions(role):
            try:
                manifest = shelf.open(role, version).manifest
            except BadInput as error:
                table.add_row(role, version, plain(f"broken: {error}"), "", "")
                continue
            stage, loss = manifest.training.get("stage", ""), manifest.metrics.get("final_loss", "")
            table.add_row(role, version, use(release, version), plain(str(stage)), str(loss))
    Console().print(table if table.row_count else "No versions yet. Add one with: umi weights add ROLE DIRECTORY")


@app.command()
def show(role: Role, registry: Folder = DEFAULT) -> None:
    """A role's release: what is served now, and how it came to be."""
    release = done(lambda: Registry(registry).release(role))
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
    by = decided(Action.RELEASE, who, why)

    def make(before: Release | None) -> Release:
        return first(role, version, by) if before is None else released(before, version, by)

    shelf = Registry(registry)
    say(shelf, done(lambda: shelf.change(role, make, generation)))


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
    by = decided(Action.CANARY, who, why)
    change(registry, role, generation, lambda before: tried(before, version, share, by))


@app.command()
def shadow(
    role: Role,
    version: Annotated[str | None, typer.Argument(help="Version to compare; none ends the comparison.")] = None,
    share: Annotated[float, typer.Option(help="Share of the runs that it follows, up to 1.")] = 0.1,
    who: Who = "",
    why: Why = "",
    generation: Expected = None,
    registry: Folder = DEFAULT,
) -> None:
    """Let a version take turns that nobody waits for, in spare capacity, and count how often it decides alike."""
    if not 0 < share <= 1:
        raise typer.BadParameter("must lie between 0 and 1", param_hint="--share")
    by = decided(Action.SHADOW, who, why)
    if version is None:
        change(registry, role, generation, lambda before: unshadowed(before, by))
    else:
        change(registry, role, generation, lambda before: shadowed(before, version, share, by))


@app.command()
def promote(role: Role, who: Who = "", why: Why = "", generation: Expected = None, registry: Folder = DEFAULT) -> None:
    """The canary becomes stable."""
    by = decided(Action.PROMOTE, who, why)
    change(registry, role, generation, lambda before: promoted(before, by))


@app.command()
def rollback(role: Role, who: Who = "", why: Why = "", generation: Expected = None, registry: Folder = DEFAULT) -> None:
    """End a trial; without one, go back to the stable version before this one."""
    by = decided(Action.ROLLBACK, who, why)
    change(registry, role, generation, lambda before: rolled_back(before, by))
