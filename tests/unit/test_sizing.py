"""The arithmetic behind `umi size`, against published figures."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from gateway.cli import create_cli
from gateway.sizing import CARDS, GIB, MODELS, Model, Plan, size


@pytest.mark.parametrize(
    ("name", "parameters"), [("7b", 6.738e9), ("13b", 13.016e9), ("7b-gqa", 7.616e9), ("8b-gqa", 8.030e9)]
)
def test_parameters_are_those_that_were_published(name: str, parameters: float) -> None:
    model = MODELS[name]
    assert model.linear + model.embeddings == pytest.approx(parameters, rel=1e-3)


def test_the_cache_of_a_token_follows_the_key_value_heads() -> None:
    """Llama 2 7B: half a MiB, the figure of the PagedAttention paper's kind of model; Llama 3.1 8B: a quarter of it."""
    assert size(MODELS["7b"], Plan(), CARDS["H100"]).kv_per_token == 512 * 1024
    assert size(MODELS["8b-gqa"], Plan(), CARDS["H100"]).kv_per_token == 128 * 1024
    assert size(MODELS["8b-gqa"], Plan(kv="fp8"), CARDS["H100"]).kv_per_token == 64 * 1024


def test_gpus_share_weights_and_heads_but_no_head_is_split() -> None:
    whole, halves = (size(MODELS["7b-gqa"], Plan(tensor_parallel=n), CARDS["L4"]) for n in (1, 2))
    assert (halves.weights, halves.kv_per_token) == (whole.weights / 2, whole.kv_per_token / 2)
    assert size(MODELS["7b-gqa"], Plan(tensor_parallel=8), CARDS["L4"]).kv_per_token == whole.kv_per_token / 4


def test_quantised_weights_leave_embeddings_as_they_are() -> None:
    model = MODELS["13b"]
    assert size(model, Plan(weights="fp8"), 0).weights == model.linear + 2 * model.embeddings
    assert size(model, Plan(weights="int4"), 0).weights / GIB == pytest.approx(6.7, abs=0.1)


def test_what_does_not_fit_has_no_runs() -> None:
    found = size(MODELS["13b"], Plan(), CARDS["L4"])
    assert (found.kv_cache < 0, found.at_full_length, found.at(100)) == (True, 0, 0)


def test_the_command_reads_a_checkpoint_and_says_what_is_missing(tmp_path: Path) -> None:
    config = {"hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30, "num_attention_heads": 9}
    config |= {"num_key_value_heads": 3, "vocab_size": 49152, "tie_word_embeddings": True}
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert Model.read(tmp_path).linear + Model.read(tmp_path).embeddings == pytest.approx(134.5e6, rel=1e-3)
    runner = CliRunner(env={"COLUMNS": "160"})
    assert "0.13 billion" in runner.invoke(create_cli(), ["size", str(tmp_path)]).output
    shared = runner.invoke(create_cli(), ["size", "13b", "--roles", "3"]).output
    assert "lacks" in next(line for line in shared.splitlines() if "A100 40G" in line)
    assert "none of 7b" in str(runner.invoke(create_cli(), ["size", "70b"]).exception)
