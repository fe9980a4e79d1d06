"""The order in which groups are trained on: processes that work at the same time get groups of about the same size."""

import random
from collections.abc import Iterator, Sequence

from torch.utils.data import Sampler

_WINDOW = 16
"""So many batches are looked at together: more make the sizes within a batch more alike, and the order less random."""


class SimilarSizes(Sampler[int]):
    """Indices in a random order in which every `together` neighbours have similar sizes.

    Processes that average their gradients wait for the slowest of them at each step. `together` is what one update
    learns from, so that any number of processes that share it see the same updates. The same seed and epoch give the
    same order, so an interrupted stage goes on as if it had not been.
    """

    def __init__(self, sizes: Sequence[int], together: int, seed: int) -> None:
        self._sizes, self._together, self._seed = sizes, together, seed
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Called by the data loader at the beginning of each epoch."""
        self._epoch = epoch

    def __len__(self) -> int:
        return len(self._sizes)

    def __iter__(self) -> Iterator[int]:
        rng = random.Random(f"{self._seed}:{self._epoch}")
        indices = rng.sample(range(len(self)), len(self))
        window = self._together * _WINDOW
        for start in range(0, len(indices), window):
            alike = sorted(indices[start : start + window], key=self._sizes.__getitem__)
            batches = [alike[at : at + self._together] for at in range(0, len(alike), self._together)]
            if start + window < len(indices):
                rng.shuffle(batches)  # in the last window the one that is not full has to stay last
            for batch in batches:
                yield from batch
