"""Training every parameter, no adapter: what changes, that it goes on after an interruption, and what is exported."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from tests.models import eagerly, short_tasks, tiny_backbone, tokenizer, tokens
from training.export import About, export
from training.lessons import Turns
from training.model import load_model
from training.records import Record
from training.settings import StageSettings
from training.stage import Trained, train
from umi.errors import BadCheckpoint
from umi.manifest import ALL_ROLES, Checkpoint, Kind
from umi.roles import Role

SETTINGS = StageSettings(learning_rate=1e-2, epochs=2, rank=0, save_steps=2, tasks_per_pass=2)  # 4 steps
FACTS = {"stage": "global", "tasks": 8, "data": "generated tasks"}


@pytest.fixture(scope="module", autouse=True)
def eager() -> Iterator[None]:
    with eagerly():
        yield


@pytest.fixture(scope="module")
def records() -> list[Record]:
    made = short_tasks(40)
    return [task.record() for task in made[:8]]


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_backbone(tmp_path_factory.mktemp("backbone"))


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("work")


@pytest.fixture(scope="module")
def trained(records: list[Record], backbone: Path, work: Path) -> Trained:
    return train(records, Turns(), SETTINGS, backbone, work)


@pytest.fixture(scope="module")
def checkpoint(trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("checkpoints") / "global"
    export(trained.model, tokenizer(), target, Turns(), About("global-1", "Tiny", FACTS, trained.log))
    return target


def weights(model: Any) -> dict[str, torch.Tensor]:
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}


def test_every_parameter_is_trained_in_float32(trained: Trained, backbone: Path) -> None:
    before, after = weights(load_model(backbone, SETTINGS)), weights(trained.model)
    assert before.keys() == after.keys()
    assert {tensor.dtype for tensor in after.values()} == {torch.float32}
    assert not any(torch.equal(before[name], after[name]) for name in after)


def test_an_interrupted_run_ends_with_the_weights_of_an_uninterrupted_one(
    trained: Trained, records: list[Record], backbone: Path, work: Path, tmp_path: Path
) -> None:
    shutil.copytree(work / "checkpoint-2", tmp_path / "checkpoint-2")
    (tmp_path / "checkpoint-3").mkdir()  # cut off while it was written: there is no state in it
    resumed = weights(train(records, Turns(), SETTINGS, backbone, tmp_path).model)
    for name, tensor in weights(trained.model).items():
        assert torch.allclose(resumed[name], tensor, rtol=0, atol=1e-6)


def test_computing_activations_twice_changes_nothing(
    trained: Trained, records: list[Record], backbone: Path, tmp_path: Path
) -> None:
    settings = SETTINGS.model_copy(update={"recompute": True})
    again = weights(train(records, Turns(), settings, backbone, tmp_path).model)
    for name, tensor in weights(trained.model).items():
        assert torch.allclose(again[name], tensor, rtol=0, atol=1e-6)


def test_what_is_exported_is_a_whole_model_in_bfloat16(checkpoint: Path, trained: Trained) -> None:
    manifest = Checkpoint.open(checkpoint).manifest
    assert (manifest.kind, manifest.rank, manifest.roles) == (Kind.FULL, None, ALL_ROLES)
    assert manifest.stop == tokenizer().eos_token
    assert {"model.safetensors", "config.json", "tokenizer.json", "tokenizer_config.json"} <= manifest.files.keys()
    saved = load_file(checkpoint / "model.safetensors")
    assert {tensor.dtype for tensor in saved.values()} == {torch.bfloat16}
    assert "lm_head.weight" not in saved  # tied: it is the embedding


def test_the_export_gives_the_logits_of_the_trained_model(checkpoint: Path, work: Path, backbone: Path) -> None:
    """bfloat16 keeps eight bits of a weight; through all layers logits differ by less than 2 % of the largest.

    The trainer computes in bfloat16 as well; its float32 weights are compared in float32.
    """
    row = torch.tensor([tokens("What is the capital of France? To find it, use country_facts.")])
    places = (work / "checkpoint-4", checkpoint, backbone)
    models: list[Any] = [AutoModelForCausalLM.from_pretrained(place, dtype=torch.float32) for place in places]
    with torch.no_grad():
        trained, exported, before = (model.eval()(input_ids=row).logits for model in models)
    largest = trained.abs().max()
    assert (trained - exported).abs().max() < 0.02 * largest
    assert (trained - before).abs().max() > 0.2 * largest
    assert AutoTokenizer.from_pretrained(checkpoint)("use", add_special_tokens=False)["input_ids"] == tokens("use")


def test_a_local_stage_starts_from_the_parents_weights(checkpoint: Path, trained: Trained, backbone: Path) -> None:
    local = weights(load_model(backbone, SETTINGS, checkpoint))
    for name, tensor in weights(trained.model).items():
        assert torch.equal(local[name], tensor.to(torch.bfloat16).float())


def test_an_adapter_is_not_trained_on_from_full_weights(checkpoint: Path, backbone: Path) -> None:
    with pytest.raises(BadCheckpoint, match="rank=0"):
        load_model(backbone, SETTINGS.model_copy(update={"rank": 4}), checkpoint)


def test_a_replaced_checkpoint_is_the_new_one_and_nothing_is_left_beside_it(
    checkpoint: Path, trained: Trained, tmp_path: Path
) -> None:
    target = tmp_path / "planner"
    shutil.copytree(checkpoint, target)
    (target / "stray.bin").write_bytes(b"")
    export(trained.model, tokenizer(), target, Turns(Role.PLANNER), About("planner-2", "Tiny", FACTS))
    assert Checkpoint.open(target).manifest.version == "planner-2"
    assert [path.name for path in tmp_path.iterdir()] == ["planner"]
    assert not (target / "stray.bin").exists()
