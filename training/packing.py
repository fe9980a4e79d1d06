"""Prefix trees: many instances in one forward pass, every shared prefix computed once, nothing seen across branches.

The turns of a trajectory share its history and tasks in a group share their tools, so their (prompt + target) sequences
form a tree. Each node is one token; it attends to its ancestors only, and its position is its depth. A target is a set
of edges: the logits at the parent node should give the token of the child.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from training.attention import blocks


@dataclass
class PrefixTree:
    """Built by `add`; `tensors` makes the batch. `given` counts the tokens that went in, before sharing."""

    tokens: list[int] = field(default_factory=list[int])
    parents: list[int] = field(default_factory=list[int])
    depths: list[int] = field(default_factory=list[int])
    given: int = 0
    _children: dict[tuple[int, int], int] = field(default_factory=dict[tuple[int, int], int])
    _edges: dict[tuple[int, int], None] = field(default_factory=dict[tuple[int, int], None])

    def add(self, prompt: Sequence[int], target: Sequence[int]) -> None:
        """One instance; only the tokens of `target` are learnt."""
        node = -1
        self.given += len(prompt) + len(target)
        for token in prompt:
            node = self._step(node, token)
        for token in target:
            self._edges[node, token] = None
            node = self._step(node, token)

    def _step(self, node: int, token: int) -> int:
        child = self._children.get((node, token))
        if child is None:
            child = self._children[node, token] = len(self.tokens)
            self.tokens.append(token)
            self.parents.append(node)
            self.depths.append(self.depths[node] + 1 if node >= 0 else 0)
        return child

    def tensors(self) -> dict[str, Any]:
        """One row of N nodes and E learnt edges.

        `input_ids` and `position_ids` (1, N), a boolean `attention_mask` (1, 1, N, N) that is true where a node may
        look, its `blocks` for attention, `edge_nodes` (E,) and `edge_tokens` (E,).
        """
        count = len(self.tokens)
        mask = np.zeros((count, count), dtype=bool)
        for node, parent in enumerate(self.parents):
            if parent >= 0:
                mask[node] = mask[parent]
            mask[node, node] = True
        edges = np.array(list(self._edges), dtype=np.int64).reshape(-1, 2)
        whole = torch.from_numpy(mask)
        return {
            "input_ids": torch.tensor([self.tokens]),
            "position_ids": torch.tensor([self.depths]),
            "attention_mask": whole[None, None],
            "blocks": blocks(whole),
            "edge_nodes": torch.from_numpy(edges[:, 0].copy()),
            "edge_tokens": torch.from_numpy(edges[:, 1].copy()),
        }
