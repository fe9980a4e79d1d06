"""Choosing the tools for a query: BM25 over all words of an operation (bm25s), English stemming."""

from collections.abc import Sequence

import bm25s
import numpy as np
import numpy.typing as npt
import Stemmer


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

    def top(self, query: str, k: int, among: Sequence[str] | None = None) -> list[str]:
        """The `k` names of `among` (all, when None) that fit `query` best, in their own order.

        That order stays the same from query to query, so that prompts share prefixes. Names that share no word with
        the query fill up from the front.
        """
        names = self._names if among is None else among
        if len(names) <= k:
            return list(names)
        best = _best(self._scores(query, among), k)
        return [names[place] for place in sorted(best)]

    def fitting(self, query: str, k: int, among: Sequence[str] | None = None) -> list[str]:
        """The at most `k` names of `among` (all, when None) that share words with `query`, best first."""
        names = self._names if among is None else among
        scores = self._scores(query, among)
        return [names[place] for place in _best(scores, min(k, len(names))) if scores[place] > 0]

    def _scores(self, query: str, among: Sequence[str] | None) -> npt.NDArray[np.float32]:
        """How well each name fits, in the order of the names."""
        places = slice(None) if among is None else [self._places[name] for name in among]
        nothing = np.zeros(len(self._names), np.float32)
        if self._index is None:
            return nothing[places]
        words = bm25s.tokenize(query, stemmer=self._stemmer, return_ids=False, show_progress=False)[0]
        known = [str(word) for word in words if word in self._index.vocab_dict]
        return (self._index.get_scores(known) if known else nothing)[places]


def _best(scores: npt.NDArray[np.float32], k: int) -> list[int]:
    """Where the `k` highest scores are, the highest first; of equal ones the first."""
    if len(scores) > 50 * k:  # nobody sorts a hundred thousand for five
        least = np.partition(scores, -k)[-k]
        candidates = np.flatnonzero(scores >= least)
    else:
        candidates = np.arange(len(scores))
    return candidates[np.argsort(-scores[candidates], kind="stable")][:k].tolist()
