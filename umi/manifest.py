"""The checkpoint manifest: what a directory of weights is, what it was made from, and how to prompt it.

A checkpoint is a directory with `manifest.json`, the weights it lists, and its prompt template. A role service serves
nothing that this module has not read; the trainer writes nothing that it cannot read back.
"""

import hashlib
import json
import re
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

from jinja2 import TemplateError
from pydantic import AfterValidator, Field, ValidationError

from umi.context import LEAST_BUDGET
from umi.errors import BadCheckpoint
from umi.prompt import PromptTemplate
from umi.roles import Role
from umi.trajectory import Frozen

FILE_NAME = "manifest.json"
TEMPLATE_NAME = "prompt.jinja"
VERSION = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$"
_NAME = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,254}"
ALL_ROLES = (Role.PLANNER, Role.CALLER, Role.SUMMARIZER)


def _pattern(text: str) -> str:
    try:
        groups = re.compile(text).groups
    except re.error as error:
        raise ValueError(f"is no regular expression: {error}") from error
    if groups != 1:
        raise ValueError("needs one group, the name")
    return text


Pattern = Annotated[str, Field(max_length=200), AfterValidator(_pattern)]


def _plain(name: str) -> str:
    if not re.fullmatch(_NAME, name):
        raise ValueError(f"{name!r} is not a plain file of the checkpoint")
    return name


FileName = Annotated[str, AfterValidator(_plain)]


class Kind(StrEnum):
    """An adapter sits on a backbone that the service holds already; a full checkpoint replaces it."""

    ADAPTER = "adapter"
    FULL = "full"


class Manifest(Frozen):
    """The content of `manifest.json`."""

    version: Annotated[str, Field(pattern=VERSION)]
    roles: tuple[Role, ...]
    kind: Kind
    backbone: str
    rank: int | None = None
    prompt_sha256: str
    stop: str = "<|im_end|>"
    max_input_tokens: int = 3072
    observation_tokens: Annotated[int, Field(ge=LEAST_BUDGET)] | None = None
    """What is read of one observation (`umi.context.compress`); None: as much as there is."""
    spaced_strings: bool = False
    """Whether the caller learnt to write strings with a space in front (`umi.spacing`), which is then not of them."""
    tool_mention: Pattern | None = None
    """How a planner's rationale names the tool it wants: a regular expression with one group. None: no fixed way."""
    files: dict[FileName, str]
    """File name to sha256, for every weight and config file."""
    parents: tuple[str, ...] = ()
    training: dict[str, Any] = Field(default_factory=dict[str, Any])
    """How it was made: stage, data hash, hyperparameters, library versions, seed."""
    metrics: dict[str, float] = Field(default_factory=dict[str, float])

    def serves(self, role: Role) -> None:
        """Raises BadCheckpoint unless it was trained for `role`."""
        if role not in self.roles:
            raise BadCheckpoint(f"{self.version} is for {', '.join(self.roles)}, not for {role}")


class Checkpoint:
    """A verified checkpoint directory: `directory`, `manifest` and `template`."""

    def __init__(self, directory: Path, manifest: Manifest, template: PromptTemplate) -> None:
        self.directory, self.manifest, self.template = directory, manifest, template

    @classmethod
    def open(cls, directory: Path) -> "Checkpoint":
        """Read and verify a checkpoint: manifest, template and the hash of every file.

        Raises BadCheckpoint saying which file is missing or altered.
        """
        checkpoint = cls.described(directory)
        for name, expected in checkpoint.manifest.files.items():
            if sha256(directory / name) != expected:
                raise BadCheckpoint(f"{directory / name}: content differs from the manifest; copy the checkpoint again")
        return checkpoint

    @classmethod
    def described(cls, directory: Path) -> "Checkpoint":
        """The same without hashing weights, which may take long: all that is known of them is that they are there."""
        try:
            texts = (directory / FILE_NAME).read_bytes(), (directory / TEMPLATE_NAME).read_bytes()
        except OSError as error:
            raise BadCheckpoint(f"{directory}: {error.strerror}: {error.filename}") from error
        manifest, template = description(str(directory), *texts)
        for name in manifest.files:
            path = directory / name
            if path.is_symlink() or not path.is_file():
                raise BadCheckpoint(f"{path}: missing, or not a plain file of the checkpoint")
        return cls(directory, manifest, template)

    @property
    def files(self) -> tuple[str, ...]:
        """The names of all its files; the manifest, which completes it, is the last."""
        return (*self.manifest.files, TEMPLATE_NAME, FILE_NAME)


def description(place: str, manifest: bytes, template: bytes) -> tuple[Manifest, PromptTemplate]:
    """What the two texts of a checkpoint at `place` say. Raises BadCheckpoint when they do not belong together."""
    try:
        read, prompt = Manifest.model_validate_json(manifest), PromptTemplate(template.decode("utf-8"))
    except ValidationError as error:
        raise BadCheckpoint(f"{place}/{FILE_NAME}: {error}") from error
    except (TemplateError, UnicodeDecodeError) as error:
        raise BadCheckpoint(f"{place}/{TEMPLATE_NAME}: is not a template: {error}") from error
    if prompt.sha256 != read.prompt_sha256:
        raise BadCheckpoint(f"{place}/{TEMPLATE_NAME}: is not the template that the manifest names")
    return read, prompt


def write(directory: Path, template: PromptTemplate, weight_files: list[str], **fields: Any) -> Manifest:
    """Complete a directory that holds `weight_files` to a checkpoint; `fields` are the rest of the manifest."""
    (directory / TEMPLATE_NAME).write_text(template.source, "utf-8")
    hashes = {name: sha256(directory / name) for name in sorted(weight_files)}
    manifest = Manifest(prompt_sha256=template.sha256, files=hashes, **fields)
    text = json.dumps(manifest.model_dump(mode="json"), indent=2, ensure_ascii=False)
    (directory / FILE_NAME).write_text(text + "\n", "utf-8")
    for name in (*weight_files, TEMPLATE_NAME, FILE_NAME):
        (directory / name).chmod(0o644)  # safetensors lets only its writer read; services run as other users
    return manifest


def sha256(path: Path) -> str:
    """Hash of a file's bytes, as hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
