"""Checkpoints for tests: a directory that has everything but trained weights."""

from pathlib import Path
from typing import Any

from umi.manifest import ALL_ROLES, Checkpoint, Kind, write
from umi.prompt import PromptTemplate


def bare(directory: Path, **fields: Any) -> Checkpoint:
    """A checkpoint whose one weight file is empty: enough for whatever surrounds the model."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "adapter_model.safetensors").write_bytes(b"")
    known: dict[str, Any] = {
        "version": "test-1",
        "roles": ALL_ROLES,
        "kind": Kind.ADAPTER,
        "backbone": "SmolLM2-135M-Instruct",
        "rank": 16,
    }
    write(directory, PromptTemplate.default(), ["adapter_model.safetensors"], **(known | fields))
    return Checkpoint.open(directory)


def random_adapter(directory: Path, backbone: Path, rank: int = 16, **fields: Any) -> Checkpoint:
    """A LoRA adapter of random weights on all linear layers of `backbone`, which vLLM can really load."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(0)
    model: Any = AutoModelForCausalLM.from_pretrained(backbone, dtype=torch.bfloat16)
    config = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules="all-linear", init_lora_weights="gaussian")
    adapter: Any = get_peft_model(model, config)
    for name, parameter in adapter.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.002)
    adapter.save_pretrained(directory)
    (directory / "README.md").unlink(missing_ok=True)
    known: dict[str, Any] = {
        "version": "random-1",
        "roles": ALL_ROLES,
        "kind": Kind.ADAPTER,
        "backbone": "SmolLM2-135M-Instruct",
        "rank": rank,
    }
    names = ["adapter_config.json", "adapter_model.safetensors"]
    write(directory, PromptTemplate.default(), names, **(known | fields))
    return Checkpoint.open(directory)
