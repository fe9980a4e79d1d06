"""The order of training: random, alike for processes that work together, and the same again after an interruption."""

import random

from training.order import SimilarSizes

SIZES = random.Random(3).sample(range(100, 2000), 101)


def order(together: int, seed: int = 7, epoch: int = 0) -> list[int]:
    sampler = SimilarSizes(SIZES, together, seed)
    sampler.set_epoch(epoch)
    return list(sampler)


def test_every_group_comes_once() -> None:
    assert sorted(order(2)) == list(range(len(SIZES)))


def test_groups_that_are_trained_on_together_have_similar_sizes() -> None:
    def waste(indices: list[int]) -> int:
        pairs = zip(indices[::2], indices[1::2], strict=False)
        return sum(abs(SIZES[left] - SIZES[right]) for left, right in pairs)

    assert waste(order(2)) < 0.2 * waste(list(range(len(SIZES))))


def test_the_order_is_the_same_again_and_another_in_each_epoch() -> None:
    assert order(2) == order(2)
    assert len({tuple(order(2, seed, epoch)) for seed in (7, 8) for epoch in (0, 1)}) == 4


def test_large_and_small_groups_are_mixed_over_the_epoch() -> None:
    sizes = [SIZES[index] for index in order(2)]
    halves = sum(sizes[:50]) / sum(sizes[50:100])
    assert 0.8 < halves < 1.25
