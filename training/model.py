"""The model that a stage trains: a LoRA adapter over the backbone, or every parameter of it."""

from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from training.attention import NAME as TREE_ATTENTION
from training.settings import StageSettings
from umi.errors import BadCheckpoint, BadInput
from umi.manifest import Checkpoint, Kind

Model = PreTrainedModel | PeftModel


def load_model(
    backbone: Path, settings: StageSettings, parent: Path | None = None, attention: str = TREE_ATTENTION
) -> Model:
    """The backbone with a fresh adapter (or all of it, for rank 0), or a trainable copy of the parent's.

    Raises BadCheckpoint when the parent is of the other kind, or does not fit the backbone.
    """
    trains_all = settings.rank == 0
    if parent is not None and (kind := Checkpoint.open(parent).manifest.kind) is not _kind(settings):
        raise BadCheckpoint(
            f"{parent} holds {kind} weights, this stage trains "
            f"{'every parameter: start from full weights, or set a rank' if trains_all else 'an adapter: set rank=0'}"
        )
    if trains_all:
        # Small steps are lost in bfloat16 weights; the products are bfloat16 all the same (autocast).
        return _read(parent or backbone, torch.float32, attention)
    base = _read(backbone, torch.bfloat16 if multiplies_bfloat16() else torch.float32, attention)
    if parent is not None:
        try:
            model = PeftModel.from_pretrained(base, parent, is_trainable=True)
        except (RuntimeError, ValueError) as error:  # sizes, or names of layers
            raise BadCheckpoint(
                f"{parent} does not fit the backbone in {backbone}: {str(error).strip().splitlines()[0]}"
            ) from error
        # A checkpoint names its backbone for others; peft would look that name up on the hub at every save.
        model.peft_config["default"].base_model_name_or_path = str(backbone)
        return model
    config = LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        target_modules=list(settings.targets) or "all-linear",
        task_type="CAUSAL_LM",
    )
    return get_peft_model(base, config)


def load_tokenizer(backbone: Path, max_tokens: int) -> PreTrainedTokenizerBase:
    """The backbone's tokenizer. No pad token is needed: a tree is one row.

    Raises BadInput when it has no token to end a target with, or the backbone reads fewer than `max_tokens`.
    """
    try:
        tokenizer, config = AutoTokenizer.from_pretrained(backbone), AutoConfig.from_pretrained(backbone)
    except (OSError, ValueError) as error:
        raise BadInput(f"{backbone} holds no backbone that can be read: {str(error).splitlines()[0]}") from error
    if tokenizer.eos_token_id is None:
        raise BadInput(
            f"{backbone}: its tokenizer has no eos_token, which ends a target: name one in tokenizer_config.json"
        )
    reads = getattr(config, "max_position_embeddings", None) or max_tokens
    if reads < max_tokens:
        raise BadInput(f"{backbone} reads {reads} tokens, not {max_tokens}: --set max_tokens={reads}")
    return tokenizer


def base_of(model: Model) -> Any:
    """The model under an adapter; the model itself without one."""
    return model.get_base_model() if isinstance(model, PeftModel) else model


def multiplies_bfloat16() -> bool:
    """Whether this machine multiplies bfloat16 faster than float32: a GPU, or a CPU with instructions for it."""
    return torch.cuda.is_available() or torch.cpu.get_capabilities().get("avx512_bf16", False)


def compile_layers(model: Model) -> None:
    """Fuse the small operations of every layer; whole-model graphs would be recompiled for each tree size."""
    for layer in base_of(model).model.layers:
        layer.compile(dynamic=True)


def _kind(settings: StageSettings) -> Kind:
    return Kind.ADAPTER if settings.rank else Kind.FULL


def _read(directory: Path, dtype: torch.dtype, attention: str) -> PreTrainedModel:
    return AutoModelForCausalLM.from_pretrained(directory, dtype=dtype, attn_implementation=attention)
