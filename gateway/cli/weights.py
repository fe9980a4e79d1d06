"""umi weights: versions in the registry, and which of them the roles serve."""

import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from gateway.cli.ask import plain
from gateway.cli.rollout import Least, Worse, decide, status, watch
from gateway.cli.shelf import DEFAULT, Expected, Place, Who, Why, decided, desk, done, say
from umi.roles import Role

app = typer.Typer(no_args_is_help=True, help="Versions of the roles' weights, and which of them are served.")

Name = Annotated[str, typer.Argument(metavar="VERSION", help="As `umi weights list` shows it.")]
app.command()(status)
app.command()(watch)


@app.command()
def add(
    role: Role,
    directory: Annotated[Path, typer.Argument(help="A checkpoint: manifest.json, prompt template and weights.")],
    at_once: Annotated[bool, typer.Option("--release", help="Serve it to all new runs as well.")] = False,
    registry: Place = DEFAULT,
) -> None:
    """Copy a checkpoint into the registry. It is served once it is released."""
    shelf = desk(registry)
    version = done(lambda: shelf.registry.add(directory, role)).manifest.version
    if at_once:
        say(shelf, lambda shelf: shelf.release(role, version, decided("", "", None)))
    else:
        print(f"{role}: {version} is in the registry. Serve it with: umi weights release {role} {version}")


@app.command(name="list")
def list_versions(registry: Place = DEFAULT) -> None:
    """All versions, and what each of them is used for."""
    table, shelf = Table("role", "version", "used as", "stage", "loss", box=None), desk(registry)
    for role in Role:
        for version in done(lambda role=role: shelf.versions(role)):
            if version.manifest is None:
                table.add_row(role, version.name, plain(f"broken: {version.problem}"), "", "")
                continue
            stage, loss = version.manifest.training.get("stage", ""), version.manifest.metrics.get("final_loss", "")
            table.add_row(role, version.name, version.use, plain(str(stage)), str(loss))
    Console().print(table if table.row_count else "No versions yet. Add one with: umi weights add ROLE DIRECTORY")


@app.command()
def show(role: Role, registry: Place = DEFAULT) -> None:
    """A role's release: what is served now, and how it came to be."""
    release = done(lambda: desk(registry).show(role))
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
    role: Role, version: Name, who: Who = "", why: Why = "", generation: Expected = None, registry: Place = DEFAULT
) -> None:
    """Serve a version to all runs that begin from now on; runs in progress keep theirs."""
    say(desk(registry), lambda shelf: shelf.release(role, version, decided(who, why, generation)))


@app.command()
def canary(
    role: Role,
    version: Name,
    share: Annotated[float, typer.Option(help="Share of the runs that get it, between 0 and 1.")] = 0.05,
    auto: Annotated[bool, typer.Option("--auto", help="Then watch it, until it is promoted or rolled back.")] = False,
    least: Least = 200,
    worse: Worse = 0.03,
    who: Who = "",
    why: Why = "",
    generation: Expected = None,
    registry: Place = DEFAULT,
) -> None:
    """Try a version on a share of the runs."""
    if not 0 < share < 1:
        raise typer.BadParameter("must lie between 0 and 1", param_hint="--share")
    shelf = desk(registry)
    say(shelf, lambda shelf: shelf.canary(role, version, share, decided(who, why, generation)))
    if auto:
        decide(shelf, role, least, worse)


@app.command()
def shadow(
    role: Role,
    version: Annotated[str | None, typer.Argument(help="Version to compare; none ends the comparison.")] = None,
    share: Annotated[float, typer.Option(help="Share of the runs that it follows, up to 1.")] = 0.1,
    who: Who = "",
    why: Why = "",
    generation: Expected = None,
    registry: Place = DEFAULT,
) -> None:
    """Let a version take turns that nobody waits for, in spare capacity, and count how often it decides alike."""
    if not 0 < share <= 1:
        raise typer.BadParameter("must lie between 0 and 1", param_hint="--share")
    say(desk(registry), lambda shelf: shelf.shadow(role, version, share, decided(who, why, generation)))


@app.command()
def promote(role: Role, who: Who = "", why: Why = "", generation: Expected = None, registry: Place = DEFAULT) -> None:
    """The canary becomes stable."""
    say(desk(registry), lambda shelf: shelf.promote(role, decided(who, why, generation)))


@app.command()
def rollback(role: Role, who: Who = "", why: Why = "", generation: Expected = None, registry: Place = DEFAULT) -> None:
    """End a trial; without one, go back to the stable version before this one."""
    say(desk(registry), lambda shelf: shelf.rollback(role, decided(who, why, generation)))
