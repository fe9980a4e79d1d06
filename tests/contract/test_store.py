"""The store on SQLite and on PostgreSQL: leases, claims, quotas and following between two gateways on one database."""

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext

from gateway.events import (
    Approval,
    Event,
    Outcome,
    Planned,
    RequiresAction,
    RunCompleted,
    RunCreated,
    RunStatus,
)
from gateway.policy import Policy
from gateway.problems import NotStored
from gateway.store import (
    LOCAL,
    Claim,
    Claimed,
    Database,
    Exceeded,
    Key,
    Lease,
    McpOptions,
    Scope,
    Store,
    ToolsetOptions,
    ToolsetRow,
    digest,
    keys,
    migrations,
    tables,
)
from gateway.store.database import address
from gateway.store.retention import prune, prune_versions
from gateway.store.tables import metadata
from tests.fakes import USAGE, call, plan
from umi.openapi import HttpRequest
from umi.roles import Turn

FOR_LONG = time.time() + 3600
A, B = Lease(owner="a", until=FOR_LONG), Lease(owner="b", until=FOR_LONG)


@pytest.fixture
async def stores(database: str) -> AsyncIterator[tuple[Store, Store]]:
    """Two gateways' stores on one database, opened at the same time."""
    async with AsyncExitStack() as stack:
        first = await stack.enter_async_context(Store(database))
        yield first, await stack.enter_async_context(Store(database))


def created(run_id: str) -> Event:
    return Event.of(run_id, 0, RunCreated(query="q\0", tools=[], max_steps=8, deadline_seconds=60))


def planned(run_id: str, seq: int) -> Event:
    return Event.of(run_id, seq, Planned(step=seq, plan=plan(Turn.CALLER), version="v", usage=USAGE, seconds=0.1))


def completed(run_id: str, seq: int) -> Event:
    return Event.of(run_id, seq, RunCompleted(outcome=Outcome.ANSWERED, answer="a"))


async def begin(
    store: Store,
    run_id: str,
    lease: Lease = A,
    key: Key = LOCAL,
    claim: Claim | None = None,
    webhook: str | None = None,
) -> Any:
    return await store.runs.create(created(run_id), key, claim, lease, webhook)


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


async def test_only_the_holder_of_the_lease_appends(stores: tuple[Store, Store]) -> None:
    first, second = stores
    await begin(first, "r", Lease(owner="a", until=time.time() - 1))
    assert [run.run_id for run in await second.runs.take_orphans(B, time.time())] == ["r"]
    with pytest.raises(NotStored):
        await first.runs.append("a", planned("r", 1))
    await second.runs.append("b", planned("r", 1))
    await second.runs.append("b", completed("r", 2))
    with pytest.raises(NotStored):
        await second.runs.append("b", completed("r", 3))
    assert [event.seq for event in await first.runs.events("r")] == [0, 1, 2]
    assert await first.runs.outcome("r") is Outcome.ANSWERED


async def test_of_several_that_take_a_run_one_gets_it(stores: tuple[Store, Store]) -> None:
    runs = {f"run-{number}" for number in range(40)}
    await asyncio.gather(*(begin(stores[0], run_id, Lease(owner="dead", until=0)) for run_id in runs))
    takers = [Lease(owner=f"taker-{number}", until=FOR_LONG) for number in range(8)]
    taken = await asyncio.gather(
        *(stores[number % 2].runs.take_orphans(lease, time.time(), most=7) for number, lease in enumerate(takers))
    )
    rest = await stores[0].runs.take_orphans(A, time.time())
    ids = [run.run_id for found in (*taken, rest) for run in found]
    assert (len(ids), set(ids)) == (40, runs)


async def test_a_lease_that_is_kept_or_whose_run_has_ended_is_not_taken(stores: tuple[Store, Store]) -> None:
    first, second = stores
    for run_id in ("kept", "ended", "dropped", "given up"):
        await begin(first, run_id, Lease(owner="a", until=0))
    await first.runs.append("a", completed("ended", 1))
    await first.runs.renew(A, ["kept", "ended"])
    assert {run.run_id for run in await second.runs.take_orphans(B, time.time())} == {"dropped", "given up"}
    await first.runs.release("a")
    assert [run.run_id for run in await second.runs.take_orphans(B, time.time())] == ["kept"]


