"""Full weights that take the place of others in a running engine.

An engine is made for one architecture and one tokenizer: whatever differs in them needs an engine of its own, which is
a restart of the service. That is read from the files before anything is loaded.
"""

import asyncio
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from services.engine import EngineFailure
from umi.errors import BadCheckpoint, first_line
from umi.manifest import Checkpoint

if TYPE_CHECKING:
    from vllm.v1.engine.async_llm import AsyncLLM

CONFIG = "config.json"
_SAYS_NOTHING = {"_name_or_path", "_model_name_or_path", "transformers_version", "torch_dtype", "dtype", "use_cache"}
"""Keys of a model's configuration that do not change what is computed from its weights."""
_TOKENIZER = re.compile(r"tokenizer.*|vocab\..*|merges\.txt|special_tokens_map\.json|added_tokens\.json")
_LONGEST_HEADER = 100 * 2**20  # what safetensors itself accepts
Shapes = dict[str, tuple[int, ...]]
Digests = list[dict[str, str]]
"""Of each worker, the hash of every tensor that it computes with."""


@dataclass(frozen=True)
class Model:
    """What an engine is made for."""

    config: dict[str, Any]
    tokenizer: dict[str, str]
    """Name and hash of each of its files."""
    shapes: Shapes

    @classmethod
    def of(cls, checkpoint: Checkpoint) -> "Model":
        """The model of a checkpoint of full weights.

        Raises BadCheckpoint when it is none: no configuration, weights that the manifest does not name or that are cut.
        """
        directory, named = checkpoint.directory, checkpoint.manifest.files
        if CONFIG not in named or not _weight_files(checkpoint):
            raise BadCheckpoint(f"{directory}: full weights need {CONFIG} and *.safetensors among the manifest's files")
        for path in directory.glob("*.safetensors"):
            if path.name not in named:
                raise BadCheckpoint(f"{path}: the manifest does not name these weights")
        tokenizer = {name: digest for name, digest in named.items() if _TOKENIZER.fullmatch(name)}
        return cls(_config(checkpoint), tokenizer, _shapes(checkpoint))

    def holds(self, checkpoint: Checkpoint) -> None:
        """Raises BadCheckpoint, naming the difference, unless an engine made for this model can hold `checkpoint`."""
        other = Model.of(checkpoint)
        difference = (
            _difference("", self.config, other.config)
            or _difference("", self.tokenizer, other.tokenizer)
            or _difference("the shape of ", self.shapes, other.shapes)
        )
        if difference:
            raise BadCheckpoint(f"{checkpoint.manifest.version} needs a restart of this service: {difference}")


def _difference(what: str, ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> str | None:
    for key in sorted(ours.keys() | theirs.keys()):
        if ours.get(key) != theirs.get(key):
            return f"{what}{key} is {theirs.get(key)}, here {ours.get(key)}"
    return None


def _weight_files(checkpoint: Checkpoint) -> dict[str, str]:
    """Name and hash of every file of tensors: two checkpoints with the same ones are the same weights."""
    return {name: digest for name, digest in checkpoint.manifest.files.items() if name.endswith(".safetensors")}


def _shapes(checkpoint: Checkpoint) -> Shapes:
    """The shape of every tensor. Raises BadCheckpoint for a file that is not whole.

    A safetensors file is the length of its header (8 bytes), the header as JSON, and the tensors' bytes.
    """
    found: Shapes = {}
    for name in _weight_files(checkpoint):
        path = checkpoint.directory / name
        try:
            header, size = _header(path)
            tensors = {tensor: about for tensor, about in header.items() if tensor != "__metadata__"}
            found |= {tensor: tuple(about["shape"]) for tensor, about in tensors.items()}
            end = max((about["data_offsets"][1] for about in tensors.values()), default=0)
        except (OSError, ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
            raise BadCheckpoint(f"{path} is no safetensors file: {error}") from error
        if end != size:
            raise BadCheckpoint(f"{path} is not whole: {size} bytes of tensors, its header says {end}")
    return found


def _header(path: Path) -> tuple[dict[str, Any], int]:
    """The header, and how many bytes follow it."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length > _LONGEST_HEADER:
            raise ValueError(f"a header of {length} bytes")
        return json.loads(file.read(length)), path.stat().st_size - 8 - length


def _config(checkpoint: Checkpoint) -> dict[str, Any]:
    path = checkpoint.directory / CONFIG
    try:
        config: dict[str, Any] = json.loads(path.read_bytes())
        return {key: value for key, value in config.items() if key not in _SAYS_NOTHING}
    except (OSError, ValueError, AttributeError) as error:
        raise BadCheckpoint(f"{path}: {error}") from error


class FullWeights:
    """The full weights that a vLLM engine holds now; `model` is what it was made for."""

    def __init__(self, llm: "AsyncLLM", checkpoint: Checkpoint, model: Model, digests: Digests) -> None:
        self.model = model
        self._llm, self._checkpoint = llm, checkpoint
        self._digests = {_identity(checkpoint): digests}

    @classmethod
    async def loaded(cls, llm: "AsyncLLM", checkpoint: Checkpoint) -> "FullWeights":
        """Those that the engine was started with."""
        model = await asyncio.to_thread(Model.of, checkpoint)
        return cls(llm, checkpoint, model, await llm.compute_weight_checksums())

    async def swap(self, checkpoint: Checkpoint) -> None:
        """Load these in place, while nothing is computed.

        Texts that are being written end: their beginning is the old weights' work, and may follow another template.
        Raises BadCheckpoint when vLLM cannot load them, and the old ones are back; EngineFailure when those are lost.
        """
        before, version = self._checkpoint, checkpoint.manifest.version
        await self._llm.pause_generation(mode="abort", clear_cache=True)
        try:
            await self._reload(checkpoint, before)
            self._checkpoint = checkpoint
        except Exception as error:  # the edge of a foreign program: it fails in too many ways to list
            try:
                await self._reload(before, checkpoint)
            except Exception as worse:  # the same program, at the same edge
                lost = f"neither {version} nor {before.manifest.version} can be loaded: {first_line(worse)}"
                raise EngineFailure(lost) from error
            raise BadCheckpoint(f"{version}: vLLM cannot load these weights: {first_line(error)}") from error
        finally:
            await self._llm.resume_generation()

    async def _reload(self, checkpoint: Checkpoint, before: Checkpoint) -> None:
        """Raises BadCheckpoint when what vLLM holds then cannot be what the files hold: it may fail without a word."""
        path = str(checkpoint.directory.resolve())
        await self._llm.collective_rpc("reload_weights", kwargs={"weights_path": path})
        found, wanted, other = await self._llm.compute_weight_checksums(), _identity(checkpoint), _identity(before)
        if found != self._digests.get(wanted, found):
            raise BadCheckpoint("they are not what was loaded from the same files before")
        if wanted != other and found == self._digests.get(other):
            raise BadCheckpoint("the weights before them are still there")
        kept = {other: self._digests[other]} if other in self._digests else {}
        self._digests = kept | {wanted: found}


def _identity(checkpoint: Checkpoint) -> str:
    """Alike for versions that differ in everything but their weights."""
    return " ".join(f"{name} {digest}" for name, digest in sorted(_weight_files(checkpoint).items()))
