"""Tools found by meaning: vectors of an embedding server on loopback beside BM25, and BM25 alone when that fails."""

import asyncio
import json
import logging
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from gateway.metrics import Metrics
from gateway.settings import Settings
from gateway.tools.embedder import Embedder, NoVectors
from gateway.tools.embeddings import Embeddings, Nearness
from gateway.tools.endpoint import Endpoint
from gateway.tools.retrieval import Retriever
from gateway.transport import RoleClient
from tests.embedding import KEY, FakeEmbeddings
from tests.fakes import free_port, serve
from tests.world import World
from umi.roles import Role
from umi.settings import FILES

TOOLS = {
    "hire_auto": "hire an auto",
    "photo": "show a photo",
    "please_note": "note what users want",
    "users": "list users",
    "moon": "phase of the moon",
    "tide": "height of the tide",
    "stars": "which stars rise",
}
PARAPHRASE = "users want automobiles"
"""Its words are those of other tools; what it is about only a meaning tells."""
LIMIT = 0.3


@pytest.fixture
def fake() -> FakeEmbeddings:
    return FakeEmbeddings()


@pytest.fixture
def url(fake: FakeEmbeddings) -> Iterator[str]:
    with serve(fake.app()) as base:
        yield f"{base}/v1"


@asynccontextmanager
async def opened(url: str, metrics: Metrics | None = None, rest: float = 60.0) -> AsyncIterator[Embeddings]:
    async with RoleClient(8) as client:
        embedder = Embedder(client, Endpoint(url, "some-model", KEY))
        async with Embeddings(embedder, metrics or Metrics(), LIMIT, rest) as embeddings:
            yield embeddings


async def until(condition: Callable[[], Any]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.005)


def known(embeddings: Embeddings, texts: list[str]) -> bool:
    rows = embeddings.rows(texts)
    return rows is not None and bool(rows.any(axis=1).all())


async def learnt(embeddings: Embeddings, tools: dict[str, str] = TOOLS) -> Nearness:
    texts = list(tools.values())
    embeddings.hold(texts)
    await until(lambda: known(embeddings, texts))
    return Nearness(texts, embeddings)


async def test_a_paraphrase_that_shares_no_word_is_found_by_meaning(fake: FakeEmbeddings, url: str) -> None:
    words = Retriever(TOOLS)
    assert "hire_auto" not in words.fitting(PARAPHRASE, 7)
    async with opened(url) as embeddings:
        near = await (await learnt(embeddings)).to(PARAPHRASE)
        assert near is not None
        assert "hire_auto" in words.top(PARAPHRASE, 3, near=near)
        assert words.fitting("list users", 1, near=await Nearness([*TOOLS.values()], embeddings).to("list users")) == [
            "users"
        ], "what fits in words and in meaning is first"
    assert fake.models == {"some-model"}


async def test_every_text_is_embedded_once_however_often_it_is_held(fake: FakeEmbeddings, url: str) -> None:
    many = {f"tool{n}": f"tool number {n}" for n in range(70)}
    async with opened(url) as embeddings:
        await learnt(embeddings, many)
        assert sorted(fake.texts) == sorted(many.values())
        assert [len(texts) for texts in fake.asked] == [32, 32, 6]
        await learnt(embeddings, many | TOOLS)
        await learnt(embeddings, TOOLS)
        assert fake.texts[70:] == list(TOOLS.values())
        assert embeddings.rows(["tool number 1"]) is None, "what nobody holds is not kept"


async def test_tools_whose_vectors_are_still_to_come_are_found_by_words_among_the_others(
    fake: FakeEmbeddings, url: str
) -> None:
    async with opened(url) as embeddings:
        await learnt(embeddings)
        more = TOOLS | {"new": "automobiles of users"}
        near = await Nearness(list(more.values()), embeddings).to(PARAPHRASE)
        assert near is not None
        assert near[-1] == 0 < near[:-1].min()
        assert "new" in Retriever(more).top(PARAPHRASE, 3, near=near)


def entry(index: Any, *numbers: Any) -> dict[str, Any]:
    return {"index": index, "embedding": list(numbers)}


