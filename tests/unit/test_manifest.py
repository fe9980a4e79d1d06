"""A checkpoint is opened only as it was written."""

import json
from pathlib import Path

import pytest

from tests.checkpoints import bare
from umi.errors import BadCheckpoint
from umi.manifest import FILE_NAME, TEMPLATE_NAME, Checkpoint
from umi.prompt import PromptTemplate
from umi.roles import Role

WEIGHTS = "adapter_model.safetensors"


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return bare(tmp_path / "planner", roles=(Role.PLANNER,), parents=("global-1",)).directory


def test_what_was_written_is_read_back(directory: Path) -> None:
    checkpoint = Checkpoint.open(directory)
    assert checkpoint.manifest.parents == ("global-1",)
    assert checkpoint.template.sha256 == PromptTemplate.default().sha256
    assert list(checkpoint.manifest.files) == [WEIGHTS]


def test_a_checkpoint_serves_only_the_roles_it_was_trained_for(directory: Path) -> None:
    checkpoint = Checkpoint.open(directory)
    checkpoint.manifest.serves(Role.PLANNER)
    with pytest.raises(BadCheckpoint, match="is for planner, not for caller"):
        checkpoint.manifest.serves(Role.CALLER)


def test_a_flipped_byte_is_noticed(directory: Path) -> None:
    (directory / WEIGHTS).write_bytes(b"\x01")
    with pytest.raises(BadCheckpoint, match=f"{WEIGHTS}: content differs"):
        Checkpoint.open(directory)


def test_a_changed_template_is_noticed(directory: Path) -> None:
    with (directory / TEMPLATE_NAME).open("a") as file:
        file.write(" ")
    with pytest.raises(BadCheckpoint, match=f"{TEMPLATE_NAME}: is not the template"):
        Checkpoint.open(directory)


@pytest.mark.parametrize("name", [FILE_NAME, TEMPLATE_NAME, WEIGHTS])
def test_a_missing_file_is_named(directory: Path, name: str) -> None:
    (directory / name).unlink()
    with pytest.raises(BadCheckpoint, match=name):
        Checkpoint.open(directory)


def test_a_missing_directory_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadCheckpoint, match="nowhere"):
        Checkpoint.open(tmp_path / "nowhere")


def test_a_symlink_is_no_file_of_the_checkpoint(directory: Path) -> None:
    target = (directory / WEIGHTS).rename(directory.parent / "elsewhere")
    (directory / WEIGHTS).symlink_to(target)
    with pytest.raises(BadCheckpoint, match=f"{WEIGHTS}: missing, or not a plain file"):
        Checkpoint.open(directory)


@pytest.mark.parametrize("name", ["../elsewhere", "/etc/hostname", "sub/file", "..", "."])
def test_a_manifest_cannot_name_files_outside_its_directory(directory: Path, name: str) -> None:
    altered(directory, files={name: "0" * 64})
    with pytest.raises(BadCheckpoint, match="not a plain file"):
        Checkpoint.open(directory)


@pytest.mark.parametrize(
    "wrong", [{"version": "../up"}, {"version": ""}, {"roles": ["critic"]}, {"kind": "patch"}, {"ranks": 3}]
)
def test_a_wrong_field_is_named(directory: Path, wrong: dict[str, object]) -> None:
    altered(directory, **wrong)
    with pytest.raises(BadCheckpoint, match=next(iter(wrong))):
        Checkpoint.open(directory)


@pytest.mark.parametrize(
    ("name", "content"), [(FILE_NAME, b"{"), (TEMPLATE_NAME, b"{% for %}"), (TEMPLATE_NAME, b"\xff")]
)
def test_files_that_cannot_be_read_make_a_bad_checkpoint(directory: Path, name: str, content: bytes) -> None:
    (directory / name).write_bytes(content)
    with pytest.raises(BadCheckpoint, match=name):
        Checkpoint.open(directory)


def altered(directory: Path, **changes: object) -> None:
    path = directory / FILE_NAME
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
