"""What tests of prompts and of training stand on: the real tokenizer, and a backbone of random weights that is tiny."""

from functools import cache
from pathlib import Path
from typing import Any

BACKBONE = Path(__file__).parents[1] / "var" / "backbone"


@cache
def tokenizer() -> Any:
    """The tokenizer of the embedded backbone, which `make setup` prepares."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(BACKBONE)


def tokens(text: str) -> list[int]:
    """Token ids of a text, nothing added."""
    return tokenizer()(text, add_special_tokens=False)["input_ids"]


def tiny_llama() -> Any:
    """A Llama of two layers, 32 wide, with random weights and the real vocabulary."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer()),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=8192,
        initializer_range=0.2,
        tie_word_embeddings=True,
    )
    return LlamaForCausalLM(config)


def tiny_backbone(directory: Path) -> Path:
    """The tiny Llama and the tokenizer, as a directory that `from_pretrained` reads."""
    tiny_llama().save_pretrained(directory)
    tokenizer().save_pretrained(directory)
    return directory