def asked(run_id: str, seq: int, expires_at: float = FOR_LONG) -> Event:
    request = HttpRequest(method="POST", url="https://x.example", headers={})
    payload = RequiresAction(step=1, call=call("t"), toolset="t", request=request, expires_at=expires_at)
    return Event.of(run_id, seq, payload)


async def test_a_run_that_waits_is_nobodys_until_one_decides(stores: tuple[Store, Store]) -> None:
    first, second = stores
    await begin(first, "r")
    await first.runs.append("a", planned("r", 1))
    await first.runs.append("a", asked("r", 2))
    with pytest.raises(NotStored):
        await first.runs.append("a", planned("r", 3))
    await first.runs.renew(Lease(owner="a", until=0), ["r"])
    await first.runs.release("a")
    assert await second.runs.take_orphans(B, time.time()) == []
    assert (await second.runs.is_waiting("r"), await second.runs.count_waiting()) == (True, 1)
    (listed,) = await first.runs.page(LOCAL.tenant, 5, RunStatus.REQUIRES_ACTION)
    assert (listed.run_id, listed.status) == ("r", RunStatus.REQUIRES_ACTION)
    assert await first.runs.page(LOCAL.tenant, 5, RunStatus.RUNNING) == []
    yes, now = Approval(step=1, approve=True, by="k"), time.time()
    assert await second.runs.decide("r", yes.model_copy(update={"step": 2}), B, now) is None
    results = await asyncio.gather(first.runs.decide("r", yes, A, now), second.runs.decide("r", yes, B, now))
    assert [result is not None for result in results].count(True) == 1
    assert await first.runs.take_waiting("r", A) is None
    events = await first.runs.events("r")
    assert [(event.seq, event.type) for event in events[2:]] == [(2, "requires_action"), (3, "approval")]
    owner = "a" if results[0] is not None else "b"
    await first.runs.append(owner, completed("r", 4))
    assert [row.status for row in await first.runs.page(LOCAL.tenant, 5, RunStatus.ENDED)] == ["ended"]


async def test_a_wait_that_is_over_is_taken_like_a_lease_that_is_and_not_decided_on(
    stores: tuple[Store, Store],
) -> None:
    first, second = stores
    await begin(first, "r")
    await first.runs.append("a", asked("r", 1, expires_at=time.time() - 1))
    assert await second.runs.decide("r", Approval(step=1, approve=True), B, time.time()) is None
    taken = await asyncio.gather(first.runs.take_orphans(A, time.time()), second.runs.take_orphans(B, time.time()))
    assert sum(map(len, taken)) == 1
    assert not await first.runs.is_waiting("r")


async def test_a_key_of_a_request_begins_one_run_whichever_gateways_are_asked(stores: tuple[Store, Store]) -> None:
    claim = Claim(key="k", digest="d")
    results = await asyncio.gather(*(begin(stores[number % 2], f"run-{number}", claim=claim) for number in range(10)))
    begun = [number for number, result in enumerate(results) if result is None]
    assert len(begun) == 1
    others = {result.run_id for result in results if isinstance(result, Claimed)}
    assert others == {f"run-{begun[0]}"}
    assert len(await stores[0].runs.page(LOCAL.tenant, 50)) == 1
    other_tenant = LOCAL.model_copy(update={"tenant": "other"})
    assert await begin(stores[0], "another's", key=other_tenant, claim=claim) is None


async def test_a_follower_sees_what_another_gateway_appends(stores: tuple[Store, Store]) -> None:
    first, second = stores
    await begin(first, "r")

    async def follow() -> list[int]:
        return [event.seq async for event in second.runs.follow("r", patience=60) if event is not None]

    following = asyncio.create_task(follow())
    for seq in (1, 2, 3):
        await asyncio.sleep(0.05)
        await first.runs.append("a", planned("r", seq))
    await first.runs.append("a", completed("r", 4))
    async with asyncio.timeout(20):
        assert await following == [0, 1, 2, 3, 4]


