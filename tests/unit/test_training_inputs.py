"""What a stage refuses, before hours are lost, and what it leaves whole when it has to stop."""

import json
import resource
from collections import Counter, namedtuple
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from tests.checkpoints import random_adapter
from tests.models import eagerly, short_tasks, tiny_backbone, tokenizer
from training import stage
from training.__main__ import app
from training.data import Data, foreign
from training.export import About, export
from training.lessons import Turns
from training.model import load_model, load_tokenizer
from training.records import Record
from training.runs import Backbone, Run, run
from training.settings import StageSettings
from training.stage import arguments_of, last_whole, train
from umi.errors import BadCheckpoint, BadInput, TrainingStopped
from umi.manifest import Checkpoint

SETTINGS = StageSettings(learning_rate=1e-3, rank=2, alpha=4, save_steps=1, passes_per_step=1)
FACTS = {"stage": "global", "tasks": 6, "data": "generated tasks"}


@pytest.fixture(scope="module", autouse=True)
def eager() -> Iterator[None]:
    with eagerly():
        yield


@pytest.fixture(scope="module")
def records() -> list[Record]:
    made = short_tasks(40)
    return [task.record() for task in made if task.answer is not None][:6]


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_backbone(tmp_path_factory.mktemp("backbone"))


def edited(backbone: Path, copy: Path, name: str, **changes: object) -> Path:
    """A backbone whose JSON file `name` says something else; a value of None removes it."""
    copy.mkdir()
    for file in backbone.iterdir():
        (copy / file.name).symlink_to(file)
    content = json.loads((backbone / name).read_text()) | changes
    (copy / name).unlink()
    (copy / name).write_text(json.dumps({key: value for key, value in content.items() if value is not None}))
    return copy


def test_a_tokenizer_without_a_pad_token_trains(records: list[Record], backbone: Path, tmp_path: Path) -> None:
    unpadded = edited(backbone, tmp_path / "unpadded", "tokenizer_config.json", pad_token=None)
    assert load_tokenizer(unpadded, 100).pad_token is None
    assert train(records[:1], Turns(), SETTINGS, unpadded, tmp_path / "work").turns.counts["whole"] > 0


def test_a_tokenizer_that_cannot_end_a_target_is_refused(backbone: Path, tmp_path: Path) -> None:
    endless = edited(backbone, tmp_path / "endless", "tokenizer_config.json", eos_token=None)
    with pytest.raises(BadInput, match="eos_token"):
        load_tokenizer(endless, 100)


def test_a_context_longer_than_the_backbones_is_refused(backbone: Path) -> None:
    with pytest.raises(BadInput, match="--set max_tokens=8192"):
        load_tokenizer(backbone, 9000)


def test_a_backbone_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=str(tmp_path)):
        load_tokenizer(tmp_path, 100)


def test_a_target_longer_than_the_context_is_refused_with_its_record(
    records: list[Record], backbone: Path, tmp_path: Path
) -> None:
    wordy = records[0].model_copy(update={"id": "wordy-7", "answer": "and so on " * 300})
    with pytest.raises(BadInput, match=r"wordy-7, summarizer .* max_tokens"):
        train([*records[:2], wordy], Turns(), SETTINGS.changed(["max_tokens=600"]), backbone, tmp_path)
    assert not list(tmp_path.iterdir())


def test_an_adapter_for_another_backbone_is_refused(records: list[Record], backbone: Path, tmp_path: Path) -> None:
    parent = random_adapter(tmp_path / "parent", backbone, rank=2)
    data = Data(records, "0" * 64, "test tasks", ())
    other = Run(
        "local caller", Turns(), SETTINGS, data, Backbone(backbone, "Tiny"), tmp_path / "work", tmp_path / "caller",
        parent.directory,
    )  # fmt: skip
    with pytest.raises(BadInput, match="was trained over SmolLM2-135M-Instruct"):
        run(other)
    wider = edited(backbone, tmp_path / "wider", "config.json", intermediate_size=128)
    (wider / "model.safetensors").unlink()
    from transformers import AutoConfig, AutoModelForCausalLM

    AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(wider)).save_pretrained(wider)
    with pytest.raises(BadCheckpoint, match="does not fit"):
        load_model(wider, SETTINGS, parent.directory)


def test_processes_that_cannot_share_an_update_are_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("WORLD_SIZE", "4")
    with pytest.raises(BadInput, match="--set passes_per_step=4"):
        arguments_of(SETTINGS.changed(["passes_per_step=6"]), tmp_path)


