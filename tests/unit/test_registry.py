"""The registry, on disk and in a store of objects: versions that never change, releases of which one operator wins."""

import random
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path
from uuid import uuid4

import pytest

from remote import open_registry
from tests.checkpoints import bare
from umi.errors import BadCheckpoint, BadInput, Outdated
from umi.registry import Registry
from umi.release import Action, Change, Release, first, released
from umi.roles import Role

BY = Change(action=Action.RELEASE, who="ada")


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(tmp_path / "registry")


@pytest.fixture(params=["directory", "objects"])
def either(request: pytest.FixtureRequest, tmp_path: Path) -> Registry:
    """For what must hold wherever a registry lies."""
    place = str(tmp_path / "registry") if request.param == "directory" else f"memory://{uuid4()}/weights"
    return open_registry(place, tmp_path / "cache")


def add(registry: Registry, tmp_path: Path, version: str) -> None:
    registry.add(bare(tmp_path / version, version=version).directory, Role.PLANNER)


def serve(registry: Registry, version: str, expected: int | None = None) -> Release:
    def make(before: Release | None) -> Release:
        return first(Role.PLANNER, version, BY) if before is None else released(before, version, BY)

    return registry.change(Role.PLANNER, make, expected)


def test_a_version_is_copied_whole_and_can_be_opened(either: Registry, tmp_path: Path) -> None:
    add(either, tmp_path, "v1")
    add(either, tmp_path, "v2")
    assert sorted(either.versions(Role.PLANNER)) == ["v1", "v2"]
    assert either.open(Role.PLANNER, "v1").manifest.version == "v1"
    assert either.versions(Role.CALLER) == []


def test_a_version_is_only_added_twice_when_it_is_the_same(either: Registry, tmp_path: Path) -> None:
    add(either, tmp_path, "v1")
    add(either, tmp_path, "v1")
    other = bare(tmp_path / "other", version="v1", metrics={"loss": 1.0})
    with pytest.raises(BadInput, match="other weights under this version"):
        either.add(other.directory, Role.PLANNER)


def test_what_is_broken_or_for_another_role_is_not_added(either: Registry, tmp_path: Path) -> None:
    summarizer = bare(tmp_path / "s", version="s1", roles=(Role.SUMMARIZER,))
    with pytest.raises(BadCheckpoint, match="not for planner"):
        either.add(summarizer.directory, Role.PLANNER)
    broken = bare(tmp_path / "b", version="b1").directory
    (broken / "adapter_model.safetensors").write_bytes(b"changed")
    with pytest.raises(BadCheckpoint, match="differs from the manifest"):
        either.add(broken, Role.PLANNER)
    assert either.versions(Role.PLANNER) == []


def test_a_version_larger_than_the_disk_is_not_even_read(registry: Registry, tmp_path: Path) -> None:
    huge = bare(tmp_path / "huge", version="huge").directory
    with (huge / "adapter_model.safetensors").open("wb") as file:
        file.truncate(shutil.disk_usage(tmp_path).free + 2**30)
    with pytest.raises(BadCheckpoint, match="remove old versions below"):
        registry.add(huge, Role.PLANNER)


@pytest.mark.parametrize("name", ["../../etc", "a/b", "", ".hidden", "x" * 65])
def test_a_name_cannot_leave_the_registry(either: Registry, name: str) -> None:
    with pytest.raises(BadCheckpoint, match="cannot be the name"):
        either.open(Role.PLANNER, name)


def test_a_link_or_a_renamed_version_is_refused(registry: Registry, tmp_path: Path) -> None:
    add(registry, tmp_path, "v1")
    folder = Path(registry.place) / "versions" / "planner"
    (folder / "v2").symlink_to(tmp_path / "v1", target_is_directory=True)
    with pytest.raises(BadCheckpoint, match="no such version"):
        registry.open(Role.PLANNER, "v2")
    (folder / "v1").rename(folder / "v3")
    with pytest.raises(BadCheckpoint, match="holds the version v1"):
        registry.open(Role.PLANNER, "v3")


def test_only_what_is_there_and_whole_can_be_released(either: Registry, tmp_path: Path) -> None:
    with pytest.raises(BadCheckpoint, match="no such version"):
        serve(either, "v1")
    assert either.release(Role.PLANNER) is None
    add(either, tmp_path, "v1")
    assert serve(either, "v1").generation == 1
    found = either.release(Role.PLANNER)
    assert found is not None
    assert (found.stable, found.who) == ("v1", "ada")


