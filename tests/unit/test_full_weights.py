"""What has to be alike for full weights to take the place of others, and what memory is left for an adapter."""

import json
from pathlib import Path
from typing import Any

import pytest

from services import room
from services.full_weights import Model
from tests.checkpoints import bare
from umi import manifest
from umi.errors import BadCheckpoint
from umi.manifest import ALL_ROLES, Checkpoint, Kind
from umi.prompt import PromptTemplate

SHAPES = {"embed": [4, 2], "norm": [2]}


def full(
    directory: Path, shapes: dict[str, list[int]] = SHAPES, tokenizer: str = "{}", cut: int = 0, **config: Any
) -> Checkpoint:
    """A checkpoint whose safetensors file holds zeros of these shapes, without its last `cut` bytes."""
    directory.mkdir()
    header, end = dict[str, Any](), 0
    for name, shape in shapes.items():
        size = 2 * shape[0] * (shape[1] if len(shape) > 1 else 1)
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [end, end + size]}
        end += size
    text = json.dumps(header).encode()
    (directory / "model.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + bytes(end - cut))
    (directory / "config.json").write_text(json.dumps({"hidden_size": 2, "transformers_version": "5"} | config))
    (directory / "tokenizer.json").write_text(tokenizer)
    names = ["model.safetensors", "config.json", "tokenizer.json"]
    fields: dict[str, Any] = {"roles": ALL_ROLES, "kind": Kind.FULL, "backbone": "b"}
    manifest.write(directory, PromptTemplate.default(), names, version=directory.name, **fields)
    return Checkpoint.open(directory)


def test_weights_of_the_same_model_can_take_its_place(tmp_path: Path) -> None:
    Model.of(full(tmp_path / "a")).holds(full(tmp_path / "b", transformers_version="6", dtype="float32"))


@pytest.mark.parametrize(
    ("changes", "difference"),
    [
        ({"hidden_size": 3}, "hidden_size is 3, here 2"),
        ({"tokenizer": "[]"}, "tokenizer.json is"),
        ({"shapes": {"embed": [5, 2], "norm": [2]}}, r"the shape of embed is \(5, 2\), here \(4, 2\)"),
        ({"shapes": {"embed": [4, 2]}}, "the shape of norm is None"),
    ],
)
def test_weights_of_another_model_need_a_restart_that_names_the_difference(
    tmp_path: Path, changes: dict[str, Any], difference: str
) -> None:
    with pytest.raises(BadCheckpoint, match=f"b needs a restart of this service: {difference}"):
        Model.of(full(tmp_path / "a")).holds(full(tmp_path / "b", **changes))


def test_weights_that_were_cut_before_they_were_hashed_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadCheckpoint, match="is not whole: 17 bytes of tensors, its header says 20"):
        Model.of(full(tmp_path / "a", cut=3))


def test_weights_beside_those_of_the_manifest_are_refused(tmp_path: Path) -> None:
    checkpoint = full(tmp_path / "a")
    (tmp_path / "a" / "more.safetensors").write_bytes(b"")
    with pytest.raises(BadCheckpoint, match=r"more\.safetensors: the manifest does not name"):
        Model.of(checkpoint)


@pytest.mark.parametrize(
    "content", [b"", b"nonsense", (2**40).to_bytes(8, "little"), (2).to_bytes(8, "little") + b"[]"]
)
def test_what_is_no_safetensors_file_is_refused(tmp_path: Path, content: bytes) -> None:
    checkpoint = full(tmp_path / "a")
    (tmp_path / "a" / "model.safetensors").write_bytes(content)
    with pytest.raises(BadCheckpoint, match="no safetensors file"):
        Model.of(checkpoint)


def test_full_weights_without_a_model_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadCheckpoint, match=r"need config\.json"):
        Model.of(bare(tmp_path / "a", kind=Kind.FULL))


def test_a_version_larger_than_the_memory_that_is_left_is_refused(tmp_path: Path) -> None:
    checkpoint = full(tmp_path / "a")
    size = sum((checkpoint.directory / name).stat().st_size for name in checkpoint.manifest.files)
    room.require(checkpoint, size)
    room.require(checkpoint, None)
    with pytest.raises(BadCheckpoint, match="not enough memory"):
        room.require(checkpoint, size - 1)
    assert (room.available() or 0) > 2**20
