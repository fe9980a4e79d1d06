"""Choosing the tools for a query: BM25 over all words of an operation (bm25s), English stemming.

Where it is known how near tools are in meaning (`gateway.tools.embeddings`), the two rankings are fused.
"""

from collections.abc import Sequence

import bm25s
import numpy as np
import numpy.typing as npt
import Stemmer

Scores = npt.NDArray[np.float32]
_FUSED, _RANKED = 60, 1000
"""The constant of reciprocal rank fusion (Cormack, Clarke and Büttcher, SIGIR 2009); so many of a ranking count."""


class Retriever:
    """An immutable index over named texts; build a new one when the tools change."""

    def __init__(self, texts: dict[str, str]) -> None:
        self._names = list(texts)
        self._places = {name: place for place, name in enumerate(self._names)}
        self._stemmer = Stemmer.Stemmer("english")
        tokens = bm25s.tokenize(list(texts.values()), stemmer=self._stemmer, return_ids=False, show_progress=False)
        self._index: bm25s.BM25 | None = None
        if any(tokens):
            self._index = bm25s.BM25()
            self._index.index(tokens, show_progress=False)

    def top(self, query: str, k: int, among: Sequence[str] | None = None, near: Scores | None = None) -> list[str]:
        """The `k` names of `among` (all, when None) that fit `query` best, in their own order.

        `near` says of all names how near they are in meaning, 0 where that is not known. The order stays the same from
        query to query, so that prompts share prefixes. Names that fit in no way fill up from the front.
        """
        names = self._names if among is None else among
        if len(names) <= k:
            return list(names)
        best = _best(self._scores(query, among, near), k)
        return [names[place] for place in sorted(best)]

    def fitting(self, query: str, k: int, among: Sequence[str] | None = None, near: Scores | None = None) -> list[str]:
        """The at most `k` names of `among` (all, when None) that share words with `query` or are `near`, best first."""
        names = self._names if among is None else among
        scores = self._scores(query, among, near)
        return [names[place] for place in _best(scores, min(k, len(names))) if scores[place] > 0]

    def _scores(self, query: str, among: Sequence[str] | None, near: Scores | None) -> Scores:
        """How well each name fits, in the order of the names; 0: not at all."""
        places = slice(None) if among is None else [self._places[name] for name in among]
        words = self._in_words(query)[places]
        return words if near is None else _fused(words, near[places])

    def _in_words(self, query: str) -> Scores:
        nothing = np.zeros(len(self._names), np.float32)
        if self._index is None:
            return nothing
        words = bm25s.tokenize(query, stemmer=self._stemmer, return_ids=False, show_progress=False)[0]
        known = [str(word) for word in words if word in self._index.vocab_dict]
        return self._index.get_scores(known) if known else nothing


def _fused(words: Scores, near: Scores) -> Scores:
    """Sums of 1 / (60 + rank). Where it is not known how near a name is, its rank by words stands for that as well."""
    by_words = _ranks(words)
    by_nearness = np.where(near > 0, _ranks(near), by_words)
    fused = 1 / (_FUSED + by_words) + 1 / (_FUSED + by_nearness)
    return np.where((words > 0) | (near > 0), fused, 0).astype(np.float32)


def _ranks(scores: Scores) -> npt.NDArray[np.int64]:
    """From 1. What scores nothing shares the place after the last, so that the other ranking decides."""
    best = [place for place in _best(scores, min(_RANKED, len(scores))) if scores[place] > 0]
    ranks = np.full(len(scores), len(best) + 1)
    ranks[best] = np.arange(1, len(best) + 1)
    return ranks


def _best(scores: Scores, k: int) -> list[int]:
    """Where the `k` highest scores are, the highest first; of equal ones the first."""
    if len(scores) > 50 * k:  # nobody sorts a hundred thousand for five
        least = np.partition(scores, -k)[-k]
        candidates = np.flatnonzero(scores >= least)
    else:
        candidates = np.arange(len(scores))
    return candidates[np.argsort(-scores[candidates], kind="stable")][:k].tolist()
