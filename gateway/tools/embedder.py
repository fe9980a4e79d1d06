"""The client of an embedding endpoint: `POST /v1/embeddings`, as OpenAI, vLLM, TEI, llama.cpp and LiteLLM serve it."""

import asyncio
import json
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, FiniteFloat, ValidationError

from gateway.tools.endpoint import Endpoint
from gateway.transport import SEND_ERRORS, RoleClient
from umi.errors import UmiError

Vectors = npt.NDArray[np.float32]
_CHARS, _LEAST_CHARS = 1200, 150
"""What is sent of a text at first, and at last when the model reads less: many read 512 tokens and refuse more."""
_TOO_LONG = {400, 413, 422}


class NoVectors(UmiError):
    """The endpoint gives no vectors that can be used; the message says why, after its name."""


class _Refused(NoVectors):
    """It does not take these texts; shorter or fewer ones it may."""


class Embedder:
    """Asks the endpoint. Every method may be cancelled."""

    def __init__(self, client: RoleClient, endpoint: Endpoint) -> None:
        self._client, self._model = client, endpoint.model
        self._url = f"{endpoint.url}/embeddings"
        authorization = {"authorization": f"Bearer {endpoint.key}"} if endpoint.key else {}
        self._headers = {"content-type": "application/json", **authorization}

    async def embed(self, texts: Sequence[str]) -> Vectors:
        """A row of length one for each text, of its beginning where it is long. Raises NoVectors."""
        return await self._embed([text[:_CHARS] for text in texts])

    async def _embed(self, texts: list[str]) -> Vectors:
        """What is refused is asked for in halves: first of the list, then of the text."""
        try:
            return await self._ask(texts)
        except _Refused:
            if len(texts) > 1:
                half = len(texts) // 2
                return _joined(await self._embed(texts[:half]), await self._embed(texts[half:]))
            if len(texts[0]) <= _LEAST_CHARS:
                raise
            return await self._embed([texts[0][: len(texts[0]) // 2]])

    async def _ask(self, texts: list[str]) -> Vectors:
        body = json.dumps({"model": self._model, "input": texts})
        try:
            response = await self._client.post(self._url, body, self._headers)
        except SEND_ERRORS as error:
            raise NoVectors(f"is not reachable ({error or type(error).__name__})") from error
        if response.status != 200:  # its words may repeat the key
            kind = _Refused if response.status in _TOO_LONG else NoVectors
            raise kind(f"answers {response.status}")
        return await asyncio.to_thread(read, response.body, len(texts))


class _Vector(BaseModel):
    index: int
    embedding: list[FiniteFloat]


class _Answer(BaseModel):
    data: list[_Vector]


def read(content: bytes, count: int) -> Vectors:
    """The vectors of a response about `count` texts, in their order and of length one. Raises NoVectors."""
    try:
        data = sorted(_Answer.model_validate_json(content).data, key=lambda vector: vector.index)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"])) or "its body"
        raise NoVectors(f"answers something unexpected: {where}: {first['msg']}") from error
    if [vector.index for vector in data] != list(range(count)):
        raise NoVectors(f"gives {len(data)} vectors for {count} texts, or not one for each")
    if len({len(vector.embedding) for vector in data}) != 1 or not data[0].embedding:
        raise NoVectors("gives vectors of different dimensions, or of none")
    with np.errstate(over="ignore"):
        vectors = np.array([vector.embedding for vector in data], np.float32)
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    if not np.isfinite(lengths).all() or not lengths.all():
        raise NoVectors("gives vectors of no length, or of one beyond all numbers")
    return vectors / lengths


def _joined(left: Vectors, right: Vectors) -> Vectors:
    if left.shape[1] != right.shape[1]:
        raise NoVectors("gives vectors of different dimensions")
    return np.concatenate([left, right])