def make_key(url: str, **limits: int) -> Key:
    database = Database(url)
    with database.transaction() as connection:
        secret = keys.create(connection, "acme", "test", [Scope.QUERY], **limits)
        found = next(key for key in keys.every(connection) if key.id == secret.split("_")[1])
    database.close()
    return found


async def test_runs_at_once_are_counted_over_all_gateways(stores: tuple[Store, Store], database: str) -> None:
    key = make_key(database, concurrent_runs=3)
    results = await asyncio.gather(*(begin(stores[number % 2], f"run-{number}", key=key) for number in range(10)))
    begun = [f"run-{number}" for number, result in enumerate(results) if result is None]
    assert len(begun) == 3
    assert all(isinstance(result, Exceeded) and result.limit == 3 for result in results if result is not None)
    await stores[0].runs.append("a", completed(begun[0], 1))
    assert await begin(stores[1], "one more", key=key) is None


async def test_tokens_of_a_day_are_used_up(stores: tuple[Store, Store], database: str) -> None:
    first, second = stores
    spent = USAGE.prompt_tokens + USAGE.completion_tokens
    key = make_key(database, tokens_per_day=2 * spent)
    await begin(first, "r", key=key)
    await asyncio.gather(*(first.runs.append("a", planned("r", seq)) for seq in (1,)))
    assert await begin(second, "s", key=key) is None
    await first.runs.append("a", planned("r", 2))
    refused = await begin(second, "t", key=key)
    assert isinstance(refused, Exceeded)
    assert 0 < refused.retry_after <= 86_400


async def test_a_key_is_found_by_its_hash_until_it_is_revoked(stores: tuple[Store, Store]) -> None:
    store = stores[0]
    assert not await store.keys.any()
    secret = await store.database.write(lambda connection: keys.create(connection, "acme", "ci", [Scope.TOOLS]))
    found = await store.keys.find(digest(secret))
    assert found is not None
    assert (found.tenant, found.may(Scope.TOOLS), found.may(Scope.QUERY)) == ("acme", True, False)
    stored = await store.database.read(lambda connection: str(connection.execute(sa.text("SELECT * FROM keys")).all()))
    assert secret.split("_", 2)[2] not in stored
    assert await store.database.write(lambda connection: keys.revoke(connection, found.id))
    assert await store.keys.find(digest(secret)) is None
    assert await store.keys.any(), "a gateway whose keys are all revoked is not open to everybody"


async def test_one_write_that_fails_does_not_take_others_along(stores: tuple[Store, Store]) -> None:
    bad = stores[0].database.write(lambda connection: connection.execute(sa.text("INSERT INTO nowhere VALUES (1)")))
    results = await asyncio.gather(
        *(begin(stores[0], f"run-{number}") for number in range(5)), bad, return_exceptions=True
    )
    assert results[:5] == [None] * 5
    assert isinstance(results[5], sa.exc.SQLAlchemyError)
    assert len(await stores[0].runs.page(LOCAL.tenant, 50)) == 5


async def test_a_toolset_is_a_tenants_own(stores: tuple[Store, Store]) -> None:
    first, second = stores
    before = await second.toolsets.revisions()
    for tenant in ("acme", "other"):
        await first.toolsets.save(ToolsetRow(name="t", document={"of": tenant}, tenant=tenant), {})
    await first.toolsets.save(ToolsetRow(name="t", document={"of": "acme", "new": True}, tenant="acme"), {})
    assert await second.toolsets.revisions() != before
    assert [(row.tenant, row.document) for row in await second.toolsets.all()] == [
        ("acme", {"of": "acme", "new": True}),
        ("other", {"of": "other"}),
    ]
    await second.toolsets.delete("acme", "t")
    assert [row.tenant for row in await first.toolsets.all()] == ["other"]


def toolset(content: str, **fields: Any) -> ToolsetRow:
    return ToolsetRow(name="t", document={"is": content}, **fields)


