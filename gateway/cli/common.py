"""What several commands share."""

from collections.abc import Generator
from contextlib import contextmanager
from typing import Annotated

import sqlalchemy as sa
import typer
from sqlalchemy.exc import SQLAlchemyError

from gateway.cli.api import Failed
from gateway.settings import Settings
from gateway.store import Database
from gateway.store.database import first_line

LOCAL = "http://127.0.0.1:8000"
GatewayUrl = Annotated[str, typer.Option(envvar="UMI_GATEWAY", help="Where the gateway is.")]
RunId = Annotated[str, typer.Argument(metavar="RUN", help="As `umi runs list` shows it.")]
DatabaseUrl = Annotated[str | None, typer.Option(help="The gateway's database; UMI_DATABASE when absent.")]


@contextmanager
def opened(url: str | None) -> Generator[Database]:
    """The database that a gateway with these settings uses, brought up to date. Raises Failed."""
    try:
        database = Database(url or Settings().database_url)
        database.migrate()
        yield database
        database.close()
    except (SQLAlchemyError, OSError) as error:
        reason = first_line(error)
        raise Failed(f"The database cannot be used: {reason}") from error


@contextmanager
def transaction(url: str | None) -> Generator[sa.Connection]:
    """One transaction on it. Raises Failed."""
    with opened(url) as database, database.transaction() as connection:
        yield connection
