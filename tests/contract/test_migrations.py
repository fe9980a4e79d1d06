"""A database's address, and its tables from any version to this one, on SQLite and on PostgreSQL."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext

from gateway.policy import Policy
from gateway.store import Database, McpOptions, Store, ToolsetOptions, ToolsetRow, migrations
from gateway.store.database import address
from gateway.store.tables import metadata


@pytest.mark.parametrize(
    ("url", "meant"),
    [
        ("sqlite:///var/umi.db", "sqlite:///var/umi.db"),
        ("sqlite+aiosqlite:///var/umi.db", "sqlite:///var/umi.db"),
        ("postgresql://umi@host/umi", "postgresql+psycopg://umi@host/umi"),
        ("postgresql+asyncpg://umi@host/umi", "postgresql+psycopg://umi@host/umi"),
    ],
)
def test_the_driver_of_a_url_is_the_one_that_is_installed(url: str, meant: str) -> None:
    assert str(address(url)) == meant


@pytest.mark.parametrize("url", ["sqlite://", "mysql://umi@host/umi", "nonsense"])
def test_a_url_of_another_database_is_refused(url: str) -> None:
    with pytest.raises(sa.exc.ArgumentError):
        address(url)


def test_the_migrations_make_the_tables_as_they_are_declared(database: str) -> None:
    made = Database(database)
    made.migrate()
    made.migrate()
    with made.transaction() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
    made.close()


def test_what_a_database_from_before_migrations_holds_is_kept(database: str) -> None:
    before = Database(database)
    with before.transaction() as connection:
        for statement in (
            "CREATE TABLE runs (id VARCHAR(64) PRIMARY KEY, query TEXT NOT NULL, created_at FLOAT NOT NULL, "
            "outcome VARCHAR(16))",
            "CREATE TABLE toolsets (position INTEGER PRIMARY KEY, name VARCHAR(64) NOT NULL UNIQUE, url TEXT, "
            "document TEXT NOT NULL)",
            "INSERT INTO runs VALUES ('r', 'q', 1.0, 'answered')",
            "INSERT INTO toolsets VALUES (1, 't', NULL, '{}')",
        ):
            connection.execute(sa.text(statement))
    before.migrate()
    with before.transaction() as connection:
        assert connection.execute(sa.text("SELECT id, tenant, key_id FROM runs")).all() == [("r", "default", "")]
        assert connection.execute(sa.text("SELECT tenant, name FROM toolsets")).all() == [("default", "t")]
    before.close()


def test_gateways_that_start_at_once_migrate_once(database: str) -> None:
    code = "import sys; from gateway.store.database import Database; Database(sys.argv[1]).migrate()"
    starting = [subprocess.Popen([sys.executable, "-c", code, database]) for _ in range(3)]
    assert [process.wait(110) for process in starting] == [0, 0, 0]
    made = Database(database)
    with made.transaction() as connection:
        assert len(connection.execute(sa.text("SELECT * FROM alembic_version")).all()) == 1
    made.close()


async def test_toolsets_that_were_registered_before_there_were_versions_are_their_first_one(database: str) -> None:
    options = ToolsetOptions(
        allow=("10.0.0.1",), policy=Policy.READ_ONLY, mcp=McpOptions(trust_hints=True), references={"u": {"x": 1}}
    )
    rows = [
        ToolsetRow(name="plain", tenant="acme", url="https://a.example/x", document={"b": 1, "a": [1.5, "é"]}),
        ToolsetRow(name="rich", document={"tools": []}, options=options),
    ]
    before = Database(database)
    _migrate(before, "0004")
    with before.transaction() as connection:
        for position, row in enumerate(rows, 1):
            values = {"position": position, "url": row.url, "document": json.dumps(row.document), "revision": "x"}
            options = row.options.model_dump_json(exclude={"select"})  # which came later
            values |= {"tenant": row.tenant, "name": row.name, "options": options}
            insert = "INSERT INTO toolsets (position, tenant, name, url, document, revision, options) VALUES "
            connection.execute(
                sa.text(insert + "(:position, :tenant, :name, :url, :document, :revision, :options)"), values
            )
        sparse = "INSERT INTO toolsets (position, tenant, name, document, revision) VALUES (3, 'acme', 's', '{}', 'x')"
        connection.execute(sa.text(sparse))
    before.close()
    async with Store(database) as store:
        expected = [
            row.model_copy(update={"version": 1}) for row in [*rows, ToolsetRow(name="s", document={}, tenant="acme")]
        ]
        assert await store.toolsets.all() == expected
        (kept,) = await store.toolsets.versions("acme", "plain")
        assert (kept.version, kept.current, kept.operations) == (1, True, None)
        assert [await store.toolsets.save(row, {}) for row in expected] == [1, 1, 1], (
            "the same content is not a new one"
        )
        assert await store.toolsets.save(expected[0].model_copy(update={"url": None}), {}) == 2


def _migrate(database: Database, revision: str) -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent))
    with database.transaction() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