async def test_what_differs_is_a_new_version_and_the_same_is_the_same_one(stores: tuple[Store, Store]) -> None:
    first, second = stores
    allowing = ToolsetOptions(allow=("10.0.0.1",))
    rows = [toolset("a"), toolset("b"), toolset("b"), toolset("a", options=allowing), toolset("a")]
    assert [await first.toolsets.save(row, {"imported": 2}) for row in rows] == [1, 2, 2, 3, 1]
    assert [(row.document, row.version) for row in await second.toolsets.all()] == [({"is": "a"}, 1)]
    listed = await second.toolsets.versions(LOCAL.tenant, "t")
    assert [(each.version, each.current, each.operations) for each in listed] == [
        (3, False, {"imported": 2}),
        (2, False, {"imported": 2}),
        (1, True, {"imported": 2}),
    ]
    assert len({each.digest for each in listed}) == 3
    await first.toolsets.delete(LOCAL.tenant, "t")
    assert [each.current for each in await second.toolsets.versions(LOCAL.tenant, "t")] == [False] * 3
    kept = await second.toolsets.version(LOCAL.tenant, "t", 3)
    assert kept is not None
    assert kept[1] == toolset("a", options=allowing, version=3)
    assert await second.toolsets.version("other", "t", 3) is None
    assert await first.toolsets.save(toolset("c"), {}) == 4


async def test_gateways_that_register_at_once_number_alike(stores: tuple[Store, Store]) -> None:
    made = await asyncio.gather(*(stores[n % 2].toolsets.save(toolset(f"{n // 2}"), {}) for n in range(12)))
    assert sorted(set(made)) == [1, 2, 3, 4, 5, 6]
    assert [made[n] for n in range(0, 12, 2)] == [made[n] for n in range(1, 12, 2)]
    current = [each.version for each in await stores[0].toolsets.versions(LOCAL.tenant, "t") if each.current]
    assert current == [row.version for row in await stores[1].toolsets.all()]


async def test_versions_that_no_stored_run_may_have_been_offered_are_forgotten_and_no_others(
    stores: tuple[Store, Store],
) -> None:
    store, now = stores[0], time.time()
    for tenant, content in [("default", "a"), ("default", "b"), ("default", "c"), ("other", "a"), ("other", "b")]:
        await store.toolsets.save(toolset(content, tenant=tenant), {})
    columns = tables.toolset_versions.c

    def age(version: int, hours: float) -> sa.Update:
        which = sa.and_(columns.version == version, columns.replaced_at.is_not(None))
        return tables.toolset_versions.update().where(which).values(replaced_at=now - 3600 * hours)

    for version, hours in ((1, 50), (2, 10)):
        await store.database.write(lambda connection, made=age(version, hours): connection.execute(made).rowcount)
    event = created("r").model_copy(update={"at": now - 3600 * 20})
    assert await store.runs.create(event, LOCAL, None, A) is None

    async def forget(before: float, tenant: str | None = None) -> int:
        return await store.database.write(lambda connection: prune_versions(connection, before, tenant))

    assert await forget(now - 3600 * 60) == 0
    assert await forget(now, tenant="other") == 1
    assert await forget(now) == 1, "the run began while the second version was current"
    left = [each.version for each in await store.toolsets.versions(LOCAL.tenant, "t")]
    assert left == [3, 2]
    await store.runs.append("a", completed("r", 1))
    assert await store.database.write(lambda connection: prune(connection, now)) == 1
    assert await forget(now) == 1
    assert [row.version for row in await store.toolsets.all()] == [3, 2], "what is current stays"


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
            values |= {"tenant": row.tenant, "name": row.name, "options": row.options.model_dump_json()}
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


async def test_old_runs_that_have_ended_are_forgotten_and_nothing_else(stores: tuple[Store, Store]) -> None:
    store = stores[0]
    claim = Claim(key="k", digest="d")
    for run_id in ("ended", "goes on"):
        await begin(store, run_id, claim=claim if run_id == "ended" else None)
    await store.runs.append("a", completed("ended", 1))
    for before, forgotten in ((time.time() - 60, 0), (time.time() + 60, 1), (time.time() + 60, 0)):
        assert await store.database.write(lambda connection, at=before: prune(connection, at)) == forgotten
    assert [row.run_id for row in await store.runs.page(LOCAL.tenant, 50)] == ["goes on"]
    assert await store.runs.events("ended") == []
    assert await begin(store, "another", claim=claim) is None
