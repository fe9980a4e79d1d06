"""The store on SQLite and on PostgreSQL: leases, claims, quotas and following between two gateways on one database."""

import asyncio
import time
from typing import Any

import pytest
import sqlalchemy as sa

from gateway.events import Approval, Event, Outcome, Planned, RequiresAction, RunStatus
from gateway.problems import NotStored
from gateway.store import LOCAL, Claim, Claimed, Database, Exceeded, Key, Lease, Scope, Store, digest, keys, tables
from gateway.store.retention import prune
from tests.fakes import USAGE, call, plan
from tests.stored import FOR_LONG, A, B, completed, created
from umi.openapi import HttpRequest
from umi.roles import Turn


def planned(run_id: str, seq: int) -> Event:
    return Event.of(run_id, seq, Planned(step=seq, plan=plan(Turn.CALLER), version="v", usage=USAGE, seconds=0.1))


async def begin(
    store: Store,
    run_id: str,
    lease: Lease = A,
    key: Key = LOCAL,
    claim: Claim | None = None,
    webhook: str | None = None,
) -> Any:
    return await store.runs.create(created(run_id), key, claim, lease, webhook)


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


async def test_an_event_that_is_not_stored_takes_those_behind_it_along(stores: tuple[Store, Store]) -> None:
    store = stores[0]
    await begin(store, "r")
    with pytest.raises(NotStored, match="before this is missing"):
        await store.runs.append("a", planned("r", 2))
    unreadable = planned("r", 1).model_copy(update={"type": "\ud800"})
    appended = [store.runs.append("a", event) for event in (unreadable, planned("r", 2), planned("r", 3))]
    results = await asyncio.gather(*appended, return_exceptions=True)
    assert [type(result) for result in results] == [NotStored] * 3
    assert [event.seq for event in await store.runs.events("r")] == [0]
    await store.runs.append("a", planned("r", 1))


async def test_an_event_may_come_in_one_commit_with_the_run_that_it_is_of(stores: tuple[Store, Store]) -> None:
    store = stores[0]
    await begin(store, "before")
    busy = asyncio.create_task(store.database.write(lambda _: time.sleep(0.3)))
    await asyncio.sleep(0.1)
    other = asyncio.create_task(store.runs.append("a", planned("before", 1)))
    creating = asyncio.create_task(begin(store, "r"))
    await asyncio.sleep(0)
    await store.runs.append("a", planned("r", 1))
    await asyncio.gather(busy, other, creating)
    assert [event.seq for event in await stores[1].runs.events("r")] == [0, 1]


async def test_what_nobody_waits_for_is_stored_with_what_somebody_does_or_soon_by_itself(
    stores: tuple[Store, Store],
) -> None:
    store = stores[0]
    await begin(store, "r")
    told, alone = list[NotStored | None](), asyncio.Event()
    store.runs.put("a", planned("r", 1), told.append, later=True)
    await store.runs.append("a", planned("r", 2))
    assert told == [None]
    store.runs.put("a", planned("r", 3), lambda _: alone.set(), later=True)
    async with asyncio.timeout(5):
        await alone.wait()
    assert [event.seq for event in await stores[1].runs.events("r")] == [0, 1, 2, 3]


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


async def test_a_run_that_goes_on_here_is_not_read_from_the_database_while_somebody_holds_it(
    stores: tuple[Store, Store],
) -> None:
    first, second = stores
    await begin(first, "r")
    tail = first.runs.is_here("r", [created("r")])
    await first.runs.append("a", planned("r", 1))
    assert await first.runs.events("r") == tail.events
    delete = tables.events.delete()
    await second.database.write(lambda connection: connection.execute(delete).rowcount)
    assert [event.seq for event in await first.runs.events("r")] == [0, 1]
    assert [event.seq for event in await first.runs.events("r", after=0)] == [1]
    del tail
    assert await first.runs.events("r") == []


async def test_events_are_read_once_another_gateway_goes_on_with_the_run(stores: tuple[Store, Store]) -> None:
    first, second = stores
    await begin(first, "r", Lease(owner="a", until=time.time() - 1))
    _held = first.runs.is_here("r", [created("r")])
    await second.runs.take_orphans(B, time.time())
    await second.runs.append("b", planned("r", 1))
    with pytest.raises(NotStored):
        await first.runs.append("a", planned("r", 1))
    await second.runs.append("b", completed("r", 2))
    assert [event.seq for event in await first.runs.events("r")] == [0, 1, 2]


async def test_events_are_read_when_the_memory_of_them_has_a_gap(stores: tuple[Store, Store]) -> None:
    store = stores[0]
    await begin(store, "r")
    _held = store.runs.is_here("r", [])
    await store.runs.append("a", planned("r", 1))
    assert [event.seq for event in await store.runs.events("r")] == [0, 1]


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
