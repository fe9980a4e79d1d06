"""What a role needs of a GPU: weights, KV cache, and how many runs fit at once. Arithmetic, no measurement.

For a decoder with grouped-query attention and a gated MLP (Llama, Mistral, Qwen, SmolLM), on each of its T GPUs:

    weights      = (linear · bytes(weights) + embeddings · 2) / T
    KV per token = 2 · layers · ceil(kv heads / T) · head size · bytes(KV)
    activations  = batched tokens · (4 · hidden + 2 · intermediate) · 2 + sequences · vocabulary · 8 + 1.5 GiB
    KV cache     = memory · utilization - weights - activations
    runs at once = KV cache / (KV per token · tokens of a run)

Embeddings and the output head stay in 16 bits whatever the weights are quantised to. The 1.5 GiB are the CUDA context,
NCCL's buffers and CUDA graphs: an estimate, as are the activations; vLLM measures both when it starts. Runs that share
a prefix share its KV cache (vLLM's prefix cache), so that more fit than this says.
"""

import json
import math
from dataclasses import dataclass
from pathlib import Path

GIB = 2**30
BYTES = {"bf16": 2.0, "fp8": 1.0, "int4": 0.5 + 2.5 / 128}
"""A weight's or a KV entry's size. int4 as AWQ and GPTQ store it: a group of 128 has a scale and a zero of its own."""
CARDS = {
    "L4": 23034,
    "RTX 4090": 24564,
    "A100 40G": 40960,
    "L40S": 46068,
    "A100 80G": 81920,
    "H100": 81559,
    "H200": 143771,
}
"""MiB of memory, as nvidia-smi shows them."""
_FIXED = 1.5 * GIB


@dataclass(frozen=True)
class Model:
    """The shape of a decoder, named as in its config.json."""

    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    vocab_size: int
    head_dim: int
    tie_word_embeddings: bool = False

    @property
    def linear(self) -> int:
        """Parameters of the layers' linear maps and norms; biases, where there are any, are left out."""
        queries = self.num_attention_heads * self.head_dim
        keys = self.num_key_value_heads * self.head_dim
        attention = self.hidden_size * (2 * queries + 2 * keys)
        layer = attention + 3 * self.hidden_size * self.intermediate_size + 2 * self.hidden_size
        return self.num_hidden_layers * layer + self.hidden_size

    @property
    def embeddings(self) -> int:
        """Parameters of the embedding and, unless tied, of the output head."""
        return self.vocab_size * self.hidden_size * (1 if self.tie_word_embeddings else 2)

    @classmethod
    def read(cls, directory: Path) -> "Model":
        """The shape of the checkpoint in `directory`. Raises OSError, ValueError or KeyError without it."""
        config = json.loads((directory / "config.json").read_bytes())
        heads = int(config["num_attention_heads"])
        return cls(
            hidden_size=int(config["hidden_size"]),
            intermediate_size=int(config["intermediate_size"]),
            num_hidden_layers=int(config["num_hidden_layers"]),
            num_attention_heads=heads,
            num_key_value_heads=int(config.get("num_key_value_heads") or heads),
            vocab_size=int(config["vocab_size"]),
            head_dim=int(config.get("head_dim") or int(config["hidden_size"]) // heads),
            tie_word_embeddings=bool(config.get("tie_word_embeddings", False)),
        )


MODELS = {
    "7b": Model(4096, 11008, 32, 32, 32, 32000, 128),  # Llama 2 7B, the paper's
    "13b": Model(5120, 13824, 40, 40, 40, 32000, 128),  # Llama 2 13B, the paper's
    "7b-gqa": Model(3584, 18944, 28, 28, 4, 152064, 128),  # Qwen 2.5 7B
    "8b-gqa": Model(4096, 14336, 32, 32, 8, 128256, 128),  # Llama 3.1 8B
}


@dataclass(frozen=True)
class Plan:
    """How a role is to be served."""

    weights: str = "bf16"
    kv: str = "bf16"
    tensor_parallel: int = 1
    utilization: float = 0.9
    max_model_len: int = 4096
    max_num_seqs: int = 64
    max_batched_tokens: int = 8192


@dataclass(frozen=True)
class Size:
    """Bytes on each GPU, and what fits into them."""

    weights: float
    activations: float
    kv_cache: float
    kv_per_token: int
    at_full_length: int
    """Runs at once, each as long as the model takes."""

    def at(self, tokens: int) -> int:
        """Runs at once of so many tokens."""
        return max(0, int(self.kv_cache // (self.kv_per_token * tokens)))


def size(model: Model, plan: Plan, memory_mib: int) -> Size:
    """What `plan` comes to on GPUs with so much memory each; a negative KV cache says how much is missing."""
    parallel = plan.tensor_parallel
    weights = (model.linear * BYTES[plan.weights] + model.embeddings * 2) / parallel
    heads = math.ceil(model.num_key_value_heads / parallel)
    kv_per_token = math.ceil(2 * model.num_hidden_layers * heads * model.head_dim * BYTES[plan.kv])
    activations = (
        plan.max_batched_tokens * (4 * model.hidden_size + 2 * model.intermediate_size) * 2
        + plan.max_num_seqs * model.vocab_size * 8
        + _FIXED
    )
    cache = memory_mib * 2**20 * plan.utilization - weights - activations
    full = max(0, int(cache // (kv_per_token * plan.max_model_len)))
    return Size(weights, activations, cache, kv_per_token, full)
