"""A real PostgreSQL server for the tests, in a temporary directory and on loopback."""

import contextlib
import os
import pwd
import shutil
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.exc import OperationalError

from gateway.store.database import address
from tests.fakes import free_port


def binaries() -> Path | None:
    """Where Debian's `postgresql` keeps the server, the newest if there are several."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    return found[-1].parent if found else None


class Postgres:
    """A running server, whose databases are as many as are asked for."""

    def __init__(self, port: int) -> None:
        self._server = f"postgresql://umi@127.0.0.1:{port}"

    def database(self) -> str:
        """The URL of a new, empty database."""
        name = f"umi_{uuid.uuid4().hex}"
        self.execute(f"CREATE DATABASE {name}")
        return f"{self._server}/{name}"

    def execute(self, statement: str) -> None:
        """Outside of any transaction and of the tests' databases."""
        engine = sa.create_engine(address(f"{self._server}/postgres"), isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.execute(sa.text(statement))
        engine.dispose()


@contextlib.contextmanager
def running(binaries: Path) -> Iterator[Postgres]:
    """A server until the block is left. It refuses to be root: then it is the user postgres, or nobody."""
    folder = Path(tempfile.mkdtemp(prefix="umi-postgres-"))
    data, port = folder / "data", free_port()
    user = _other_user() if os.getuid() == 0 else None
    if user is not None:
        os.chown(folder, *user)
    as_user = {} if user is None else {"user": user[0], "group": user[1], "extra_groups": []}
    initdb = [str(binaries / "initdb"), "-D", str(data), "-U", "umi", "--auth=trust", "--encoding=UTF8", "--locale=C"]
    subprocess.run([*initdb, "--no-sync"], check=True, cwd=folder, stdout=subprocess.DEVNULL, **as_user)
    options = {"listen_addresses": "127.0.0.1", "port": port, "unix_socket_directories": "", "fsync": "off"}
    settings = [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(
            [str(binaries / "postgres"), "-D", str(data), *settings], cwd=folder, stdout=log, stderr=log, **as_user
        )
    try:
        postgres = Postgres(port)
        _wait(postgres, server, folder / "log")
        yield postgres
    finally:
        server.send_signal(2)  # the fast shutdown: sessions are ended
        with contextlib.suppress(subprocess.TimeoutExpired):
            server.wait(10)
        server.kill()
        shutil.rmtree(folder, ignore_errors=True)


def _other_user() -> tuple[int, int]:
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            found = pwd.getpwnam(name)
            return found.pw_uid, found.pw_gid
    raise AssertionError("there is no user whom PostgreSQL could run as")


def _wait(postgres: Postgres, server: "subprocess.Popen[bytes]", log: Path) -> None:
    until = time.monotonic() + 60
    while True:
        try:
            return postgres.execute("SELECT 1")
        except OperationalError:
            assert server.poll() is None, log.read_text()
            assert time.monotonic() < until, log.read_text()
            time.sleep(0.1)
