"""An embedding server on loopback: hashed parts of words stand for meaning. It can be made slow, picky or wrong."""

import asyncio
import json
import zlib
from collections.abc import Callable
from typing import Any

from fastapi import FastAPI, Request, Response

KEY = "sk-embedding-key-0123456789"


class FakeEmbeddings:
    """`asked` are the texts of every request; `spoil` changes a body before it is answered."""

    def __init__(self) -> None:
        self.asked: list[list[str]] = []
        self.models: set[str] = set()
        self.dimension, self.delay, self.status, self.longest = 512, 0.0, 200, 10_000
        self.spoil: Callable[[dict[str, Any]], Any] = lambda body: body

    def app(self) -> FastAPI:
        app = FastAPI()

        @app.post("/v1/embeddings")
        async def embed(request: Request) -> Response:
            body = await request.json()
            texts: list[str] = body["input"]
            self.asked.append(texts)
            self.models.add(body["model"])
            await asyncio.sleep(self.delay)
            if request.headers.get("authorization") != f"Bearer {KEY}":
                return Response(status_code=401)
            if self.status != 200:
                return Response(status_code=self.status)
            if any(len(text) > self.longest for text in texts):
                return Response(json.dumps({"error": {"message": "too long"}}), 400)
            data = [{"index": n, "embedding": vector(text, self.dimension)} for n, text in enumerate(texts)]
            answer = self.spoil({"object": "list", "data": data[::-1], "model": body["model"]})
            text = answer if isinstance(answer, str) else json.dumps(answer)
            return Response(text, media_type="application/json")

        return app

    @property
    def texts(self) -> list[str]:
        """All that was asked for, in order."""
        return [text for texts in self.asked for text in texts]


def vector(text: str, dimension: int) -> list[float]:
    """Counts of the text's trigrams, hashed; those at the beginning of words count twice."""
    counts = [0.0] * dimension
    for word in text.lower().replace("_", " ").split():
        for start in range(len(word) - 2):
            counts[zlib.crc32(word[start : start + 3].encode()) % dimension] += 2 if start == 0 else 1
    return counts if any(counts) else [1.0] * dimension
