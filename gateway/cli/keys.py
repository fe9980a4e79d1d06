"""umi keys: API keys, made and revoked on the database itself, so that the first needs no other."""

import re
import time
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from gateway.cli.api import Failed
from gateway.cli.common import DatabaseUrl, transaction
from gateway.store import Scope, keys
from gateway.store.rows import NAME, TENANT

app = typer.Typer(no_args_is_help=True, help="API keys: what their tenants may do, and how much of it.")


@app.command()
def create(
    tenant: Annotated[
        str, typer.Option(help="Whose runs and tools it reaches; a new name is a new tenant.")
    ] = "default",
    name: Annotated[str, typer.Option(help="What the key is for.")] = "unnamed",
    scope: Annotated[
        list[Scope] | None,
        typer.Option(help="query, tools, weights, admin; may be repeated. Absent: query and tools."),
    ] = None,
    requests_per_minute: Annotated[int | None, typer.Option(min=1, help="Requests of any kind, per gateway.")] = None,
    concurrent_runs: Annotated[int | None, typer.Option(min=1, help="Runs that go on at once.")] = None,
    tokens_per_day: Annotated[int | None, typer.Option(min=1, help="Tokens read and written, per day (UTC).")] = None,
    database: DatabaseUrl = None,
) -> None:
    """Make a key and print it. It is shown this once; only its hash is kept."""
    _check("--tenant", tenant, TENANT)
    _check("--name", name, NAME)
    with transaction(database) as connection:
        secret = keys.create(
            connection,
            tenant,
            name,
            scope or (Scope.QUERY, Scope.TOOLS),
            requests_per_minute=requests_per_minute,
            concurrent_runs=concurrent_runs,
            tokens_per_day=tokens_per_day,
        )
    print(secret)


@app.command(name="list")
def list_keys(database: DatabaseUrl = None) -> None:
    """All keys, revoked ones as well, and what they have used today."""
    with transaction(database) as connection:
        found, used = keys.every(connection), keys.used_today(connection)
    table = Table("id", "tenant", "name", "scopes", "a minute", "at once", "tokens today", "made", "revoked", box=None)
    for key in found:
        tokens = f"{used.get(key.id, 0):,}" + (f" of {key.tokens_per_day:,}" if key.tokens_per_day else "")
        limits = ("-" if limit is None else str(limit) for limit in (key.requests_per_minute, key.concurrent_runs))
        scopes = " ".join(sorted(key.scopes))
        table.add_row(
            key.id, key.tenant, key.name, scopes, *limits, tokens, _when(key.created_at), _when(key.revoked_at)
        )
    Console().print(table if found else "No keys: the gateway serves whoever reaches it, on loopback only.")


@app.command()
def revoke(
    key: Annotated[str, typer.Argument(metavar="ID", help="As `umi keys list` shows it.")], database: DatabaseUrl = None
) -> None:
    """Let a key be none from now on; gateways notice within a second. Runs that it began go on."""
    with transaction(database) as connection:
        if not keys.revoke(connection, key):
            raise Failed(f"There is no key {key} to revoke: see umi keys list")
    print(f"{key}: revoked")


def _check(option: str, value: str, pattern: str) -> None:
    if not re.match(pattern, value):
        raise Failed(f"{option} {value!r}: it must match {pattern}")


def _when(at: float | None) -> str:
    return "-" if at is None else time.strftime("%Y-%m-%d %H:%M", time.localtime(at))
