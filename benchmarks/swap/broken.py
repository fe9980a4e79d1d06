"""Broken versions: each way in which one can be wrong, put into the registry past the check of `umi weights add`."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.swap.house import plan
from benchmarks.swap.table import Part
from benchmarks.swap.versions import describe, forge, link, release, taken_over
from services import room
from umi.errors import BadInput
from umi.manifest import FILE_NAME, TEMPLATE_NAME, sha256
from umi.registry import Registry
from umi.roles import Role
from umi.smoke import FILE_NAME as SMOKE
from umi.trajectory import Trajectory

Damage = Callable[[Path], None]


def truncated(name: str) -> Damage:
    """A file that lost its second half."""
    return lambda folder: os.truncate(_own(folder / name), (folder / name).stat().st_size // 2)


def truncated_but_described(name: str) -> Damage:
    """The same, with a manifest that was written afterwards."""

    def damage(folder: Path) -> None:
        truncated(name)(folder)
        _rehash(folder, name)

    return damage


def flipped(name: str) -> Damage:
    """A file with one bit changed."""

    def damage(folder: Path) -> None:
        with _own(folder / name).open("r+b") as file:
            file.seek((folder / name).stat().st_size // 2)
            byte = file.read(1)[0]
            file.seek(-1, os.SEEK_CUR)
            file.write(bytes([byte ^ 1]))

    return damage


def garbage(name: str) -> Damage:
    """A file of nonsense that the manifest describes truly."""

    def damage(folder: Path) -> None:
        _own(folder / name).write_bytes(b"nonsense" * 1000)
        _rehash(folder, name)

    return damage


def missing(name: str) -> Damage:
    """A file that is not there."""
    return lambda folder: (folder / name).unlink()


def described(**changes: Any) -> Damage:
    """A manifest that says something else."""
    return lambda folder: describe(folder, **changes)


def configured(name: str, in_manifest: dict[str, Any], **changes: Any) -> Damage:
    """A model's or an adapter's configuration that says something else, hashed truly."""

    def damage(folder: Path) -> None:
        file = _own(folder / name)
        file.write_text(json.dumps({**json.loads(file.read_bytes()), **changes}))
        _rehash(folder, name)
        describe(folder, **in_manifest)

    return damage


def failing(folder: Path) -> None:
    """Smoke cases that these weights do not pass."""
    cases = json.loads(_own(folder / SMOKE).read_bytes())
    for case in cases:
        turn = case["expected"]["plan"]["turn"]
        case["expected"]["plan"]["turn"] = "conclusion" if turn == "caller" else "caller"
    (folder / SMOKE).write_text(json.dumps(cases))
    _rehash(folder, SMOKE)


def linked(name: str) -> Damage:
    """A file that lies outside of the registry."""

    def damage(folder: Path) -> None:
        outside = folder.parents[3] / f"outside-{folder.name}"
        shutil.move(folder / name, outside)
        (folder / name).symlink_to(outside)

    return damage


def all_linked(folder: Path) -> None:
    """A version that lies outside of the registry."""
    outside = folder.parents[3] / f"outside-{folder.name}"
    shutil.move(folder, outside)
    folder.symlink_to(outside, target_is_directory=True)


def too_large_for_memory(folder: Path) -> None:
    """Weights that are larger than the memory that is left, hashed truly."""
    os.truncate(_own(folder / ADAPTER), (room.available() or 2**33) + 2**30)
    _rehash(folder, ADAPTER)


ADAPTER, FULL = "adapter_model.safetensors", "model.safetensors"
OF_ADAPTERS: dict[str, Damage] = {
    "truncated file": truncated(ADAPTER),
    "flipped bit in the weights": flipped(ADAPTER),
    "flipped bit in the prompt": flipped(TEMPLATE_NAME),
    "weights are garbage, truly hashed": garbage(ADAPTER),
    "weights missing": missing(ADAPTER),
    "prompt missing": missing(TEMPLATE_NAME),
    "rank differs from the manifest's": described(rank=8),
    "rank beyond the engine's room": configured("adapter_config.json", {"rank": 256}, r=256),
    "another backbone": described(backbone="Other-7B"),
    "smoke cases fail": failing,
    "a weights file is a link out of the registry": linked(ADAPTER),
    "the version is a link out of the registry": all_linked,
    "not enough memory": too_large_for_memory,
}
OF_FULL_WEIGHTS: dict[str, Damage] = {
    "truncated file": truncated(FULL),
    "truncated file, truly hashed": truncated_but_described(FULL),
    "flipped bit in the weights": flipped(FULL),
    "another architecture": configured("config.json", {}, num_hidden_layers=29),
    "prompt missing": missing(TEMPLATE_NAME),
    "smoke cases fail": failing,
}


def refuse(part: Part, registry: Registry, url: str, good: str, damages: dict[str, Damage], probe: Trajectory) -> None:
    """Release every broken version and see that it is refused while the `good` one serves on."""
    kind = registry.open(Role.PLANNER, good).manifest.kind
    served, refused = list[str](), 0
    for number, (what, damage) in enumerate(damages.items()):
        version = f"broken-{kind}-{number}"
        damage(copied(registry, good, version))
        _, problem = taken_over(url, forge(registry, version))
        _, now = plan(url, probe)
        if problem is None or now != good:
            served.append(f"{what}: {problem or 'taken over'}; {now} answers")
        else:
            refused += 1
            print(f"  refused: {what}: {problem.split('refused: ')[-1]}", flush=True)
        taken_over(url, release(registry, good))
    part.add(f"broken versions ({kind}) refused while the old one served on", f"{refused} of {len(damages)}",
             f"{len(damages)}", not served)  # fmt: skip
    part.complaints += served


def refuse_without_disk(part: Part, registry: Registry, folder: Path) -> None:
    """A checkpoint that is larger than the disk is not even begun to be copied."""
    folder.mkdir()
    with (folder / ADAPTER).open("wb") as file:
        file.truncate(shutil.disk_usage(folder).free + 2**30)
    try:
        registry.add(folder, Role.PLANNER)
    except BadInput as error:
        print(f"  refused: not enough disk: {error}", flush=True)
        part.add("a version larger than the disk", "refused", "refused")
    else:
        part.add("a version larger than the disk", "added", "refused", is_met=False)


def copied(registry: Registry, good: str, version: str) -> Path:
    """A version beside the good one, of links to its files."""
    folder = Path(registry.place) / "versions" / Role.PLANNER
    target = folder / version
    target.mkdir()
    for path in (folder / good).iterdir():
        link(path, target / path.name)
    describe(target, version=version)
    return target


def _own(path: Path) -> Path:
    """The same file as one of its own, which may be changed."""
    mine = path.with_name(f".{path.name}")
    shutil.copyfile(path, mine)
    mine.replace(path)
    return path


def _rehash(folder: Path, name: str) -> None:
    files = json.loads((folder / FILE_NAME).read_bytes())["files"]
    describe(folder, files={**files, name: sha256(folder / name)})
