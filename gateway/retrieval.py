"""Choosing the tools for a query: BM25 over all words of an operation (bm25s), English stemming."""

from collections.abc import Sequence

import bm25s
import Stemmer


class Retriever:
    """An immutable index over named texts; build a new one when the tools change."""

    def __init__(self, texts: dict[str, str]) -> None:
        self._names = list(texts)
        self._stemmer = Stemmer.Stemmer("english")
        tokens = bm25s.tokenize(list(texts.values()), stemmer=self._stemmer, return_ids=False, show_progress=False)
        self._index: bm25s.BM25 | None = None
        if any(tokens):
            self._index = bm25s.BM25()
            self._index.index(tokens, show_progress=False)

    def top(self, query: str, k: int, among: Sequence[str]) -> list[str]:
        """The `k` names of `among` that fit `query` best, in the order of `among`.

        That order stays the same from query to query, so that prompts share prefixes. Names that share no word with
        the query fill up from the front.
        """
        if len(among) <= k:
            return list(among)
        scores = self._scores(query)
        ranked = sorted(among, key=lambda name: -scores.get(name, 0.0))  # stable: ties keep their order
        chosen = set(ranked[:k])
        return [name for name in among if name in chosen]

    def fitting(self, query: str, k: int, among: Sequence[str]) -> list[str]:
        """The at most `k` names of `among` that share words with `query`, best first."""
        scores = self._scores(query)
        return sorted((name for name in among if scores.get(name, 0.0) > 0), key=lambda name: -scores[name])[:k]

    def _scores(self, query: str) -> dict[str, float]:
        if self._index is None:
            return {}
        words = bm25s.tokenize(query, stemmer=self._stemmer, return_ids=False, show_progress=False)[0]
        known = [str(word) for word in words if word in self._index.vocab_dict]
        if not known:
            return {}
        return dict(zip(self._names, map(float, self._index.get_scores(known)), strict=True))
