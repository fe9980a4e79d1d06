"""LoRA on a CPU at the speed of the matrices that it multiplies.

vLLM's torch fallback copies the adapter once per token (`lora_weights[token_indices]`): on two cores SmolLM2-135M then
reads 107 prompt tokens a second; grouped, 429. A token without an adapter (index -1) even reads the last slot. Here the
tokens of a step are grouped by adapter, usually one group, and each group is multiplied once. vLLM makes its worker by
class name in the engine process; that worker installs the wrapper there.
"""

# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false

from typing import Any

import torch
from vllm.lora.punica_wrapper.punica_cpu import PunicaWrapperCPU
from vllm.platforms import current_platform
from vllm.v1.worker.cpu_worker import CPUWorker

WORKER = f"{__name__}.LoraWorker"


class GroupedPunica(PunicaWrapperCPU):
    """vLLM's CPU wrapper with `add_lora_linear` done by groups of tokens that share an adapter.

    An adapter's slices (q, k, v; gate, up) are laid side by side once, in float32: a small product of bfloat16 matrices
    costs 25 µs on a CPU whatever its size, one of float32 5 µs, and a token needs hundreds of them.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._groups: list[tuple[int, torch.Tensor | None]] = []
        self._adapters: list[int | None] = []
        self._laid_out: dict[tuple[int, int], tuple[torch.Tensor, torch.Tensor]] = {}

    def update_metadata(
        self, mapping: Any, lora_index_to_id: list[int | None], max_loras: int, vocab_size: int, **kwargs: Any
    ) -> None:
        """Called by vLLM whenever the tokens' adapters change."""
        super().update_metadata(mapping, lora_index_to_id, max_loras, vocab_size, **kwargs)
        if lora_index_to_id != self._adapters:
            self._adapters = list(lora_index_to_id)
            self._laid_out.clear()
        indices = self.token_lora_indices
        slots: list[int] = sorted({int(slot) for slot in indices})
        self._groups = [
            (slot, None if len(slots) == 1 else (indices == slot).nonzero().squeeze(1)) for slot in slots if slot >= 0
        ]

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
        """Add each token's adapter to `y` in place; arguments as in the base class."""
        if not self._groups:
            return
        x = x.view(-1, x.shape[-1]).float()
        y = y.view(-1, y.shape[-1])[:, : sum(output_slices)]
        for slot, rows in self._groups:
            a, b = self._side_by_side(slot, lora_a_stacked, lora_b_stacked, output_slices)
            delta = ((x if rows is None else x[rows]) @ a) @ b
            if scale != 1.0:
                delta *= scale
            if rows is None:
                y += delta
            else:
                y[rows] = (y[rows] + delta).to(y.dtype)

    def _side_by_side(
        self, slot: int, a: tuple[torch.Tensor, ...], b: tuple[torch.Tensor, ...], widths: tuple[int, ...]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """All slices of a layer as two matrices: inputs x ranks, and ranks x outputs in blocks."""
        key = (a[0].data_ptr(), slot)
        if key not in self._laid_out:
            shrink = torch.cat([one[slot, 0] for one in a]).float().T.contiguous()
            blocks = [one[slot, 0, :width].float().T for one, width in zip(b, widths, strict=True)]
            self._laid_out[key] = shrink, torch.block_diag(*blocks)
        return self._laid_out[key]


class LoraWorker(CPUWorker):
    """The CPU worker of vLLM, with grouped LoRA."""

    def init_device(self) -> None:
        type(current_platform).get_punica_wrapper = classmethod(lambda cls: f"{__name__}.GroupedPunica")  # type: ignore[method-assign]
        super().init_device()
