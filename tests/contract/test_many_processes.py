"""Training by two processes on one machine over gloo: the weights are those of one process.

FSDP and DeepSpeed are run by `tests.sharded`, with the configuration files that are for many GPUs.
"""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.models import short_tasks, tiny_backbone
from training.tasks.entities import Split
from umi.manifest import Checkpoint, Kind

ROOT = Path(__file__).parents[2]
TORCHRUN = ("torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m")
LAUNCH = ("accelerate.commands.launch", "--num_processes", "2", "--main_process_port", "0", "--config_file")
CONFIGS = ROOT / "training/configs"
SHARDED = "tests.sharded"
LEARNING_RATE = 1e-2
SETTINGS = (f"learning_rate={LEARNING_RATE}", "warmup=0", "rank=0", "save_steps=2")

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Twelve tasks in a folder, four trees of them, two updates; and a backbone."""
    made = short_tasks(40)[:12]
    folder = tmp_path_factory.mktemp("tasks")
    for split in (Split.TRAIN, Split.DEV):
        (folder / f"{split}.jsonl").write_text("".join(task.model_dump_json() + "\n" for task in made))
    return folder, tiny_backbone(tmp_path_factory.mktemp("backbone"))


def trained(launch: tuple[str, ...], inputs: tuple[Path, Path], target: Path) -> dict[str, torch.Tensor]:
    """The weights that the command leaves, run by `launch`."""
    tasks, backbone = inputs
    command = [sys.executable, "-W", "ignore", "-m", *launch, "global", str(target), "--folder", str(tasks)]
    command += ["--backbone", str(backbone), "--backbone-name", "Tiny", "--work", str(target) + "-work"]
    command += [part for setting in SETTINGS for part in ("--set", setting)]
    environment = {**os.environ, "TORCHDYNAMO_DISABLE": "1", "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=590)
    assert done.returncode == 0, done.stdout + done.stderr
    assert Checkpoint.open(target).manifest.kind is Kind.FULL
    return load_file(target / "model.safetensors")


@pytest.fixture(scope="module")
def alone(inputs: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, torch.Tensor]:
    return trained(("training",), inputs, tmp_path_factory.mktemp("alone") / "global")


def far(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> float:
    """The largest difference of a weight beyond one step of bfloat16, in which both were written."""
    assert left.keys() == right.keys()
    pairs = [(left[name].float(), right[name].float()) for name in left]
    return max(((one - other).abs() - one.abs() / 128).max().item() for one, other in pairs)


def test_two_processes_learn_what_one_learns(
    inputs: tuple[Path, Path], alone: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    """Within a quarter of one update's step: sums are taken in another order, and Adam magnifies that near zero."""
    weights = trained((*TORCHRUN, "training"), inputs, tmp_path / "global")
    assert far(weights, alone) < LEARNING_RATE / 4
    assert far(alone, load_file(inputs[1] / "model.safetensors")) > LEARNING_RATE


@pytest.fixture(scope="module")
def alone_in_float32(inputs: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, torch.Tensor]:
    return trained((SHARDED,), inputs, tmp_path_factory.mktemp("float32") / "global")


def test_weights_sharded_by_fsdp_learn_what_whole_ones_learn(
    inputs: tuple[Path, Path], alone_in_float32: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    launch = (*LAUNCH, str(CONFIGS / "fsdp.yaml"), "--mixed_precision", "no", "-m", SHARDED)
    assert far(trained(launch, inputs, tmp_path / "global"), alone_in_float32) < LEARNING_RATE / 1e4


@pytest.mark.skipif(
    importlib.util.find_spec("deepspeed") is None, reason="DeepSpeed is installed by make test-deepspeed"
)
def test_weights_sharded_by_deepspeed_learn_what_whole_ones_learn(
    inputs: tuple[Path, Path], alone_in_float32: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    launch = (*LAUNCH, str(CONFIGS / "deepspeed.yaml"), "-m", SHARDED)
    assert far(trained(launch, inputs, tmp_path / "global"), alone_in_float32) < LEARNING_RATE / 1e4
