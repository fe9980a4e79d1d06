"""LoRA on a CPU at the speed of the matrices that it multiplies.

vLLM's torch fallback copies the adapter once per token (`lora_weights[token_indices]`): on two cores SmolLM2-135M then
reads 107 prompt tokens a second; grouped, 429. A token without an adapter (index -1) even reads the last slot. Here the
tokens of a step are grouped by adapter, usually one group, and each group is multiplied once. vLLM makes its worker by
class name in the engine process; that worker installs the wrapper there.
"""

from typing import Any

import torch
from vllm.lora.punica_wrapper.punica_cpu import PunicaWrapperCPU
from vllm.platforms import current_platform
from vllm.v1.worker.cpu_worker import CPUWorker

WORKER = f"{__name__}.LoraWorker"

Group = tuple[int, torch.Tensor | None]


class GroupedPunica(PunicaWrapperCPU):
    """vLLM's CPU wrapper with `add_lora_linear` done by groups of tokens that share an adapter."""

    groups: tuple[Group, ...] = ()

    def update_metadata(self, *args: Any, **kwargs: Any) -> None:
        super().update_metadata(*args, **kwargs)
        indices = self.token_lora_indices
        slots = torch.unique(indices).tolist()
        self.groups = tuple(
            (slot, None if len(slots) == 1 else (indices == slot).nonzero().squeeze(1)) for slot in slots if slot >= 0
        )

    def add_lora_linear(
        self,
        y: torch.Tensor,
        x: torch.Tensor,
        lora_a_stacked: tuple[torch.Tensor, ...],
        lora_b_stacked: tuple[torch.Tensor, ...],
        scale: float,
        output_slices: tuple[int, ...],
        **kwargs: Any,
    ) -> None:
        x, y = x.view(-1, x.shape[-1]), y.view(-1, y.shape[-1])
        for slot, rows in self.groups:
            chosen = x if rows is None else x[rows]
            start = 0
            for a, b, width in zip(lora_a_stacked, lora_b_stacked, output_slices, strict=True):
                delta = (chosen @ a[slot, 0].T) @ b[slot, 0].T
                if scale != 1.0:
                    delta *= scale
                columns = y[:, start : start + width]
                if rows is None:
                    columns += delta
                else:
                    columns.index_add_(0, rows, delta)
                start += width


class LoraWorker(CPUWorker):
    """The CPU worker of vLLM, with grouped LoRA."""

    def init_device(self) -> None:
        type(current_platform).get_punica_wrapper = classmethod(lambda cls: f"{__name__}.GroupedPunica")  # type: ignore[method-assign]
        super().init_device()
