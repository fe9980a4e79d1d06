"""Full weights reloaded on a CPU: an output head that shares the embedding's weights is packed anew as well.

vLLM 0.32 packs a layer's weights for the CPU's kernels when they are loaded, and packs again those that a reload
brings. A tied head is brought by none, so it would go on with the old ones, unseen by vLLM's checksums.
"""

from typing import Any

from vllm.model_executor.layers.vocab_parallel_embedding import ParallelLMHead
from vllm.v1.worker.cpu_worker import CPUWorker


class ReloadWorker(CPUWorker):
    """The CPU worker of vLLM, whose reloads reach every layer."""

    def reload_weights(self, *arguments: Any, **options: Any) -> None:
        """As vLLM's, and the heads after it."""
        super().reload_weights(*arguments, **options)
        for layer in self.model_runner.get_model().modules():
            if isinstance(layer, ParallelLMHead):
                layer.quant_method.process_weights_after_loading(layer)
