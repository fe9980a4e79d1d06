"""Replicas that follow a release, with scripted engines: what is taken over, what is refused, what a run sees."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from services.app import create_app
from services.planner import PLANNER
from services.scripted import ScriptedEngine
from services.settings import RoleSettings
from services.shadow import ShadowTurns
from services.turn import RoleTurns
from tests.checkpoints import bare
from umi import manifest
from umi.prompt import PromptTemplate
from umi.registry import Registry
from umi.release import Action, Change, Release, first, released, rolled_back, shadowed, tried, unshadowed
from umi.roles import Role
from umi.trajectory import Trajectory
from umi.wire import Agreement, Replica

PLAN = "I need nothing. Next: conclusion."
BY = Change(action=Action.RELEASE, who="ada")
QUESTION = {"query": "Is it raining?", "tools": [], "steps": []}


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    shelf = Registry(tmp_path / "registry")
    for version in ("v1", "v2", "v3"):
        shelf.add(bare(tmp_path / version, version=version).directory, Role.PLANNER)
    serve(shelf, "v1")
    return shelf


def serve(registry: Registry, version: str) -> Release:
    return change(
        registry, lambda before: released(before, version, BY) if before else first(Role.PLANNER, version, BY)
    )


def change(registry: Registry, make: Callable[[Any], Release]) -> Release:
    return registry.change(Role.PLANNER, make)


@asynccontextmanager
async def replica(registry: Registry, engine: ScriptedEngine, **settings: Any) -> AsyncIterator[httpx.AsyncClient]:
    app = create_app(PLANNER, engine, registry, RoleSettings(**settings))
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://role") as client,
    ):
        yield client


async def until(client: httpx.AsyncClient, holds: Callable[[Replica], bool]) -> Replica:
    async with asyncio.timeout(30):
        while True:
            found = Replica.model_validate_json((await client.get("/v1/replica")).content)
            if holds(found):
                return found
            await asyncio.sleep(0.02)


async def version_of(client: httpx.AsyncClient, run: str = "r1", pinned: str | None = None) -> str:
    body = {"run_id": run, "trajectory": QUESTION, "version": pinned}
    reply = await client.post("/v1/plan", json=body)
    assert reply.status_code == 200, reply.text
    return str(reply.json()["version"])


async def test_a_new_release_is_taken_over_and_the_old_version_unloaded_once_idle(registry: Registry) -> None:
    engine = ScriptedEngine([PLAN])
    async with replica(registry, engine, retire_seconds=0) as client:
        await until(client, lambda found: found.generation == 1)
        assert await version_of(client) == "v1"
        serve(registry, "v2")
        found = await until(client, lambda found: found.generation == 2)
        assert (found.stable, found.problem, found.swaps) == ("v2", None, 2)
        assert await version_of(client) == "v2"
        await until(client, lambda found: found.resident == ("v2",))
        assert engine.held == ["v2"]
        metrics = (await client.get("/metrics")).text
        assert 'umi_role_info{role="planner",used_as="stable",version="v2"} 1.0' in metrics
        assert 'version="v1"' not in metrics


async def test_two_replicas_converge_and_choose_the_same_canary_runs(registry: Registry) -> None:
    async with replica(registry, ScriptedEngine([PLAN])) as one, replica(registry, ScriptedEngine([PLAN])) as other:
        change(registry, lambda before: tried(before, "v2", 0.4, BY))
        for client in (one, other):
            await until(client, lambda found: found.generation == 2)
        runs = [f"run-{number}" for number in range(30)]
        seen = [[await version_of(client, run) for run in runs] for client in (one, other)]
    assert seen[0] == seen[1]
    assert set(seen[0]) == {"v1", "v2"}


async def test_a_run_keeps_the_version_it_began_with_even_when_it_has_to_be_loaded_again(registry: Registry) -> None:
    engine = ScriptedEngine([PLAN])
    async with replica(registry, engine, retire_seconds=0) as client:
        serve(registry, "v2")
        await until(client, lambda found: found.stable == "v2" and found.resident == ("v2",))
        assert await version_of(client, "old-run", pinned="v1") == "v1"
        assert await version_of(client, "new-run") == "v2"


async def test_a_request_cannot_have_versions_loaded_that_were_never_released(registry: Registry) -> None:
    engine = ScriptedEngine([PLAN])
    async with replica(registry, engine) as client:
        await until(client, lambda found: found.generation == 1)
        assert await version_of(client, pinned="v3") == "v1"
        assert engine.held == ["v1"]


async def test_a_version_in_use_is_not_unloaded(registry: Registry) -> None:
    engine = ScriptedEngine(["It takes me a good while to see that " + PLAN], seconds_per_token=0.2)
    async with replica(registry, engine, retire_seconds=0) as client:
        await until(client, lambda found: found.generation == 1)
        slow = asyncio.create_task(version_of(client))
        while "v1" not in engine.versions[1:]:
            await asyncio.sleep(0.01)
        serve(registry, "v2")
        await until(client, lambda found: found.stable == "v2")
        assert "v1" in engine.held
        assert await slow == "v1"


def smoking(directory: Path, version: str, expected: dict[str, Any], text: str | None = None) -> Path:
    bare(directory, version=version)
    case = {"trajectory": QUESTION, "expected": expected, "text": text}
    (directory / "smoke.json").write_text(json.dumps([case]))
    names = ["adapter_model.safetensors", "smoke.json"]
    fields: dict[str, Any] = {"roles": manifest.ALL_ROLES, "kind": "adapter", "backbone": "SmolLM2-135M-Instruct"}
    manifest.write(directory, PromptTemplate.default(), names, version=version, rank=16, **fields)
    return directory


async def test_a_version_that_fails_its_smoke_case_is_refused_and_the_old_one_serves_on(
    registry: Registry, tmp_path: Path
) -> None:
    registry.add(smoking(tmp_path / "good", "v4", {"plan": {"turn": "conclusion"}}), Role.PLANNER)
    registry.add(smoking(tmp_path / "bad", "v5", {"plan": {"turn": "caller"}}), Role.PLANNER)
    engine = ScriptedEngine([PLAN])
    async with replica(registry, engine) as client:
        await until(client, lambda found: found.generation == 1)
        serve(registry, "v4")
        await until(client, lambda found: found.stable == "v4")
        serve(registry, "v5")
        found = await until(client, lambda found: found.problem is not None)
        assert found.stable == "v4"
        assert "generation 3 is refused: v5: smoke case 0 expects" in str(found.problem)
        assert await version_of(client) == "v4"
        assert "v5" not in engine.held
        assert "umi_role_behind" in (await client.get("/metrics")).text
        change(registry, lambda before: rolled_back(before, BY))
        assert (await until(client, lambda found: found.generation == 4)).problem is None


async def test_a_smoke_case_with_a_text_is_read_and_must_mean_what_is_expected(
    registry: Registry, tmp_path: Path
) -> None:
    right, other = {"plan": {"turn": "conclusion"}}, "I have it. Next: conclusion."
    registry.add(smoking(tmp_path / "right", "v4", right, PLAN), Role.PLANNER)
    registry.add(smoking(tmp_path / "other", "v5", right, other), Role.PLANNER)
    registry.add(smoking(tmp_path / "wrong", "v6", {"plan": {"turn": "caller"}}, PLAN), Role.PLANNER)
    engine = ScriptedEngine([PLAN])
    async with replica(registry, engine) as client:
        serve(registry, "v4")
        await until(client, lambda found: found.stable == "v4")
        serve(registry, "v5")
        found = await until(client, lambda found: found.problem is not None)
        assert f"v5: smoke case 0: planner: would not write '{other}'" in str(found.problem)
        serve(registry, "v6")
        found = await until(client, lambda found: "v6" in str(found.problem))
        assert "v6: smoke case 0 expects {'plan': {'turn': 'caller'}}" in str(found.problem)
        assert (found.stable, await version_of(client)) == ("v4", "v4")


async def test_what_the_engine_cannot_load_or_the_disk_has_altered_is_refused(registry: Registry) -> None:
    engine = ScriptedEngine([PLAN])
    engine.broken.add("v2")
    async with replica(registry, engine, retire_seconds=0) as client:
        await until(client, lambda found: found.generation == 1)
        serve(registry, "v2")
        assert "v2 is broken" in str((await until(client, lambda found: found.problem is not None)).problem)
        serve(registry, "v3")
        await until(client, lambda found: found.resident == ("v3",))
        weights = Path(registry.place) / "versions" / "planner" / "v1" / "adapter_model.safetensors"
        before = registry.release(Role.PLANNER)
        assert before is not None
        weights.write_bytes(b"flipped")
        forged = released(before, "v1", BY)  # past the registry's own check
        file = Path(registry.place) / "releases" / "planner.json"
        file.write_text(forged.model_dump_json())
        assert "differs from the manifest" in str(
            (await until(client, lambda found: found.problem is not None)).problem
        )
        assert await version_of(client) == "v3"


async def test_a_shadow_takes_turns_nobody_waits_for_and_its_differences_can_be_looked_at(registry: Registry) -> None:
    engine = ScriptedEngine(lambda *_: "I need it. Next: caller." if engine.versions[-1] == "v2" else PLAN)
    async with replica(registry, engine) as client:
        change(registry, lambda before: shadowed(before, "v2", 1.0, BY))
        await until(client, lambda found: found.shadow == "v2")
        assert await version_of(client) == "v1"
        found = await until(client, lambda found: bool(found.agreement and found.agreement.turns))
        assert found.agreement == Agreement(version="v2", turns=1)
        (difference,) = (await client.get("/v1/replica/differences")).json()
        assert (difference["served"], difference["shadow"]) == ({"turn": "conclusion"}, {"turn": "caller"})
        metrics = (await client.get("/metrics")).text
        assert 'umi_role_shadow_turns{role="planner",version="v2",what="turns"} 1.0' in metrics
        change(registry, lambda before: unshadowed(before, BY))
        assert (await until(client, lambda found: found.shadow is None)).agreement is None


async def test_a_shadow_that_agrees_is_counted_and_one_that_fails_as_well(registry: Registry) -> None:
    broken = [False]
    engine = ScriptedEngine(lambda *_: "nonsense" if broken[0] and engine.versions[-1] == "v2" else PLAN)
    async with replica(registry, engine) as client:
        change(registry, lambda before: shadowed(before, "v2", 1.0, BY))
        await until(client, lambda found: found.shadow == "v2")
        await version_of(client)
        await until(client, lambda found: found.agreement == Agreement(version="v2", turns=1, same=1, same_tool=1))
        broken[0] = True
        assert await version_of(client) == "v1"
        wanted = Agreement(version="v2", turns=2, same=1, same_tool=1, failed=1)
        await until(client, lambda found: found.agreement == wanted)
        assert (await client.get("/v1/replica/differences")).json() == []


async def test_a_shadow_waits_for_no_one_and_no_one_for_it(registry: Registry) -> None:
    engine = ScriptedEngine([PLAN], seconds_per_token=0.05)
    async with replica(registry, engine) as client:
        change(registry, lambda before: shadowed(before, "v2", 1.0, BY))
        await until(client, lambda found: found.shadow == "v2")
        await asyncio.gather(*(version_of(client, f"run-{number}") for number in range(4)))
        found = await until(client, lambda found: bool(found.agreement and found.agreement.turns))
        assert found.agreement is not None
        assert found.agreement.skipped == 3


async def test_a_shadow_takes_no_turn_while_others_are_waited_for(tmp_path: Path) -> None:
    engine, checkpoint = ScriptedEngine([PLAN]), bare(tmp_path / "v1", version="v1")
    await engine.load(checkpoint)
    turns, question = RoleTurns(PLANNER, engine, checkpoint), Trajectory.model_validate(QUESTION)
    shadow, reply = ShadowTurns(turns), await turns.take(question, lambda: None)
    shadow.follow("r1", question, reply, is_idle=False)
    assert (shadow.is_busy, shadow.agreement) == (False, Agreement(version="v1", skipped=1))


async def test_a_broken_release_file_changes_nothing_until_it_is_whole_again(registry: Registry) -> None:
    file = Path(registry.place) / "releases" / "planner.json"
    async with replica(registry, ScriptedEngine([PLAN])) as client:
        await until(client, lambda found: found.generation == 1)
        text = file.read_text()
        file.write_text("{")
        assert "planner.json" in str((await until(client, lambda found: found.problem is not None)).problem)
        assert await version_of(client) == "v1"
        file.write_text(text)
        assert (await until(client, lambda found: found.problem is None)).stable == "v1"


async def test_a_replica_that_starts_on_a_broken_release_serves_the_version_before_it(registry: Registry) -> None:
    serve(registry, "v2")
    (Path(registry.place) / "versions" / "planner" / "v2" / "prompt.jinja").unlink()
    async with replica(registry, ScriptedEngine([PLAN])) as client:
        found = await until(client, lambda found: found.stable is not None and found.problem is not None)
        assert (found.stable, found.generation) == ("v1", None)
        assert "prompt.jinja" in str(found.problem)
        assert await version_of(client) == "v1"
        serve(registry, "v3")
        assert (await until(client, lambda found: found.problem is None)).stable == "v3"


async def test_a_replica_without_a_release_waits_for_one_and_says_how_to_make_it(tmp_path: Path) -> None:
    shelf = Registry(tmp_path / "empty")
    async with replica(shelf, ScriptedEngine([PLAN])) as client:
        refused = await client.get("/readyz")
        assert refused.status_code == 503
        await until(client, lambda found: found.problem is not None)
        assert "umi weights release planner VERSION" in (await client.get("/readyz")).text
        shelf.add(bare(tmp_path / "v1", version="v1").directory, Role.PLANNER)
        serve(shelf, "v1")
        await until(client, lambda found: found.generation == 1)
        assert await version_of(client) == "v1"
