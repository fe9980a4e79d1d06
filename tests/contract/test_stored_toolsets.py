"""Toolsets and their versions in the store, on SQLite and on PostgreSQL."""

import asyncio
import time
from typing import Any

import sqlalchemy as sa

from gateway.store import LOCAL, Store, ToolsetOptions, ToolsetRow, tables
from gateway.store.retention import prune, prune_versions
from tests.stored import A, completed, created


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
