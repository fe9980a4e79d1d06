"""What tests of prompts and of training stand on: the real tokenizer, and a backbone of random weights that is tiny."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from training.tasks.build import Builder
from training.tasks.entities import Split
from training.tasks.execute import Tools
from training.tasks.task import Task

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


def short_tasks(made: int) -> list[Task]:
    """So many training tasks, the shortest first: seconds are enough for a few of them."""
    return sorted(Builder(Split.TRAIN, 5, Tools()).tasks(made), key=lambda task: len(task.model_dump_json()))


@contextmanager
def eagerly() -> Iterator[None]:
    """Compiling takes minutes and changes no result; a tiny model on many threads mostly waits for them."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with torch.compiler.set_stance("force_eager"):
        yield
    torch.set_num_threads(threads)
