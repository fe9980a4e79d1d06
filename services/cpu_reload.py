"""Full weights reloaded on a CPU, where vLLM 0.32 packs a layer's weights for the CPU's kernels when they are loaded.

It packs again those that a reload brings. An output head that shares the embedding's weights is brought by none, so it
would go on with the old ones. And what is packed is no tensor any more that vLLM's checksums see: of two models that
differ in linear layers alone they are the same.
"""

import hashlib
from typing import Any

import torch
from vllm.model_executor.layers.linear import LinearBase
from vllm.model_executor.layers.vocab_parallel_embedding import ParallelLMHead
from vllm.v1.worker.cpu_worker import CPUWorker


class ReloadWorker(CPUWorker):
    """The CPU worker of vLLM, whose reloads reach every layer, and whose checksums do."""

    def reload_weights(self, *arguments: Any, **options: Any) -> None:
        """As vLLM's, and the heads after it."""
        super().reload_weights(*arguments, **options)
        for layer in self.model_runner.get_model().modules():
            if isinstance(layer, ParallelLMHead):
                layer.quant_method.process_weights_after_loading(layer)

    def compute_weight_checksums(self) -> dict[str, str]:
        """As vLLM's, and for every packed layer the hash of what it makes of one and the same input."""
        sums: dict[str, str] = super().compute_weight_checksums()
        for name, layer in self.model_runner.get_model().named_modules():
            if isinstance(layer, LinearBase):
                width = getattr(layer, "input_size_per_partition", layer.input_size)
                sums[f"{name} computes"] = _computes(layer, width, layer.params_dtype)
            elif isinstance(layer, ParallelLMHead):
                sums[f"{name} computes"] = _computes(layer, layer.embedding_dim, layer.weight.dtype)
        return sums


def _computes(layer: Any, width: int, dtype: Any) -> str:
    given = torch.randn((1, width), generator=torch.Generator().manual_seed(7)).to(dtype)
    with torch.inference_mode():
        made: torch.Tensor = layer.quant_method.apply(layer, given, None)
    return hashlib.sha256(made.float().contiguous().numpy().tobytes()).hexdigest()
