"""Prefix trees say the same as the instances they are made of, one by one."""

import random

import pytest
import torch
from torch import nn

from tests.models import tiny_llama
from training.attention import NAME, blocks
from training.packing import PrefixTree
from training.stage import edge_loss

Instances = list[tuple[list[int], list[int]]]


def branching(seed: int) -> Instances:
    """Instances over few tokens, so that prompts and targets share prefixes in all sorts of ways."""
    rng = random.Random(seed)
    history = [rng.randrange(50) for _ in range(12)]
    return [
        (history[: rng.randrange(1, 12)] + [rng.randrange(3) for _ in range(rng.randrange(4))],
         [rng.randrange(3) for _ in range(rng.randrange(1, 6))])
        for _ in range(12)
    ]  # fmt: skip


def tree_of(instances: Instances) -> PrefixTree:
    tree = PrefixTree()
    for prompt, target in instances:
        tree.add(prompt, target)
    return tree


@pytest.mark.parametrize("seed", range(3))
def test_a_tree_has_the_losses_of_its_instances_one_by_one(seed: int) -> None:
    instances = branching(seed)
    model = tiny_llama().eval()
    single: dict[tuple[int, ...], float] = {}  # an edge is the sequence that leads to its end
    with torch.no_grad():
        for prompt, target in instances:
            row = torch.tensor([prompt + target])
            losses = nn.functional.cross_entropy(model(input_ids=row).logits[0, :-1], row[0, 1:], reduction="none")
            for end in range(len(prompt), row.shape[1]):
                single[tuple(row[0, : end + 1].tolist())] = losses[end - 1].item()
        model.set_attn_implementation(NAME)
        batch = tree_of(instances).tensors()
        batch["blocks"] = blocks(batch["attention_mask"][0, 0], rows=8)  # so that even a small tree has several
        packed = edge_loss(model, batch).item()
    assert packed == pytest.approx(sum(single.values()) / len(single), abs=1e-4)


def test_a_block_leaves_out_the_columns_that_none_of_its_rows_may_see() -> None:
    tree = tree_of([([1, 2], [3, 4, 5, 6]), ([1, 2], [7, 8, 9, 10])])  # two branches of four on a stem of two
    first, second, third = blocks(tree.tensors()["attention_mask"][0, 0], rows=4)
    assert [list(block[:2]) for block in (first, second, third)] == [[0, 4], [4, 8], [8, 10]]
    assert first[2].tolist() == [0, 1, 2, 3]
    assert second[2].tolist() == [0, 1, 2, 3, 4, 5, 6, 7]
    assert third[2].tolist() == [0, 1, 6, 7, 8, 9]
    assert third[3][0, 0].tolist() == [[True] * 5 + [False], [True] * 6]


def test_a_tree_gives_the_gradients_of_its_instances() -> None:
    model = tiny_llama()
    model.set_attn_implementation(NAME)
    prompt, targets = [7, 8, 9], [[1, 2, 3], [4, 5, 6]]
    edge_loss(model, tree_of([(prompt, target) for target in targets]).tensors()).backward()
    packed = model.model.layers[0].self_attn.q_proj.weight.grad.clone()
    model.zero_grad()
    model.set_attn_implementation("eager")
    for target in targets:
        row = torch.tensor([prompt + target])
        loss = nn.functional.cross_entropy(model(input_ids=row).logits[0, 2:-1], row[0, 3:])
        (loss / 2).backward()
    assert torch.allclose(packed, model.model.layers[0].self_attn.q_proj.weight.grad, atol=1e-5)


def test_shared_prefixes_are_counted_once() -> None:
    tree = tree_of([([1, 2, 3], [4, 5]), ([1, 2, 3], [4, 6]), ([1, 2, 3, 4, 5, 9], [7])])
    assert tree.tokens == [1, 2, 3, 4, 5, 6, 9, 7]
    assert tree.depths == [0, 1, 2, 3, 4, 4, 5, 6]
    assert tree.given == 5 + 5 + 7


def test_a_target_that_two_instances_share_is_learnt_once() -> None:
    batch = tree_of([([1], [2, 3]), ([1], [2, 4]), ([1, 2], [3])]).tensors()
    assert list(zip(batch["edge_nodes"].tolist(), batch["edge_tokens"].tolist(), strict=True)) == [
        (0, 2),
        (1, 3),
        (1, 4),
    ]


def test_only_targets_are_learnt() -> None:
    batch = tree_of([([1, 2, 3], [4]), ([1, 2, 3, 4, 5], [6])]).tensors()
    assert batch["edge_tokens"].tolist() == [4, 6]
    assert batch["input_ids"][0, batch["edge_nodes"]].tolist() == [3, 5]


@pytest.mark.parametrize("seed", range(3))
def test_a_node_sees_its_ancestors_and_no_other_branch(seed: int) -> None:
    tree = tree_of(branching(seed))
    mask = tree.tensors()["attention_mask"][0, 0]
    for node in range(len(tree.tokens)):
        path, above = {node}, tree.parents[node]
        while above >= 0:
            path.add(above)
            above = tree.parents[above]
        assert set(mask[node].nonzero().flatten().tolist()) == path
        assert tree.depths[node] == len(path) - 1


def test_what_stands_in_another_branch_changes_nothing() -> None:
    model = tiny_llama().eval()
    with torch.no_grad():
        alone, beside = (
            tree_of([([1, 2], [3, 4])]).tensors(),
            tree_of([([1, 2], [3, 4]), ([1, 2, 9, 9], [8])]).tensors(),
        )
        states = [
            model.model(**{k: batch[k] for k in ("input_ids", "position_ids", "attention_mask")})[0][0, :4]
            for batch in (alone, beside)
        ]
    assert torch.allclose(states[0], states[1], atol=1e-6)
