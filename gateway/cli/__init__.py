"""The `umi` command."""

import sys

import typer

from gateway.cli import keys, runs, tools, webhooks, weights
from gateway.cli.api import Failed
from gateway.cli.ask import ask
from gateway.cli.mcp import mcp
from gateway.cli.size import size
from gateway.cli.up import up


def create_cli() -> typer.Typer:
    """All commands."""
    cli = typer.Typer(no_args_is_help=True, add_completion=False, help="UMi, a tool-using agent of three small LLMs.")
    cli.command()(up)
    cli.command()(ask)
    cli.command()(mcp)
    cli.command()(size)
    cli.add_typer(tools.app, name="tools")
    cli.add_typer(runs.app, name="runs")
    cli.add_typer(weights.app, name="weights")
    cli.add_typer(keys.app, name="keys")
    cli.add_typer(webhooks.app, name="webhooks")
    return cli


def main() -> None:
    """Entry point of `umi`."""
    try:
        create_cli()()
    except Failed as error:
        print(f"umi: {error}", file=sys.stderr)
        sys.exit(1)
