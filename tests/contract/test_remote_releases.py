"""Replicas that follow a release in a store of objects: what they fetch, and what they do while it is away."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from remote import open_registry
from services import released as following
from services.scripted import ScriptedEngine
from tests.checkpoints import bare
from tests.contract.test_releases import BY, PLAN, change, replica, serve, until, version_of
from umi.registry import Registry
from umi.release import tried
from umi.roles import Role

QUICK = {"look_seconds": 0.05, "retire_seconds": 0}


@pytest.fixture
def url() -> str:
    return f"memory://{uuid4()}/weights"


@pytest.fixture
def registry(url: str, tmp_path: Path) -> Registry:
    shelf = open_registry(url, tmp_path / "cache")
    for version in ("v1", "v2", "v3", "v4", "v5"):
        shelf.add(bare(tmp_path / version, version=version).directory, Role.PLANNER)
    serve(shelf, "v1")
    return shelf


class Store:
    """The store can be made to fail, and counts the files that are fetched from it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.is_away = False
        self.fetched: list[str] = []
        for name in ("cat_file", "get_file"):
            monkeypatch.setattr(MemoryFileSystem, name, self._failing(name, getattr(MemoryFileSystem, name)))

    def _failing(self, name: str, really: Callable[..., object]) -> Callable[..., object]:
        def ask(files: object, path: str, *rest: object, **more: object) -> object:
            if self.is_away:
                raise OSError("the store is away")
            if name == "get_file":
                self.fetched.append(path)
            return really(files, path, *rest, **more)

        return ask


def copies(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("*/planner/v*"))


async def test_two_machines_converge_and_give_a_run_the_same_version(
    registry: Registry, url: str, tmp_path: Path
) -> None:
    elsewhere = open_registry(url, tmp_path / "elsewhere")
    async with (
        replica(registry, ScriptedEngine([PLAN]), **QUICK) as one,
        replica(elsewhere, ScriptedEngine([PLAN]), **QUICK) as other,
    ):
        change(registry, lambda before: tried(before, "v2", 0.4, BY))
        for client in (one, other):
            await until(client, lambda found: found.generation == 2 and found.problem is None)
        runs = [f"run-{number}" for number in range(30)]
        seen = [[await version_of(client, run) for run in runs] for client in (one, other)]
    assert seen[0] == seen[1]
    assert set(seen[0]) == {"v1", "v2"}
    assert copies(tmp_path / "cache") == copies(tmp_path / "elsewhere") == ["v1", "v2"]


async def test_what_no_release_names_any_more_is_deleted_from_the_machine(registry: Registry, tmp_path: Path) -> None:
    async with replica(registry, ScriptedEngine([PLAN]), **QUICK) as client:
        for number in range(1, 6):
            serve(registry, f"v{number}")
            await until(client, lambda found, number=number: found.stable == f"v{number}")
        async with asyncio.timeout(10):
            while copies(tmp_path / "cache") != ["v3", "v4", "v5"]:
                await asyncio.sleep(0.02)


async def test_while_the_store_is_away_the_old_release_is_served_and_the_reason_said(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(monkeypatch)
    async with replica(registry, ScriptedEngine([PLAN]), **QUICK) as client:
        await until(client, lambda found: found.generation == 1)
        store.is_away = True
        found = await until(client, lambda found: found.problem is not None)
        assert "cannot be used: the store is away" in str(found.problem)
        assert await version_of(client) == "v1"
        store.is_away = False
        serve(registry, "v2")
        assert (await until(client, lambda found: found.stable == "v2")).problem is None


async def test_a_version_that_was_altered_in_the_store_is_refused_and_fetched_again_less_and_less_often(
    registry: Registry, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "_TRY_AGAIN", 0.1)
    store = Store(monkeypatch)
    async with replica(registry, ScriptedEngine([PLAN]), **QUICK) as client:
        await until(client, lambda found: found.generation == 1)
        weights = f"{url}/versions/planner/v2/adapter_model.safetensors"
        fsspec.filesystem("memory").pipe_file(weights, b"flipped")
        serve(registry, "v2")
        found = await until(client, lambda found: found.problem is not None)
        assert "differs from the manifest" in str(found.problem)
        await asyncio.sleep(2.5)
        times = sum("/v2/adapter" in path for path in store.fetched)
        assert 2 <= times <= 6, "after 0, 0.1, 0.3, 0.7 and 1.5 seconds"
        assert await version_of(client) == "v1"
        assert copies(tmp_path / "cache") == ["v1"]


async def test_a_replica_that_starts_while_a_version_cannot_be_fetched_serves_the_copy_of_the_one_before(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "_TRY_AGAIN", 0.1)
    registry.open(Role.PLANNER, "v1")
    serve(registry, "v2")

    def fail(*_: object, **__: object) -> None:
        raise OSError("the connection broke")

    with monkeypatch.context() as away:
        away.setattr(MemoryFileSystem, "get_file", fail)
        async with replica(registry, ScriptedEngine([PLAN]), **QUICK) as client:
            found = await until(client, lambda found: found.stable is not None and found.problem is not None)
            assert (found.stable, "the connection broke" in str(found.problem)) == ("v1", True)
            assert await version_of(client) == "v1"
            away.undo()
            assert (await until(client, lambda found: found.stable == "v2")).problem is None