@pytest.mark.parametrize(
    "nonsense",
    [
        {"data": []},
        {"data": [entry(0, *[0.1] * 512), entry(1, *[0.1] * 512)]},
        {"data": [entry(1, *[0.1] * 512)]},
        {"data": [entry(0, *[0.1] * 511)]},
        {"data": [entry(0)]},
        {"data": [entry(0, *[0.0] * 512)]},
        {"data": [entry(0, *[1e300] * 512)]},
        {"data": [entry(0, *[1e30] * 512)]},
        {"data": [entry(0, float("nan"), *[0.1] * 511)]},
        {"data": [entry(0, float("inf"), *[0.1] * 511)]},
        {"data": [entry(0, "a", *[0.1] * 511)]},
        {"data": [[0.1] * 512]},
        {"data": {"0": entry(0, 0.1)}},
        {"error": "no"},
        [],
        None,
        "<html>",
        "[" * 100_000,
        "",
    ],
)
async def test_after_nonsense_words_alone_count(fake: FakeEmbeddings, url: str, nonsense: Any) -> None:
    async with opened(url) as embeddings:
        nearness = await learnt(embeddings)
        assert await nearness.to(PARAPHRASE) is not None
        fake.spoil = lambda body: nonsense
        assert await nearness.to(PARAPHRASE) is None


async def test_a_batch_with_a_vector_too_few_teaches_nothing(fake: FakeEmbeddings, url: str) -> None:
    fake.spoil = lambda body: body | {"data": body["data"][1:]}
    async with opened(url) as embeddings:
        embeddings.hold(TOOLS.values())
        await until(lambda: fake.asked)
        await asyncio.sleep(0.1)
        assert embeddings.rows(list(TOOLS.values())) is None
        assert len(fake.asked) == 1, "it rests before it is asked again"


async def test_a_failure_is_told_once_and_tried_again_after_a_rest(
    fake: FakeEmbeddings, url: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "umi.gateway")
    metrics = Metrics()
    async with opened(url, metrics, rest=0.4) as embeddings:
        nearness = await learnt(embeddings)
        fake.status = 503
        for _ in range(2):
            for _ in range(5):
                assert await nearness.to(PARAPHRASE) is None
            await asyncio.sleep(0.5)
        fake.status = 200
        assert await nearness.to(PARAPHRASE) is not None
    told = [record.getMessage() for record in caplog.records if record.name == "umi.gateway"]
    assert len(told) == 2
    assert "answers 503" in told[0]
    assert "answers again" in told[1]
    assert KEY not in caplog.text
    counted = metrics.render().decode()
    for outcome, times in (("ok", 1), ("failed", 2), ("resting", 8)):
        assert f'umi_embedding_requests_total{{of="query",outcome="{outcome}"}} {times}.0' in counted


async def test_a_query_never_waits_longer_than_the_limit(fake: FakeEmbeddings, url: str) -> None:
    async with opened(url) as embeddings:
        nearness = await learnt(embeddings)
        fake.delay = 5.0
        started = time.monotonic()
        assert await nearness.to(PARAPHRASE) is None
        assert time.monotonic() - started < 2.5
        asked = len(fake.asked)
        started = time.monotonic()
        assert await nearness.to(PARAPHRASE) is None
        assert time.monotonic() - started < LIMIT
        assert len(fake.asked) == asked


async def test_an_endpoint_that_is_not_there_costs_no_query_anything_but_its_meaning() -> None:
    async with opened(f"http://127.0.0.1:{free_port()}/v1") as embeddings:
        embeddings.hold(TOOLS.values())
        assert await Nearness(list(TOOLS.values()), embeddings).to(PARAPHRASE) is None
        assert await embeddings.of_query(PARAPHRASE) is None


async def test_a_model_of_another_dimension_embeds_all_tools_anew(fake: FakeEmbeddings, url: str) -> None:
    async with opened(url, rest=0.05) as embeddings:
        nearness = await learnt(embeddings)
        fake.dimension = 256
        assert await nearness.to(PARAPHRASE) is None
        await until(lambda: known(embeddings, list(TOOLS.values())))
        near = await nearness.to("automobiles")
        assert near is not None
        assert list(TOOLS)[int(near.argmax())] == "hire_auto"


