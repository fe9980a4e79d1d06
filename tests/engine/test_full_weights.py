"""Full weights that vLLM really replaces in place: a tiny model of random weights, and another. Half a minute."""

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from services.engine import Replaced, Sampling
from services.launch import environment
from services.settings import RoleSettings
from services.vllm_engine import VllmEngine
from tests.models import tokenizer
from umi import manifest
from umi.errors import BadCheckpoint
from umi.manifest import ALL_ROLES, Checkpoint, Kind
from umi.prompt import PromptTemplate

pytest.importorskip("vllm")
pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.timeout(300),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]
PROMPT = "The capital of France is"


def random_model(directory: Path, seed: int, layers: int = 2, bends: bool = False) -> Checkpoint:
    """Full weights of a Llama that is large enough for vLLM's kernels and no larger.

    One that `bends` differs from the one of its seed in linear layers alone, as a merged adapter does.
    """
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(tokenizer()),
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=layers,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=512,
        initializer_range=0.2,
        tie_word_embeddings=True,
    )
    model = LlamaForCausalLM(config)
    if bends:
        for layer in model.model.layers:
            layer.mlp.down_proj.weight.data *= -1
    model.save_pretrained(directory)
    tokenizer().save_pretrained(directory)
    names = [path.name for path in directory.iterdir()]
    fields: dict[str, Any] = {"roles": ALL_ROLES, "kind": Kind.FULL, "backbone": "tiny"}
    manifest.write(directory, PromptTemplate.default(), names, version=directory.name, **fields)
    return Checkpoint.open(directory)


def expected(checkpoint: Checkpoint, tokens: int) -> str:
    """What transformers writes with the same weights."""
    import torch
    from transformers import AutoModelForCausalLM

    model: Any = AutoModelForCausalLM.from_pretrained(checkpoint.directory, dtype=torch.float32)
    ids = tokenizer()(PROMPT, add_special_tokens=False, return_tensors="pt")["input_ids"]
    written = model.generate(
        input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=tokens, do_sample=False, pad_token_id=0
    )
    return tokenizer().decode(written[0, ids.shape[1] :], skip_special_tokens=True)


def surprise(checkpoint: Checkpoint, text: str) -> float:
    """How far a token of the text, and the stop after it, falls behind the likeliest one, by transformers."""
    import torch
    from transformers import AutoModelForCausalLM

    model: Any = AutoModelForCausalLM.from_pretrained(checkpoint.directory, dtype=torch.float32)
    prompt, stop = tokenizer().encode(PROMPT), tokenizer().encode(checkpoint.manifest.stop)
    after = [*tokenizer().encode(text, add_special_tokens=False), *stop]
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([[*prompt, *after]])).logits[0, len(prompt) - 1 : -1]
    return float((logits.max(-1).values - logits[torch.arange(len(after)), torch.tensor(after)]).max())


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> tuple[Checkpoint, Checkpoint]:
    folder = tmp_path_factory.mktemp("models")
    return random_model(folder / "one", 1), random_model(folder / "two", 2)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def engine(models: tuple[Checkpoint, Checkpoint]) -> AsyncIterator[VllmEngine]:
    settings = RoleSettings(max_model_len=512, kv_cache_mib=64, dtype="float32", threads=1)
    before = dict(os.environ)
    environment(settings)
    running = VllmEngine(settings)
    await running.load(models[0])
    yield running
    await running.shutdown()
    os.environ.clear()
    os.environ.update(before)


async def written(engine: VllmEngine, version: str, tokens: int = 12) -> str:
    return (await engine.generate(version, engine.encode(PROMPT), None, Sampling(tokens))).text


async def test_the_new_weights_are_the_ones_that_write_and_the_old_ones_can_come_back(
    engine: VllmEngine, models: tuple[Checkpoint, Checkpoint]
) -> None:
    one, two = models
    assert expected(one, 12) != expected(two, 12)
    for checkpoint in (one, two, one):
        await engine.swap(checkpoint)
        assert await written(engine, checkpoint.manifest.version) == expected(checkpoint, 12)
    with pytest.raises(Replaced):
        await written(engine, "two")


async def test_a_text_surprises_the_weights_that_are_there_now_as_much_as_transformers_says(
    engine: VllmEngine, models: tuple[Checkpoint, Checkpoint]
) -> None:
    seen = list[float]()
    for checkpoint in models:
        await engine.swap(checkpoint)
        seen.append(await engine.surprise(checkpoint.manifest.version, engine.encode(PROMPT), " Paris"))
        assert seen[-1] == pytest.approx(surprise(checkpoint, " Paris"), abs=0.05)
    assert seen[0] != pytest.approx(seen[1], abs=0.1)


async def test_weights_that_differ_in_linear_layers_alone_are_told_apart(
    engine: VllmEngine, models: tuple[Checkpoint, Checkpoint], tmp_path: Path
) -> None:
    one, _ = models
    bent = random_model(tmp_path / "bent", 1, bends=True)
    assert expected(one, 12) != expected(bent, 12)
    for checkpoint in (one, bent, one):
        await engine.swap(checkpoint)
        assert await written(engine, checkpoint.manifest.version) == expected(checkpoint, 12)


async def test_a_text_that_is_being_written_ends_and_the_next_one_waits_for_nobody(
    engine: VllmEngine, models: tuple[Checkpoint, Checkpoint]
) -> None:
    one, two = models
    await engine.swap(one)
    long = [asyncio.create_task(written(engine, "one", 450)) for _ in range(3)]
    await asyncio.sleep(0.5)
    await engine.swap(two)
    ended = await asyncio.wait_for(asyncio.gather(*long, return_exceptions=True), 10)
    assert [type(one) for one in ended] == [Replaced] * 3
    assert await written(engine, "two") == expected(two, 12)


async def test_when_they_cannot_be_read_the_old_ones_write_on(
    engine: VllmEngine, models: tuple[Checkpoint, Checkpoint], tmp_path: Path
) -> None:
    one, _ = models
    await engine.swap(one)
    with pytest.raises(BadCheckpoint, match="other needs a restart of this service: num_hidden_layers is 3, here 2"):
        await engine.swap(random_model(tmp_path / "other", 3, layers=3))
    bad = random_model(tmp_path / "bad", 4)
    unreadable(bad)
    with pytest.raises(BadCheckpoint, match="bad: vLLM cannot load these weights"):
        await engine.swap(bad)
    assert await written(engine, "one") == expected(one, 12)


def unreadable(checkpoint: Checkpoint) -> None:
    """Tensors of a type that no engine knows, in a file that looks whole."""
    path = checkpoint.directory / "model.safetensors"
    path.write_bytes(path.read_bytes().replace(b'"F32"', b'"F99"'))
