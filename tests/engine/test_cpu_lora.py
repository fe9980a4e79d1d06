"""The LoRA arithmetic for CPUs, against its definition. Importing vllm takes ten seconds."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch

pytest.importorskip("vllm")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

RANK, INPUTS, WIDTHS, SLOTS = 4, 16, (8, 6), 2


def layer(seed: int) -> tuple[tuple[torch.Tensor, ...], tuple[torch.Tensor, ...]]:
    generator = torch.Generator().manual_seed(seed)

    def weights(*shape: int) -> torch.Tensor:
        return torch.randn(SLOTS, 1, *shape, generator=generator).to(torch.bfloat16)

    return tuple(weights(RANK, INPUTS) for _ in WIDTHS), tuple(weights(width, RANK) for width in WIDTHS)


def expected(
    x: torch.Tensor, slots: list[int], a: tuple[torch.Tensor, ...], b: tuple[torch.Tensor, ...]
) -> torch.Tensor:
    rows = [
        torch.cat([torch.zeros(width) if slot < 0 else q[slot, 0].float() @ (p[slot, 0].float() @ row.float())
                   for p, q, width in zip(a, b, WIDTHS, strict=True)])
        for row, slot in zip(x, slots, strict=True)
    ]  # fmt: skip
    return torch.stack(rows)


@pytest.mark.parametrize("ids", [(1, 1, 1), (1, 2, 0), (0, 0, 0), (2, 0, 2)])
@pytest.mark.parametrize("is_prefill", [True, False])
def test_every_token_gets_its_own_adapter_and_none_gets_none(ids: tuple[int, ...], is_prefill: bool) -> None:
    from services.cpu_lora import GroupedPunica

    punica: Any = GroupedPunica(64, 8, torch.device("cpu"))
    mapping = SimpleNamespace(index_mapping=ids, prompt_mapping=ids, is_prefill=is_prefill)
    a, b = layer(0)
    x = torch.randn(len(ids), INPUTS).to(torch.bfloat16)
    punica.update_metadata(mapping, [1, 2], SLOTS, 100)
    y = torch.ones(len(ids), sum(WIDTHS), dtype=torch.bfloat16)
    punica.add_lora_linear(y, x, a, b, 1.0, WIDTHS)
    wanted = 1 + expected(x, [number - 1 for number in ids], a, b)
    torch.testing.assert_close(y.float(), wanted, rtol=0.02, atol=0.02)


def test_an_adapter_that_takes_over_a_slot_is_not_served_with_the_old_weights() -> None:
    from services.cpu_lora import GroupedPunica

    punica: Any = GroupedPunica(64, 8, torch.device("cpu"))
    (a, b), (new_a, new_b) = layer(0), layer(1)
    x = torch.randn(1, INPUTS).to(torch.bfloat16)
    for adapter in (1, 3):
        mapping = SimpleNamespace(index_mapping=(adapter,), prompt_mapping=(adapter,), is_prefill=False)
        punica.update_metadata(mapping, [adapter, None], SLOTS, 100)
        y = torch.zeros(1, sum(WIDTHS), dtype=torch.bfloat16)
        punica.add_lora_linear(y, x, a, b, 1.0, WIDTHS)
        torch.testing.assert_close(y.float(), expected(x, [0], a, b), rtol=0.02, atol=0.02)
        for old, new in zip((*a, *b), (*new_a, *new_b), strict=True):
            old.copy_(new)
