"""Nearness in meaning, beside BM25's words: vectors of tools that are made once, in the background, and of queries."""

import asyncio
import logging
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Literal, Self

import numpy as np
import numpy.typing as npt

from gateway.metrics import Metrics
from gateway.tools.embedder import Embedder, NoVectors, Vectors
from gateway.tools.retrieval import Scores

What = Literal["query", "tools"]
_log = logging.getLogger("umi.gateway")
_BATCH, _BATCH_SECONDS, _REST_SECONDS = 32, 60.0, 30.0
"""Texts in one request (TEI takes no more by default), its time, and how long an endpoint that fails is let rest."""


class Embeddings:
    """Vectors by content, in memory, for as long as their texts are held. An async context manager.

    Nobody waits for it longer than `seconds`: what fails is not asked again before it has rested, and meanwhile words
    alone count. A failure is logged when it begins and when it ends.
    """

    def __init__(
        self, embedder: Embedder, metrics: Metrics, seconds: float = 1.0, rest_seconds: float = _REST_SECONDS
    ) -> None:
        self._embedder, self._metrics, self._seconds, self._rest_seconds = embedder, metrics, seconds, rest_seconds
        self._vectors: dict[str, Vectors] = {}
        self._missing: dict[str, None] = {}
        self._dimension: int | None = None
        self._rests_until, self._fails = 0.0, False
        self._wake = asyncio.Event()
        self._learning: asyncio.Task[None] | None = None
        self.revision = 0
        """Counts up whenever another vector is known, or one no more."""

    async def __aenter__(self) -> Self:
        self._learning = asyncio.create_task(self._learn(), name="embeddings")
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._learning is not None
        self._learning.cancel()
        await asyncio.gather(self._learning, return_exceptions=True)

    def hold(self, texts: Iterable[str]) -> None:
        """Keep the vectors of these texts and of no others; those that have none yet get theirs soon."""
        held = dict.fromkeys(texts)
        self._vectors = {text: self._vectors[text] for text in held if text in self._vectors}
        self._missing = {text: None for text in held if text not in self._vectors}
        self._wake.set()

    def rows(self, texts: Sequence[str]) -> Vectors | None:
        """A row for each text, of zeros where it has no vector yet; None while none of them has one."""
        found = [self._vectors.get(text) for text in texts]
        if self._dimension is None or all(vector is None for vector in found):
            return None
        rows = np.zeros((len(texts), self._dimension), np.float32)
        for row, vector in zip(rows, found, strict=True):
            if vector is not None:
                row[:] = vector
        return rows

    async def of_query(self, query: str) -> Vectors | None:
        """Its vector, of the dimension of all others; None when it cannot be had in time."""
        if self._left_to_rest() > 0:
            self._metrics.embedded("query", "resting")
            return None
        found = await self._ask("query", [query], self._seconds)
        return None if found is None else found[0]

    async def _learn(self) -> None:
        while True:
            await self._wake.wait()
            while (left := self._left_to_rest()) > 0:
                await asyncio.sleep(left)
            batch = list(islice(self._missing, _BATCH))
            if not batch:
                self._wake.clear()
                continue
            if (found := await self._ask("tools", batch, _BATCH_SECONDS)) is None:
                continue
            for text, vector in zip(batch, found, strict=True):
                if text in self._missing:  # it may have been let go of meanwhile
                    del self._missing[text]
                    self._vectors[text] = vector
            self.revision += 1

    async def _ask(self, what: What, texts: Sequence[str], seconds: float) -> Vectors | None:
        try:
            async with asyncio.timeout(seconds):
                found = await self._embedder.embed(texts)
            self._require_dimension(found.shape[1])
        except TimeoutError:
            self._failed(what, f"gives no answer within {seconds:g} s")
        except NoVectors as error:
            self._failed(what, str(error))
        else:
            self._metrics.embedded(what, "ok")
            if self._fails:
                self._fails = False
                _log.info("the embedding endpoint answers again")
            return found
        return None

    def _require_dimension(self, dimension: int) -> None:
        """Raises NoVectors after another model has taken the place of the one whose vectors are known."""
        if self._dimension not in (None, dimension):
            before, self._dimension = self._dimension, None
            self._missing, self._vectors = dict.fromkeys([*self._vectors, *self._missing]), {}
            self.revision += 1
            self._wake.set()
            raise NoVectors(f"gives {dimension} numbers, not {before} as before; all tools are embedded anew")
        self._dimension = dimension

    def _failed(self, what: What, why: str) -> None:
        self._metrics.embedded(what, "failed")
        self._rests_until = asyncio.get_running_loop().time() + self._rest_seconds
        if not self._fails:
            self._fails = True
            _log.warning(
                "tools are found by words alone: the embedding endpoint %s; it is asked again every %g s",
                why,
                self._rest_seconds,
            )

    def _left_to_rest(self) -> float:
        return self._rests_until - asyncio.get_running_loop().time()


class Nearness:
    """How near some texts are to queries."""

    def __init__(self, texts: Sequence[str], embeddings: Embeddings) -> None:
        self._texts, self._embeddings = texts, embeddings
        self._rows: Vectors | None = None
        self._is_known: npt.NDArray[np.bool_] = np.zeros(0, np.bool_)
        self._revision = -1

    async def to(self, query: str) -> Scores | None:
        """For each text 1 + its cosine with the query, 0 while it has no vector; None when nothing is known."""
        if self._known() is None:
            return None
        vector = await self._embeddings.of_query(query)
        rows = self._known()  # there may be more of them by now
        if vector is None or rows is None or rows.shape[1] != len(vector):
            return None
        return np.where(self._is_known, np.maximum(0, 1 + rows @ vector), 0)

    def _known(self) -> Vectors | None:
        if self._revision != self._embeddings.revision:
            self._revision = self._embeddings.revision
            self._rows = self._embeddings.rows(self._texts)
            if self._rows is not None:
                self._is_known = np.linalg.norm(self._rows, axis=1) > 0
        return self._rows
