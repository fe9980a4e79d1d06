"""Full weights that are replaced in place, with scripted engines: who waits, whose answers are seen."""

import asyncio
import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from services import released as following
from services.app import create_app
from services.planner import PLANNER
from services.scripted import ScriptedEngine
from services.settings import RoleSettings
from tests.checkpoints import bare
from tests.contract.test_releases import BY, PLAN, QUESTION, change, replica, serve, until, version_of
from umi import manifest
from umi.errors import BadInput
from umi.manifest import Kind
from umi.prompt import PromptTemplate
from umi.registry import Registry
from umi.release import Canary, released, rolled_back, shadowed, tried
from umi.roles import Role
from umi.trial import Tally

WRONG = "I need it. Next: caller."


def full(directory: Path, version: str) -> Path:
    """Full weights with a smoke case that PLAN passes and WRONG does not."""
    bare(directory, version=version)
    expected = {"plan": {"turn": "conclusion"}}
    (directory / "smoke.json").write_text(json.dumps([{"trajectory": QUESTION, "expected": expected}]))
    fields: dict[str, Any] = {"roles": manifest.ALL_ROLES, "kind": Kind.FULL, "backbone": "SmolLM2-135M-Instruct"}
    names = ["adapter_model.safetensors", "smoke.json"]
    manifest.write(directory, PromptTemplate.default(), names, version=version, **fields)
    return directory


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    shelf = Registry(tmp_path / "registry")
    for version in ("f1", "f2", "f3"):
        shelf.add(full(tmp_path / version, version), Role.PLANNER)
    shelf.add(bare(tmp_path / "adapter", version="adapter").directory, Role.PLANNER)
    serve(shelf, "f1")
    return shelf


def wrong_from(version: str, **options: Any) -> ScriptedEngine:
    """An engine whose `version` decides otherwise than its smoke case says."""
    engine = ScriptedEngine(lambda *_: WRONG if engine.versions[-1] == version else PLAN, **options)
    return engine


async def test_full_weights_take_the_place_of_the_old_ones_and_the_pause_is_told(registry: Registry) -> None:
    engine = ScriptedEngine([PLAN], seconds_to_load=0.05)
    async with replica(registry, engine) as client:
        first = await until(client, lambda found: found.generation == 1)
        assert (first.resident, first.pause_seconds) == (("f1",), None)
        serve(registry, "f2")
        found = await until(client, lambda found: found.generation == 2)
        assert (found.stable, found.resident, found.problem) == ("f2", ("f2",), None)
        assert 0.05 <= (found.pause_seconds or 0) < 1
        assert await version_of(client) == "f2"
        assert "umi_role_pause_seconds" in (await client.get("/metrics")).text


async def test_a_turn_in_flight_is_taken_again_by_the_weights_that_came_and_one_that_comes_meanwhile_waits(
    registry: Registry,
) -> None:
    engine = ScriptedEngine([PLAN], seconds_per_token=0.1, seconds_to_load=0.2)
    async with replica(registry, engine) as client:
        await until(client, lambda found: found.generation == 1)
        serve(registry, "f2")
        in_flight = asyncio.create_task(version_of(client))
        while not engine.swapped:
            await asyncio.sleep(0.01)
        meanwhile = asyncio.create_task(version_of(client, "r2"))
        assert [await in_flight, await meanwhile] == ["f2", "f2"]
        assert engine.versions.count("f1") == 3  # the warm-up, its smoke case, and the one that was cut off


async def test_nobody_sees_what_weights_write_that_fail_their_trial(registry: Registry) -> None:
    engine = wrong_from("f2", seconds_per_token=0.05)
    async with replica(registry, engine) as client:
        await until(client, lambda found: found.generation == 1)
        serve(registry, "f2")
        while engine.held != ["f2"]:
            await asyncio.sleep(0.01)
        asked = [asyncio.create_task(version_of(client, f"r{number}")) for number in range(4)]
        assert await asyncio.gather(*asked) == ["f1"] * 4
        assert engine.versions.count("f2") == 5  # its smoke case, and four that were thrown away
        found = await until(client, lambda found: found.problem is not None)
        assert (found.stable, found.resident) == ("f1", ("f1",))
        assert "f2: smoke case 0 expects" in str(found.problem)
        serve(registry, "f3")
        assert (await until(client, lambda found: found.stable == "f3")).problem is None


