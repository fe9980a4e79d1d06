"""Versions to be released: the shipped planner under other names, and as full weights."""

import json
import shutil
import time
from pathlib import Path
from typing import Any

from benchmarks.swap.house import replica
from umi.manifest import FILE_NAME
from umi.registry import Registry
from umi.release import Action, Change, Release, first, released
from umi.roles import Role

BY = Change(action=Action.RELEASE, who="bench-swap")


def fill(registry: Registry, checkpoints: Path) -> None:
    """Every role's shipped version, released."""
    for role in Role:
        version = registry.add(checkpoints / role, role).manifest.version
        registry.change(role, lambda _, role=role, version=version: first(role, version, BY))


def renamed(source: Path, version: str, folder: Path) -> Path:
    """The same weights under another name: a folder of links, of which only the manifest is new."""
    target = folder / version
    target.mkdir(parents=True)
    for path in source.iterdir():
        link(path, target / path.name)
    describe(target, version=version)
    return target


def link(source: Path, target: Path) -> None:
    """One file under two names; a copy where that cannot be."""
    try:
        target.hardlink_to(source.resolve())
    except OSError:
        shutil.copyfile(source, target)


def describe(directory: Path, **changes: Any) -> None:
    """Change the manifest of a folder that was made of links."""
    file = directory / FILE_NAME
    manifest: dict[str, Any] = json.loads(file.read_bytes())
    file.unlink()
    file.write_text(json.dumps({**manifest, **changes}))


def release(registry: Registry, version: str) -> Release:
    """Serve a version of the planner to all runs that begin from now on."""

    def make(before: Release | None) -> Release:
        return first(Role.PLANNER, version, BY) if before is None else released(before, version, BY)

    return registry.change(Role.PLANNER, make)


def forge(registry: Registry, version: str) -> Release:
    """The same past the registry's own check, as somebody would who edits the file."""
    before = registry.release(Role.PLANNER)
    assert before is not None
    after = released(before, version, BY)
    partial = Path(registry.place) / "releases" / "forged"
    partial.write_text(after.model_dump_json())
    partial.rename(Path(registry.place) / "releases" / "planner.json")
    return after


def taken_over(url: str, wanted: Release, patience: float = 120.0) -> tuple[float, str | None]:
    """Seconds until a replica serves a release or says why it does not, and that reason."""
    started = time.monotonic()
    while time.monotonic() - started < patience:
        found = replica(url)
        if found.generation == wanted.generation:
            return time.monotonic() - started, None
        if found.problem is not None and f"generation {wanted.generation} " in found.problem:
            return time.monotonic() - started, found.problem
        time.sleep(0.02)
    return patience, "nothing happened"