def test_of_two_operators_who_decided_on_the_same_generation_one_is_told_that_it_lost(
    registry: Registry, tmp_path: Path
) -> None:
    for version in ("v1", "v2", "v3"):
        add(registry, tmp_path, version)
    serve(registry, "v1")
    outcomes: list[str] = []

    def operator(version: str) -> None:
        try:
            outcomes.append(serve(registry, version, expected=1).stable)
        except Outdated as error:
            outcomes.append(str(error))

    both = [threading.Thread(target=operator, args=(version,)) for version in ("v2", "v3")]
    for thread in both:
        thread.start()
    for thread in both:
        thread.join()
    won = registry.release(Role.PLANNER)
    assert won is not None
    assert won.generation == 2
    assert won.stable in outcomes
    assert sum("generation 2 (release by ada), not 1" in outcome for outcome in outcomes) == 1


def test_whoever_reads_while_the_release_is_replaced_reads_the_old_one_whole(
    registry: Registry, tmp_path: Path
) -> None:
    add(registry, tmp_path, "v1")
    serve(registry, "v1")
    path = Path(registry.place) / "releases" / "planner.json"
    before = path.read_bytes()
    with path.open("rb") as reader:
        serve(registry, "v1")
        assert reader.read() == before
    assert path.read_bytes() != before
    assert [left.name for left in path.parent.iterdir() if left.name != ".planner.lock"] == ["planner.json"]


def test_whoever_decides_while_somebody_else_changes_the_release_loses_or_decides_again(
    either: Registry, tmp_path: Path
) -> None:
    for version in ("v1", "v2", "v3", "v4"):
        add(either, tmp_path, version)
    serve(either, "v1")
    seen: list[str] = []

    def overtaken(before: Release | None) -> Release:
        assert before is not None
        seen.append(before.stable)
        if len(seen) == 1:
            serve(either, "v2")
        return released(before, "v3", BY)

    with pytest.raises(Outdated, match="is at generation 2"):
        either.change(Role.PLANNER, overtaken, expected=1)
    assert seen == ["v1"]
    seen.clear()
    assert either.change(Role.PLANNER, overtaken).generation == 4
    assert seen == ["v2", "v2"]
    won = either.release(Role.PLANNER)
    assert won is not None
    assert [state.stable for state in (*won.history, won)] == ["v1", "v2", "v2", "v3"]


@pytest.mark.parametrize(
    ("text", "reason"), [("{", "Invalid JSON"), ('{"role": "planner"}', "generation"), ("", "JSON")]
)
def test_a_broken_release_file_is_an_error_that_names_it(registry: Registry, text: str, reason: str) -> None:
    file = Path(registry.place) / "releases" / "planner.json"
    file.parent.mkdir(parents=True)
    file.write_text(text)
    with pytest.raises(BadInput, match=f"planner.json.*{reason}"):
        registry.release(Role.PLANNER)


def test_the_stamp_differs_after_every_change(either: Registry, tmp_path: Path) -> None:
    add(either, tmp_path, "v1")
    stamps = {either.stamp(Role.PLANNER)}
    for _ in range(5):
        serve(either, "v1")
        stamps.add(either.stamp(Role.PLANNER))
    assert len(stamps) == 6


OPERATOR = """
import sys
from pathlib import Path
from tests.unit.test_registry import add, serve
from umi.registry import Registry

folder, number = Path(sys.argv[1]), int(sys.argv[2])
registry = Registry(folder / "registry")
for turn in range(1000):
    add(registry, folder, f"v{number}-{turn}")
    serve(registry, f"v{number}-{turn}")
    if turn == 0:
        print("has begun", flush=True)
"""


def test_an_operator_killed_at_any_moment_leaves_a_whole_release_of_a_whole_version(
    registry: Registry, tmp_path: Path
) -> None:
    rng, generation = random.Random(4), 0
    for number in range(6):
        command = [sys.executable, "-c", OPERATOR, str(tmp_path), str(number)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as operator:
            assert operator.stdout is not None
            assert operator.stdout.readline() == "has begun\n"
            time.sleep(rng.uniform(0.02, 0.2))
            operator.kill()
        found = registry.release(Role.PLANNER)
        assert found is not None
        assert found.generation >= generation
        generation = found.generation
        registry.open(Role.PLANNER, found.stable)
        for version in registry.versions(Role.PLANNER):
            registry.open(Role.PLANNER, version)
