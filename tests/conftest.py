"""Databases that tests run on: a new one for each test, SQLite or PostgreSQL."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.postgres import Postgres, binaries, running


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """One PostgreSQL server for all tests. Where there is none tests are skipped, but not in CI (CI=true)."""
    found = binaries()
    if found is None:
        message = "there is no PostgreSQL server here: apt-get install postgresql"
        if os.environ.get("CI", "").lower() == "true":
            pytest.fail(message)
        pytest.skip(message)
    with running(found) as server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty database, for tests that must hold on both."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/umi.db"
    server: Postgres = request.getfixturevalue("postgres")
    return server.database()
