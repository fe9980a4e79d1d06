"""umi weights status and watch: what replicas really serve, and a canary that is decided on by its counts."""

import asyncio
import time
from collections.abc import Iterable
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from gateway.cli.api import Failed
from gateway.cli.ask import plain
from gateway.cli.shelf import DEFAULT, Place, decided, desk, done, say
from gateway.settings import Settings
from gateway.weights.desk import Desk
from gateway.weights.status import Compared, Count, Status, tally
from gateway.weights.status import status as ask
from umi.roles import Role
from umi.trial import Rules, Verdict, judge

Least = Annotated[int, typer.Option(min=1, help="Turns that both versions take before a promotion.")]
Worse = Annotated[float, typer.Option(min=0.001, max=0.999, help="How much more often it fails to be called worse.")]
Every = Annotated[float, typer.Option(min=0.1, help="Seconds between two looks.")]


def status(
    registry: Place = DEFAULT,
    wait: Annotated[float, typer.Option(min=0, help="Wait so many seconds for all replicas to catch up.")] = 0.0,
) -> None:
    """What every replica of every role serves, and why one is behind. Exits with 1 when one is.

    Replicas are found through the roles' addresses (UMI_PLANNER_URL and so on): every address that the name stands for.
    """
    shelf, until = desk(registry), time.monotonic() + wait
    while not (found := _ask(shelf)).converged and time.monotonic() < until:
        time.sleep(0.2)
    table = Table("role", "replica", "generation", "stable", "canary", "shadow agrees", "state", box=None)
    for replica in found.replicas:
        state = replica.problem or ("behind" if replica.behind else "serving")
        stable, canary = (replica.serves.stable, replica.serves.canary) if replica.serves else (None, None)
        row = (replica.role, replica.address, str(replica.generation or "-"), stable or "", canary or "")
        table.add_row(*row, _agreement(replica), plain(state))
    Console().print(table)
    if found.counts:
        Console().print("", _table(found.counts), sep="\n")
    raise typer.Exit(0 if found.converged else 1)


def watch(role: Role, least: Least = 200, worse: Worse = 0.03, every: Every = 5.0, registry: Place = DEFAULT) -> None:
    """Watch a canary until it is promoted or rolled back: by a sequential test of its failures, by its speed and steps.

    The counts are those of all replicas since they loaded the two versions. Exits with 1 when it was rolled back.
    """
    decide(desk(registry), role, least, worse, every)


def decide(shelf: Desk, role: Role, least: int, worse: float, every: float = 5.0) -> None:
    """Watch, change the release, write the reason into its history, and exit: with 1 when it was rolled back."""
    rules, said = Rules(least_turns=least, worse=worse), ""
    while True:
        now = done(lambda: shelf.show(role))
        if now.canary is None:
            raise Failed(f"The {role} has no canary. Begin a trial with: umi weights canary {role} VERSION")
        found = _ask(shelf, [role])
        stable, canary = (tally(found.replicas, role, version) for version in (now.stable, now.canary.version))
        verdict, why = judge(stable, canary, rules)
        if why != said:
            print(f"{now.canary.version}: {verdict}: {why}", flush=True)
            said = why
        if verdict is not Verdict.GO_ON:
            break
        time.sleep(every)
    Console().print(_table(found.counts))
    by, is_good = decided("umi weights watch", why, now.generation), verdict is Verdict.PROMOTE
    say(shelf, lambda shelf: shelf.promote(role, by) if is_good else shelf.rollback(role, by))
    raise typer.Exit(0 if is_good else 1)


def _ask(shelf: Desk, roles: Iterable[Role] = Role) -> Status:
    settings = Settings()
    urls = {role: settings.role_urls[role] for role in roles}
    return done(lambda: asyncio.run(ask(urls, shelf.registry, settings.shown_to_roles)))


def _agreement(replica: Compared) -> str:
    shadow = replica.serves.agreement if replica.serves else None
    return f"{shadow.version}: {shadow.same} of {shadow.turns}" if shadow else ""


def _table(counts: Iterable[Count]) -> Table:
    """A row for each version that has taken turns."""
    table = Table(
        "role", "version", "used as", "turns", "failed", "texts unusable", "seconds a turn", "steps a run", box=None
    )
    for count in counts:
        done = count.done
        numbers = (str(done.turns), str(done.failed), str(done.unusable), f"{done.mean_seconds:.2f}")
        table.add_row(count.role, count.version, count.use, *numbers, f"{done.mean_steps:.1f}" if done.runs else "-")
    return table
