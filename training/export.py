"""Writing what was trained as a checkpoint: bfloat16 weights, manifest, prompt template, loss curve and model card."""

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from transformers import PreTrainedTokenizerBase

from training.lessons import Lesson
from training.model import Model
from training.smoke import text_of
from umi import manifest
from umi.errors import TrainingStopped
from umi.roles import Role
from umi.smoke import FILE_NAME as SMOKE
from umi.smoke import SmokeCase

WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"
_CARD = """# {version}

{what} the {roles} of UMi, a multi-LLM tool agent after α-UMi (arXiv 2401.07324).

* **Stage**: {stage}{parents}.
* **Data**: {data} (sha256 in `manifest.json`).
* **Loss**: {loss:.4f} nats per target token at the end of training (curve in `loss.png`).
* **Use**: loaded by the role service from this directory; the prompt is `prompt.jinja`. Made to use tools; it is no
  general assistant.
* **Licence**: {licence}.
"""


@dataclass(frozen=True)
class About:
    """What a checkpoint says of itself beside its weights. `training` has at least `stage`, `tasks` and `data`."""

    version: str
    backbone: str
    training: dict[str, Any]
    log: list[dict[str, float]] = field(default_factory=list[dict[str, float]])
    parents: tuple[str, ...] = ()
    cases: Sequence[SmokeCase] = ()
    tool_mention: str | None = None
    metrics: dict[str, float] = field(default_factory=dict[str, float])
    observation_tokens: int | None = None
    max_tokens: int = 4096
    """Of prompt and target together, as they were learnt; no longer prompt is served."""


def export(
    model: Model, tokenizer: PreTrainedTokenizerBase, target: Path, lesson: Lesson, about: About
) -> manifest.Manifest:
    """Write the checkpoint directory `target`, whole or not at all; one that is there is replaced at the end.

    An adapter lies over its backbone; a fully trained model comes with everything that `from_pretrained` reads.
    Raises TrainingStopped when it cannot be written, ValueError when the manifest would not open.
    """
    partial = target.with_name(f".{target.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir(parents=True)
        written = _write(model, tokenizer, partial, lesson, about)
    except BaseException as error:
        shutil.rmtree(partial, ignore_errors=True)
        if isinstance(error, OSError | SafetensorError):
            raise TrainingStopped(f"{target} could not be written: {error}; free space there, start again") from error
        raise
    if target.exists():
        before = target.with_name(f".{target.name}.before")
        shutil.rmtree(before, ignore_errors=True)
        target.rename(before)
        partial.rename(target)
        shutil.rmtree(before)
    else:
        partial.rename(target)
    return written


def _write(
    model: Model, tokenizer: PreTrainedTokenizerBase, folder: Path, lesson: Lesson, about: About
) -> manifest.Manifest:
    rank = _adapter(model, folder, about.backbone) if isinstance(model, PeftModel) else None
    if rank is None:
        _full(model, tokenizer, folder)
    if about.cases:
        (folder / SMOKE).write_bytes(text_of(about.cases))
    files = [path.name for path in folder.iterdir()]
    last = about.log[-10:]
    loss = sum(row["loss"] for row in last) / max(1, len(last))
    plot(about.log, folder / "loss.png", about.version)
    written = manifest.write(
        folder,
        lesson.template,
        files,
        version=about.version,
        roles=lesson.roles,
        kind=manifest.Kind.FULL if rank is None else manifest.Kind.ADAPTER,
        backbone=about.backbone,
        rank=rank,
        stop=tokenizer.eos_token,
        spaced_strings=Role.CALLER in lesson.roles,
        tool_mention=about.tool_mention,
        max_input_tokens=about.max_tokens,
        observation_tokens=about.observation_tokens,
        parents=about.parents,
        training={**about.training, "versions": {p: version(p) for p in ("torch", "transformers", "peft")}},
        metrics={"final_loss": round(loss, 4), **about.metrics},
    )
    (folder / "README.md").write_text(_card(written, loss), "utf-8")
    return written


def _adapter(model: PeftModel, folder: Path, backbone: str) -> int:
    """Write adapter weights and config; returns the rank."""
    model.save_pretrained(folder)
    (folder / "README.md").unlink(missing_ok=True)  # peft's; the card takes its place
    weights = {key: tensor.to(torch.bfloat16) for key, tensor in load_file(folder / WEIGHTS).items()}
    save_file(weights, folder / WEIGHTS, metadata={"format": "pt"})
    config = json.loads((folder / CONFIG).read_text("utf-8"))
    config["base_model_name_or_path"] = backbone  # peft writes the trainer's own path
    if isinstance(config["target_modules"], list):
        config["target_modules"].sort()  # peft's is a set, in another order every time
    (folder / CONFIG).write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", "utf-8")
    return config["r"]


def _full(model: Model, tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Write model, config and tokenizer; large models in several files with their index."""
    dtype = model.dtype
    cast: dict[int, torch.Tensor] = {}  # by address, since tied weights are to stay one tensor
    state = {name: cast.setdefault(old.data_ptr(), old.to(torch.bfloat16)) for name, old in model.state_dict().items()}
    model.config.dtype = torch.bfloat16
    model.save_pretrained(folder, state_dict=state)
    model.config.dtype = dtype
    tokenizer.save_pretrained(folder)


def _card(written: manifest.Manifest, loss: float) -> str:
    what = f"A LoRA adapter (rank {written.rank})" if written.rank else "Weights"
    facts = written.training
    return _CARD.format(
        version=written.version,
        what=f"{what} that make{'s' if written.rank else ''} {written.backbone}",
        roles=", ".join(written.roles),
        stage=facts["stage"],
        parents=f", from {', '.join(written.parents)}" if written.parents else "",
        data=f"{facts['tasks']} {facts['data']}",
        loss=loss,
        licence="Apache-2.0, like the backbone" if written.backbone == "SmolLM2-135M-Instruct" else "the backbone's",
    )


def plot(log: list[dict[str, float]], path: Path, title: str) -> None:
    """The loss curve as a PNG."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 3.5), layout="constrained")
    axes.plot([row["step"] for row in log], [row["loss"] for row in log])
    axes.set(xlabel="optimizer step", ylabel="loss (nats per target token)", title=title, yscale="log")
    axes.grid(alpha=0.3)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