async def test_texts_that_are_too_long_for_the_model_are_cut_and_keep_no_other_back(
    fake: FakeEmbeddings, url: str
) -> None:
    fake.longest = 400
    long = {"long": "automobiles " * 500, "other": "long words " * 60}
    async with opened(url) as embeddings:
        await learnt(embeddings, TOOLS | long)
        assert max(map(len, fake.texts)) <= 1200
        query = await embeddings.of_query("automobiles " * 700)
        assert query is not None


async def test_texts_that_are_refused_at_any_length_are_given_up(fake: FakeEmbeddings, url: str) -> None:
    fake.longest = 0
    async with RoleClient(1) as client:
        with pytest.raises(NoVectors, match="answers 400"):
            await Embedder(client, Endpoint(url, "some-model", KEY)).embed(["word " * 1000] * 32)
    assert len(fake.asked) <= 10


def document(**tools: str) -> dict[str, Any]:
    paths = {f"/{name}": {"get": {"operationId": name, "summary": text}} for name, text in tools.items()}
    return {"openapi": "3.1.0", "servers": [{"url": "https://tools.example"}], "paths": paths}


def test_a_gateway_offers_by_meaning_and_embeds_what_is_registered_later(
    fake: FakeEmbeddings, url: str, tmp_path: Path
) -> None:
    with ExitStack() as stack:
        world = World(tmp_path, stack)
        world.client.delete("/v1/toolsets/test").raise_for_status()
        settings = {"embedding_url": url, "embedding_model": "some-model", "embedding_seconds": 5.0, "max_offered": 3}
        world.client.base_url = world.start(**settings, embedding_key=KEY)

        def register(name: str, **tools: str) -> None:
            asked = len(fake.texts)
            body = {"name": name, "document": document(**tools)}
            world.client.post("/v1/toolsets", json=body).raise_for_status()
            deadline = time.monotonic() + 10
            while len(fake.texts) < asked + fresh and time.monotonic() < deadline:
                time.sleep(0.01)

        def offered(query: str) -> set[str]:
            return {tool["name"] for tool in world.client.get("/v1/tools", params={"query": query}).json()}

        fresh = len(TOOLS)
        register("sky", **TOOLS)
        assert len(fake.texts) == len(TOOLS)
        assert "hire_auto" in offered(PARAPHRASE)
        fresh = 1
        register("more", dishes="wash the dishes")
        assert [text for text in fake.texts if "dishes" in text][1:] == []
        before = len(fake.texts)
        fresh = 0
        register("more", dishes="wash the dishes")
        assert offered("dishwashing and moonlight") >= {"dishes", "moon"}
        assert fake.texts[before:] == ["dishwashing and moonlight"]
        world.script.wants, world.script.answer = "automobilism", "No tool."
        run = world.run(query="the phase of the moon", max_steps=4)
        trajectory = [asked.trajectory for role, asked in world.script.requests if role is Role.PLANNER][1]
        assert "hire_auto" in {tool.name for tool in trajectory.tools}, (
            "what the planner misses is found by meaning too"
        )
        assert run["outcome"] == "gave_up"
        fake.status = 500
        assert "users" in offered("list users")


def test_few_tools_need_no_embedding_of_the_query(fake: FakeEmbeddings, url: str, tmp_path: Path) -> None:
    with ExitStack() as stack:
        world = World(tmp_path, stack)
        world.client.base_url = world.start(embedding_url=url, embedding_model="m", embedding_key=KEY)
        assert world.run()["outcome"] == "answered"
        assert "What is 2 + 3?" not in fake.texts


def test_an_endpoint_is_a_setting_whose_key_is_a_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert Settings().embedding_endpoint is None
    monkeypatch.setenv("UMI_EMBEDDING_URL", "http://models:8080/v1/")
    with pytest.raises(ValidationError, match="told a model") as caught:
        Settings()
    assert caught.value.errors()[0]["loc"] == ("embedding_model",)
    monkeypatch.setenv("UMI_EMBEDDING_MODEL", "bge-small")
    (tmp_path / "umi_embedding_key").write_text(f"{KEY}\n")
    monkeypatch.setenv(FILES, str(tmp_path))
    settings = Settings()
    assert settings.embedding_endpoint == Endpoint("http://models:8080/v1", "bge-small", KEY, 1.0)
    assert KEY not in repr(settings) + repr(settings.embedding_endpoint) + json.dumps(settings.model_dump(mode="json"))
