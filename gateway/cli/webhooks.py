"""umi webhooks: the secrets that sign them, made on the database itself, and how their deliveries stand."""

import re
import time
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from gateway.cli.api import Api, Failed
from gateway.cli.ask import plain
from gateway.cli.common import LOCAL, DatabaseUrl, GatewayUrl, RunId, transaction
from gateway.settings import Settings
from gateway.store import webhooks
from gateway.store.rows import TENANT
from gateway.webhooks import signing

app = typer.Typer(no_args_is_help=True, help="Who is told that runs have ended, and the secrets that sign it.")


@app.command()
def rotate(
    tenant: Annotated[str, typer.Option(help="Whose webhooks it signs.")] = "default",
    database: DatabaseUrl = None,
) -> None:
    """Make a new secret and print it, this once. For a day the one before signs as well. Needs UMI_WEBHOOK_KEY."""
    if not re.match(TENANT, tenant):
        raise Failed(f"--tenant {tenant!r}: it must match {TENANT}")
    key = Settings().webhook_terms.key
    if key is None:
        raise Failed("UMI_WEBHOOK_KEY is not set: give it the value that the gateways have.")
    with transaction(database) as connection:
        generation = webhooks.rotate(connection, tenant, time.time())
    print(signing.shown(signing.derived(key, tenant, generation)))


@app.command(name="list")
def list_webhooks(
    state: Annotated[str | None, typer.Option(help="Only those: waiting, pending, delivered or failed.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=200, help="How many at most.")] = 20,
    gateway: GatewayUrl = LOCAL,
) -> None:
    """Webhooks of the newest runs."""
    parameters = {"limit": str(limit), **({"state": state} if state else {})}
    page: dict[str, Any] = Api(gateway).get("/v1/webhooks", parameters)
    table = Table("run", "state", "attempts", "last", "what happened", "url", box=None)
    for hook in page["webhooks"]:
        when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(hook["at"]))
        problem, url = plain(hook["problem"] or ""), plain(hook["url"])
        table.add_row(hook["run_id"], hook["state"], str(hook["attempts"]), when, problem, url)
    Console().print(table if page["webhooks"] else "No webhooks.")


@app.command()
def resend(run: RunId, gateway: GatewayUrl = LOCAL) -> None:
    """Send a run's webhook once more that was delivered or given up."""
    Api(gateway).post(f"/v1/runs/{run}/webhook/resend")
    print(f"{run}: to be sent")