async def test_weights_that_were_refused_once_are_not_loaded_again_until_the_next_release(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "_TRY_AGAIN", 0.0)
    engine = wrong_from("f2")
    engine.broken.add("f3")
    async with replica(registry, engine) as client:
        await until(client, lambda found: found.generation == 1)
        serve(registry, "f2")
        await until(client, lambda found: found.problem is not None)
        await asyncio.sleep(0.5)
        assert engine.swapped == ["f2", "f1"]
        serve(registry, "f3")
        await until(client, lambda found: "f3 is broken" in str(found.problem))
        await asyncio.sleep(0.5)
        assert engine.swapped == ["f2", "f1", "f3"]
        change(registry, lambda before: rolled_back(before, BY))
        change(registry, lambda before: rolled_back(before, BY))
        assert await version_of(client) == "f1"


async def test_when_the_old_weights_cannot_be_put_back_the_service_ends(registry: Registry) -> None:
    reasons: list[str] = []
    engine = wrong_from("f2")
    app = create_app(PLANNER, engine, registry, RoleSettings(), reasons.append)
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://role") as client,
    ):
        await until(client, lambda found: found.generation == 1)
        engine.broken.add("f1")
        serve(registry, "f2")
        async with asyncio.timeout(10):
            while not reasons:
                await asyncio.sleep(0.01)
        assert (await client.post("/v1/plan", json={"run_id": "r", "trajectory": QUESTION})).status_code == 503
    assert "f1 cannot be put back" in reasons[0]


async def test_full_weights_are_released_but_neither_tried_nor_shadowed_nor_beside_an_adapter(
    registry: Registry,
) -> None:
    for make in (
        lambda before: tried(before, "f2", 0.1, BY),
        lambda before: shadowed(before, "f2", 0.1, BY),
        lambda before: tried(before, "adapter", 0.1, BY),
    ):
        with pytest.raises(BadInput, match="full weights, and a replica that holds such holds nothing beside them"):
            change(registry, make)
    release = registry.release(Role.PLANNER)
    assert release is not None
    assert release.generation == 1
    engine = ScriptedEngine([PLAN])
    async with replica(registry, engine) as client:
        await until(client, lambda found: found.generation == 1)
        forged = released(release, "f1", BY).model_copy(update={"canary": Canary(version="f2", share=0.5)})
        (Path(registry.place) / "releases" / "planner.json").write_text(forged.model_dump_json())
        await until(client, lambda found: "nothing beside them" in str(found.problem))
        assert engine.swapped == []
        assert await version_of(client) == "f1"


async def test_an_adapter_after_full_weights_needs_a_restart_and_says_so_until_then(registry: Registry) -> None:
    engine = ScriptedEngine([PLAN])
    async with replica(registry, engine) as client:
        await until(client, lambda found: found.generation == 1)
        serve(registry, "adapter")
        await until(client, lambda found: found.problem is not None)
        assert await version_of(client) == "f1"
    async with replica(registry, ScriptedEngine([PLAN])) as client:
        found = await until(client, lambda found: found.generation == 2)
        assert (found.stable, found.problem) == ("adapter", None)


async def test_a_run_that_began_with_weights_that_are_gone_goes_on_with_those_that_are_there(
    registry: Registry,
) -> None:
    engine = ScriptedEngine([PLAN])
    async with replica(registry, engine) as client:
        serve(registry, "f2")
        await until(client, lambda found: found.stable == "f2")
        engine.swapped.clear()
        assert await version_of(client, pinned="f1") == "f2"
        assert engine.swapped == []


async def test_a_replica_that_starts_on_weights_that_fail_serves_the_ones_before_them(registry: Registry) -> None:
    serve(registry, "f2")
    async with replica(registry, wrong_from("f2")) as client:
        found = await until(client, lambda found: found.problem is not None and found.stable is not None)
        assert (found.stable, found.resident) == ("f1", ("f1",))
        assert await version_of(client) == "f1"


async def test_texts_that_were_thrown_away_and_the_steps_of_runs_are_counted(registry: Registry) -> None:
    texts = iter([PLAN, PLAN, "nonsense", PLAN, WRONG, "nonsense", "nonsense"])
    async with replica(registry, ScriptedEngine(lambda *_: next(texts))) as client:
        await until(client, lambda found: found.generation == 1)
        for status in (200, 200, 502):
            reply = await client.post("/v1/plan", json={"run_id": "r", "trajectory": QUESTION})
            assert reply.status_code == status
        tally = (await until(client, lambda found: True)).tallies["f1"]
    took = {"seconds": tally.seconds, "squared_seconds": tally.squared_seconds}
    assert tally == Tally(turns=3, failed=1, unusable=3, runs=1, steps=1, **took)
    assert 0 < tally.squared_seconds <= tally.seconds**2
