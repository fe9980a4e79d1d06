"""Serve the gateway: python -m gateway. Settings come from the environment, see gateway/settings.py."""

import ipaddress
import math
import sys

import uvicorn
from pydantic import ValidationError
from sqlalchemy.exc import SQLAlchemyError

from gateway.app import create_app
from gateway.settings import Settings
from gateway.store import Database
from gateway.store.database import first_line
from gateway.store.keys import has_any
from remote import open_registry
from umi.errors import NoRegistry


def main() -> None:
    """Serve until interrupted; a wrong setting is named and nothing is started. Without keys, loopback only."""
    try:
        settings = Settings()
    except ValidationError as error:
        for wrong in error.errors(include_url=False):
            name = "UMI_" + "_".join(str(part) for part in wrong["loc"]).upper()
            print(f"gateway: {name}: {wrong['msg']}", file=sys.stderr)
        sys.exit(2)
    try:
        has_keys = _has_keys(settings.database)
    except (SQLAlchemyError, OSError) as error:
        print(f"gateway: the database cannot be used: {first_line(error)}", file=sys.stderr)
        sys.exit(2)
    try:
        _ = settings.registry and open_registry(settings.registry)
    except NoRegistry as error:
        print(f"gateway: UMI_REGISTRY: {error}", file=sys.stderr)
        sys.exit(2)
    if not is_loopback(settings.host) and not has_keys:
        print(
            f"gateway: without API keys it listens on loopback only, not on {settings.host}. "
            "Make a key first: umi keys create --tenant NAME",
            file=sys.stderr,
        )
        sys.exit(2)
    # Streams of unfinished runs would hold the shutdown up for ever.
    drain = math.ceil(settings.drain_seconds)
    uvicorn.run(create_app(settings), host=settings.host, port=settings.port, timeout_graceful_shutdown=drain)


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a server that listens on `host`."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _has_keys(url: str) -> bool:
    database = Database(url)
    database.migrate()
    with database.transaction() as connection:
        found = has_any(connection)
    database.close()
    return found


if __name__ == "__main__":
    main()
