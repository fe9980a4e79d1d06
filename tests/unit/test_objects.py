"""A registry as objects, and the copies of its versions on a machine."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from uuid import uuid4

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from remote import open_registry
from tests.checkpoints import bare
from tests.unit.test_registry import BY, add, serve
from umi import manifest
from umi.errors import BadCheckpoint, BadInput, NoRegistry
from umi.prompt import PromptTemplate
from umi.registry import Registry
from umi.release import released, tried
from umi.roles import Role

WEIGHTS = "adapter_model.safetensors"


@pytest.fixture
def url() -> str:
    return f"memory://{uuid4()}/weights"


@pytest.fixture
def registry(url: str, tmp_path: Path) -> Registry:
    return open_registry(url, tmp_path / "cache")


def files(url: str) -> list[str]:
    found: list[str] = fsspec.filesystem("memory").find(url)
    return [path.split("/weights/", 1)[1] for path in found]


def copies(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("*/planner/*") if path.name != ".lock")


def test_every_release_is_an_object_of_its_own_and_no_object_changes(
    registry: Registry, url: str, tmp_path: Path
) -> None:
    add(registry, tmp_path, "v1")
    for _ in range(3):
        serve(registry, "v1")
    assert [name for name in files(url) if name.startswith("releases")] == [
        f"releases/planner/0000000{generation}.json" for generation in (1, 2, 3)
    ]
    assert (found := registry.release(Role.PLANNER)) and found.generation == 3


def test_another_process_finds_the_newest_release_and_those_that_come(
    registry: Registry, url: str, tmp_path: Path
) -> None:
    add(registry, tmp_path, "v1")
    for _ in range(12):
        serve(registry, "v1")
    other = open_registry(url, tmp_path / "other")
    assert other.stamp(Role.PLANNER) == 12
    serve(registry, "v1")
    assert other.stamp(Role.PLANNER) == 13


def test_a_look_at_an_unchanged_release_is_one_request(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(registry, tmp_path, "v1")
    serve(registry, "v1")
    registry.stamp(Role.PLANNER)
    asked: list[str] = []
    for name in ("cat_file", "find", "ls", "info", "open"):
        before = getattr(MemoryFileSystem, name)

        def counted(self: object, path: str, *rest: object, name: str = name, before: object = before, **more: object):
            asked.append(f"{name} {path.rsplit('/', 1)[-1]}")
            return before(self, path, *rest, **more)

        monkeypatch.setattr(MemoryFileSystem, name, counted)
    registry.stamp(Role.PLANNER)
    assert asked == ["cat_file 00000002.json"]


def test_a_version_is_one_when_its_manifest_is_there_and_a_cut_off_upload_can_be_completed(
    registry: Registry, url: str, tmp_path: Path
) -> None:
    add(registry, tmp_path, "v1")
    memory = fsspec.filesystem("memory")
    memory.rm(f"{url}/versions/planner/v1/manifest.json")
    assert registry.versions(Role.PLANNER) == []
    with pytest.raises(BadCheckpoint, match="no such version"):
        serve(registry, "v1")
    other = bare(tmp_path / "other", version="v1").directory
    (other / WEIGHTS).write_bytes(b"other")
    fields = {"version": "v1", "roles": manifest.ALL_ROLES, "kind": "adapter", "backbone": "b"}
    manifest.write(other, PromptTemplate.default(), [WEIGHTS], **fields)
    with pytest.raises(BadInput, match="the rest of an upload of other weights"):
        registry.add(other, Role.PLANNER)
    add(registry, tmp_path, "v1")
    assert registry.open(Role.PLANNER, "v1").manifest.version == "v1"


def test_a_version_without_all_its_files_cannot_be_released(registry: Registry, url: str, tmp_path: Path) -> None:
    add(registry, tmp_path, "v1")
    fsspec.filesystem("memory").rm(f"{url}/versions/planner/v1/{WEIGHTS}")
    with pytest.raises(BadCheckpoint, match=f"{WEIGHTS}: missing"):
        serve(registry, "v1")


def test_versions_are_listed_in_the_order_in_which_they_came(registry: Registry, tmp_path: Path) -> None:
    for version in ("v9", "v10", "a"):
        add(registry, tmp_path, version)
    assert registry.versions(Role.PLANNER) == ["v9", "v10", "a"]


def test_looking_at_a_version_and_releasing_it_fetch_no_weights_and_opening_it_does(
    registry: Registry, tmp_path: Path
) -> None:
    add(registry, tmp_path, "v1")
    serve(registry, "v1")
    assert registry.manifest(Role.PLANNER, "v1").version == "v1"
    assert copies(tmp_path / "cache") == []
    directory = registry.open(Role.PLANNER, "v1").directory
    assert (directory.name, copies(tmp_path / "cache")) == ("v1", ["v1"])


def test_what_was_fetched_is_served_without_the_store_until_it_is_damaged(
    registry: Registry, url: str, tmp_path: Path
) -> None:
    add(registry, tmp_path, "v1")
    directory = registry.open(Role.PLANNER, "v1").directory
    (directory / WEIGHTS).write_bytes(b"flipped")
    assert (registry.open(Role.PLANNER, "v1").directory / WEIGHTS).read_bytes() == b""
    fsspec.filesystem("memory").rm(url, recursive=True)
    assert registry.open(Role.PLANNER, "v1").manifest.version == "v1"
    (directory / WEIGHTS).write_bytes(b"flipped")
    with pytest.raises(BadCheckpoint, match="no such version"):
        registry.open(Role.PLANNER, "v1")


def test_what_the_store_has_altered_is_refused_and_not_kept(registry: Registry, url: str, tmp_path: Path) -> None:
    add(registry, tmp_path, "v1")
    fsspec.filesystem("memory").pipe_file(f"{url}/versions/planner/v1/{WEIGHTS}", b"flipped")
    with pytest.raises(BadCheckpoint, match="differs from the manifest"):
        registry.open(Role.PLANNER, "v1")
    assert copies(tmp_path / "cache") == []


def test_replicas_that_want_a_version_at_once_fetch_it_once(
    registry: Registry, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(registry, tmp_path, "v1")
    fetched: list[str] = []
    before = MemoryFileSystem.get_file

    def counted(self: MemoryFileSystem, path: str, *rest: object, **more: object) -> object:
        fetched.append(path.rsplit("/", 1)[-1])
        return before(self, path, *rest, **more)

    monkeypatch.setattr(MemoryFileSystem, "get_file", counted)
    replicas = [open_registry(url, tmp_path / "cache") for _ in range(6)]
    with ThreadPoolExecutor(6) as pool:
        opened = list(pool.map(lambda replica: replica.open(Role.PLANNER, "v1").directory, replicas))
    assert len(set(opened)) == 1
    assert sorted(fetched) == [WEIGHTS, "manifest.json", "prompt.jinja"]


def test_copies_that_neither_the_release_nor_the_last_ones_name_are_deleted(registry: Registry, tmp_path: Path) -> None:
    for number in range(1, 7):
        add(registry, tmp_path, f"v{number}")
    serve(registry, "v1")
    for number in range(1, 5):
        registry.open(Role.PLANNER, f"v{number}")
        serve(registry, f"v{number}")
    release = registry.change(Role.PLANNER, lambda before: tried(before, "v5", 0.1, BY))
    registry.open(Role.PLANNER, "v5")
    registry.forget_fetched(release)
    assert copies(tmp_path / "cache") == ["v3", "v4", "v5"]
    assert registry.versions(Role.PLANNER) == [f"v{number}" for number in range(1, 7)]


def test_an_answer_that_was_lost_does_not_make_the_winner_a_loser(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(registry, tmp_path, "v1")
    before = MemoryFileSystem.pipe_file

    def twice(self: MemoryFileSystem, *rest: object, **more: object) -> None:
        """As a client does that tries again since it got no answer."""
        before(self, *rest, **more)
        before(self, *rest, **more)

    monkeypatch.setattr(MemoryFileSystem, "pipe_file", twice)
    assert serve(registry, "v1").generation == 1


def test_a_store_that_fails_is_named_with_the_reason(
    registry: Registry, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(registry, tmp_path, "v1")
    release = serve(registry, "v1")

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("the bucket is on fire\nand more")

    monkeypatch.setattr(MemoryFileSystem, "cat_file", fail)
    for ask in (
        lambda: registry.release(Role.PLANNER),
        lambda: registry.open(Role.PLANNER, "v1"),
        lambda: registry.change(Role.PLANNER, lambda _: released(release, "v1", BY)),
    ):
        with pytest.raises(NoRegistry, match=f"^{url} cannot be used: the bucket is on fire$"):
            ask()
    assert registry.stamp(Role.PLANNER) is None


@pytest.mark.parametrize(
    ("place", "reason"),
    [
        ("ftp://host/weights", "two operators could overwrite each other"),
        ("nowhere://x", "two operators could overwrite each other"),
        ("gcs://bucket/weights", "gcsfs"),
    ],
)
def test_a_url_that_cannot_hold_a_registry_says_what_can(place: str, reason: str, tmp_path: Path) -> None:
    with pytest.raises(NoRegistry, match=reason):
        open_registry(place, tmp_path)


def test_a_file_url_is_a_directory(tmp_path: Path) -> None:
    registry = open_registry(f"file://{tmp_path}/registry")
    add(registry, tmp_path, "v1")
    assert (tmp_path / "registry" / "versions" / "planner" / "v1" / "manifest.json").is_file()
