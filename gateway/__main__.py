"""Serve the gateway: python -m gateway. Settings come from the environment, see gateway/settings.py."""

import contextlib
import gc
import ipaddress
import math
import signal
import sys
from contextlib import closing

import uvicorn
from pydantic import ValidationError
from sqlalchemy.exc import SQLAlchemyError

from gateway.app import create_app
from gateway.protocol import Http
from gateway.settings import Settings
from gateway.store import Database, Scope
from gateway.store.database import first_line
from gateway.store.keys import adopt, has_any
from remote import open_registry
from umi import logs
from umi.errors import NoRegistry
from umi.tracing import start as start_tracing


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
        open_to_network = has_keys(settings)
    except ValueError as error:
        print(f"gateway: UMI_FIRST_KEY: {error}", file=sys.stderr)
        sys.exit(2)
    except (SQLAlchemyError, OSError) as error:
        print(f"gateway: the database cannot be used: {first_line(error)}", file=sys.stderr)
        sys.exit(2)
    try:
        _ = settings.registry and open_registry(settings.registry)
    except NoRegistry as error:
        print(f"gateway: UMI_REGISTRY: {error}", file=sys.stderr)
        sys.exit(2)
    if not is_loopback(settings.host) and not open_to_network:
        print(
            f"gateway: without API keys it listens on loopback only, not on {settings.host}. "
            "Make a key first: umi keys create --tenant NAME, or give one as UMI_FIRST_KEY",
            file=sys.stderr,
        )
        sys.exit(2)
    logs.configure(settings.log_level, settings.log)
    end_traces = start_tracing("umi-gateway")
    # Streams of unfinished runs would hold the shutdown up for ever.
    drain = math.ceil(settings.drain_seconds)
    server = uvicorn.Server(
        uvicorn.Config(
            create_app(settings),
            http=Http,
            host=settings.host,
            port=settings.port,
            timeout_graceful_shutdown=drain,
            log_config=None,
            log_level=settings.log_level,
        )
    )

    def stop(number: int, frame: object) -> None:
        server.should_exit = True

    # uvicorn raises the signals again that it stopped for; the last spans are still to be sent.
    signal.signal(signal.SIGTERM, stop)
    # What has been imported and built stays: the garbage collector need not look through it again and again.
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)
    # The thread that commits asks for its turn several times; usually it would wait 5 ms for each under load.
    sys.setswitchinterval(0.0005)
    with contextlib.suppress(KeyboardInterrupt):
        server.run()
    end_traces()
    if not server.started:
        sys.exit(1)


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a server that listens on `host`."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def has_keys(settings: Settings) -> bool:
    """Whether the database has a key, after it got the first one if that is given. Raises ValueError."""
    with closing(Database(settings.database_url)) as database:
        database.migrate()
        with database.transaction() as connection:
            if has_any(connection):
                return True
            if settings.first_key is None:
                return False
            adopt(connection, settings.first_key.get_secret_value(), "default", "first", Scope)
            return True


if __name__ == "__main__":
    main()