def test_a_disk_too_small_for_the_checkpoints_is_refused(
    records: list[Record], backbone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(stage.shutil, "disk_usage", lambda path: usage(10, 5, 5))
    with pytest.raises(BadInput, match="GiB are free"):
        train(records, Turns(), SETTINGS, backbone, tmp_path)


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Files cannot grow beyond `size` bytes: writing fails as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_stops_training_and_leaves_the_checkpoints_before_it_whole(
    records: list[Record], backbone: Path, tmp_path: Path
) -> None:
    settings = SETTINGS.changed(["rank=16"])
    train(records[:3], Turns(), settings, backbone, tmp_path)
    first = {path.name: path.read_bytes() for path in (tmp_path / "checkpoint-1").iterdir()}
    with largest_file(65_536), pytest.raises(TrainingStopped, match=r"step 2 .* goes on from checkpoint-1"):
        train(records, Turns(), settings, backbone, tmp_path)
    assert {path.name: path.read_bytes() for path in (tmp_path / "checkpoint-1").iterdir()} == first
    assert last_whole(tmp_path) == tmp_path / "checkpoint-1"
    train(records, Turns(), settings, backbone, tmp_path)
    assert last_whole(tmp_path) == tmp_path / "checkpoint-2"


def test_a_full_disk_at_the_export_leaves_the_checkpoint_that_was_there(backbone: Path, tmp_path: Path) -> None:
    model, target = load_model(backbone, SETTINGS.changed(["rank=16"])), tmp_path / "global"
    export(model, tokenizer(), target, Turns(), About("global-1", "Tiny", FACTS))
    with largest_file(65_536), pytest.raises(TrainingStopped, match="could not be written"):
        export(model, tokenizer(), target, Turns(), About("global-2", "Tiny", FACTS))
    assert Checkpoint.open(target).manifest.version == "global-1"
    assert [path.name for path in tmp_path.iterdir()] == ["global"]


def test_a_loss_that_is_no_number_stops_before_it_reaches_the_weights(
    records: list[Record], backbone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, seen = stage.edge_loss, Counter[str]()

    def diverging(model: torch.nn.Module, batch: stage.Batch) -> torch.Tensor:
        seen["passes"] += 1
        return real(model, batch) * (float("nan") if seen["passes"] == 2 else 1.0)

    monkeypatch.setattr(stage, "edge_loss", diverging)
    with pytest.raises(TrainingStopped, match=r"nan at step 2: .* goes on from checkpoint-1"):
        train(records, Turns(), SETTINGS, backbone, tmp_path)
    assert last_whole(tmp_path) == tmp_path / "checkpoint-1"


def test_data_that_is_none_is_refused_with_its_path(tmp_path: Path) -> None:
    (tmp_path / "odd.json").write_text('{"what": "ever"}')
    told: list[str] = []
    with pytest.raises(BadInput, match=r"odd\.json: holds no record"):
        foreign([tmp_path / "odd.json"], told.append)
    assert "odd.json" in told[0]
    with pytest.raises(BadInput, match="missing"):
        foreign([tmp_path / "missing"], told.append)
    with pytest.raises(BadInput, match="--skip"):
        Data((), "0" * 64, "", ()).some(3, None)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["system", "umii"], "single-llm, single-multi-task"),
        (["global", "--preset", "70b"], "embedded, 7b, 7b-lora"),
        (["global", "--set", "rank=-1"], "rank"),
        (["global", "--data", "nowhere.json"], "nowhere.json"),
    ],
)
def test_the_command_says_what_is_wrong_in_one_sentence(arguments: list[str], says: str) -> None:
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 1
    assert done.output.startswith("Error: ")
    assert says in done.output


def test_a_working_folder_of_another_stage_is_not_gone_on_with(
    records: list[Record], backbone: Path, tmp_path: Path
) -> None:
    data = Data(records[:3], "0" * 64, "test tasks", ())
    one = Run("global", Turns(), SETTINGS, data, Backbone(backbone, "Tiny"), tmp_path / "work", tmp_path / "global")
    run(one)
    other = Run(
        "global", Turns(), SETTINGS.changed(["learning_rate=1"]), data, one.backbone, one.work, tmp_path / "other"
    )
    with pytest.raises(BadInput, match="another settings"):
        run(other)
