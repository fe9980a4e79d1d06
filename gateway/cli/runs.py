"""umi runs: what has been asked, how it ended, and ways to approve its calls, to stop and to forget it."""

import time
from datetime import datetime
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from gateway.cli.api import Api, Failed
from gateway.cli.ask import plain, show_event, shown_while_written
from gateway.cli.common import LOCAL, DatabaseUrl, GatewayUrl, RunId, opened
from gateway.store import retention

app = typer.Typer(no_args_is_help=True, help="What has been asked, how it ended; approving, stopping, forgetting.")


@app.command(name="list")
def list_runs(
    outcome: Annotated[
        str | None, typer.Option(help="Only those: answered, gave_up, …, running, requires_action.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=200, help="How many at most.")] = 20,
    gateway: GatewayUrl = LOCAL,
) -> None:
    """The newest runs."""
    parameters = {"limit": str(limit), **({"outcome": outcome} if outcome else {})}
    page: dict[str, Any] = Api(gateway).get("/v1/runs", parameters)
    table = Table("run", "when", "outcome", "query", box=None)
    for run in page["runs"]:
        when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(run["created_at"]))
        table.add_row(run["run_id"], when, run["outcome"] or run["status"], plain(" ".join(run["query"].split()))[:80])
    Console().print(table if page["runs"] else "No runs.")


@app.command()
def show(run: RunId, gateway: GatewayUrl = LOCAL) -> None:
    """A run's steps, those to come as well."""
    console = Console()
    for event in shown_while_written(Api(gateway).follow(run), console):
        show_event(event, console)


@app.command()
def export(
    since: Annotated[datetime | None, typer.Option(help="Only runs that began then or later, local time.")] = None,
    until: Annotated[datetime | None, typer.Option(help="Only runs that began before.")] = None,
    outcome: Annotated[str | None, typer.Option(help="Only runs that ended so: answered, gave_up, …")] = None,
    with_tools: Annotated[
        bool, typer.Option("--with-tools", help="With the documents of tools, as the run was offered them.")
    ] = False,
    gateway: GatewayUrl = LOCAL,
) -> None:
    """Write all runs that have ended as lines of JSON, oldest first: python -m training reads them."""
    given = {"since": since and since.astimezone().isoformat(), "until": until and until.astimezone().isoformat()}
    given |= {"outcome": outcome, "documents": "true" if with_tools else None}
    for line in Api(gateway).lines("/v1/runs/export", {name: value for name, value in given.items() if value}):
        print(line)


@app.command()
def prune(
    days: Annotated[float, typer.Option("--older-than", metavar="DAYS", min=0, help="Days since a run began.")],
    tenant: Annotated[str | None, typer.Option(help="Only this tenant's.")] = None,
    database: DatabaseUrl = None,
) -> None:
    """Forget runs that have ended, and versions of toolsets that only they needed, on the database itself.

    Gateways may go on meanwhile.
    """
    before, forgotten = time.time() - days * 86_400, 0
    with opened(database) as opened_database:
        while True:
            with opened_database.transaction() as connection:
                count = retention.prune(connection, before, tenant)
            if not count:
                break
            forgotten += count
        with opened_database.transaction() as connection:
            versions = retention.prune_versions(connection, before, tenant)
    print(f"{forgotten} runs forgotten")
    if versions:
        print(f"{versions} versions of toolsets forgotten")


@app.command()
def approve(
    run: RunId,
    refuse: Annotated[bool, typer.Option("--refuse", help="Do not let the call be sent.")] = False,
    reason: Annotated[str | None, typer.Option(help="Why; the planner reads it of a call that is refused.")] = None,
    step: Annotated[int | None, typer.Option(min=1, help="Whose call; the one that waits when absent.")] = None,
    gateway: GatewayUrl = LOCAL,
) -> None:
    """Let the call that a run waits with be sent as it was shown, or refuse it; the run then goes on."""
    api = Api(gateway)
    if step is None:
        waits: dict[str, Any] = api.get(f"/v1/runs/{run}")
        if waits["required_action"] is None:
            raise Failed(f"{run} does not wait for approval: it is {waits['outcome'] or waits['status']}.")
        step = int(waits["required_action"]["step"])
    api.decide(run, step, not refuse, reason)
    print(f"{run}: step {step} {'refused' if refuse else 'approved'}; how it goes on: umi runs show {run}")


@app.command()
def cancel(run: RunId, gateway: GatewayUrl = LOCAL) -> None:
    """End a run now."""
    ended: dict[str, Any] = Api(gateway).post(f"/v1/runs/{run}/cancel")
    print(f"{run}: {ended['outcome']}")
