"""Writing a trained adapter as a checkpoint: bfloat16 weights, manifest, prompt template, loss curve and model card."""

import json
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file

from training.smoke import text_of
from umi import manifest
from umi.prompt import PromptTemplate
from umi.roles import Role
from umi.smoke import FILE_NAME as SMOKE
from umi.smoke import SmokeCase

WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"
_CARD = """# {version}

A LoRA adapter (rank {rank}) that makes {backbone} the {roles} of UMi, a multi-LLM tool agent after α-UMi
(arXiv 2401.07324).

* **Stage**: {stage}{parents}.
* **Data**: {tasks} generated tasks over the tools in `examples/tools`, every observation a real response
  (`python -m training tasks`; sha256 of the file in `manifest.json`). English only.
* **Loss**: {loss:.4f} nats per target token at the end of training (curve in `loss.png`).
* **Use**: loaded by the role service from this directory; the prompt is `prompt.jinja`. Made for short questions with
  3 to 8 offered tools; it is no general assistant. How well it does: the table in the project's README,
  `make eval-examples`.
* **Licence**: Apache-2.0, like the backbone.
"""


def export(
    model: PeftModel,
    target: Path,
    name: str,
    backbone: str,
    roles: tuple[Role, ...],
    training: dict[str, Any],
    log: list[dict[str, float]],
    parents: tuple[str, ...] = (),
    cases: Sequence[SmokeCase] = (),
    tool_mention: str | None = None,
) -> manifest.Manifest:
    """Write the checkpoint directory `target`; returns its manifest."""
    target.mkdir(parents=True, exist_ok=True)
    if cases:
        (target / SMOKE).write_bytes(text_of(cases))
    model.save_pretrained(target)
    weights = {key: tensor.to(torch.bfloat16) for key, tensor in load_file(target / WEIGHTS).items()}
    save_file(weights, target / WEIGHTS, metadata={"format": "pt"})
    config = json.loads((target / CONFIG).read_text("utf-8"))
    config["base_model_name_or_path"] = backbone  # peft writes the trainer's own path
    (target / CONFIG).write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", "utf-8")
    loss = sum(row["loss"] for row in log[-10:]) / max(1, len(log[-10:]))
    plot(log, target / "loss.png", name)
    written = manifest.write(
        target,
        PromptTemplate.default(),
        [WEIGHTS, CONFIG, *([SMOKE] if cases else [])],
        version=name,
        roles=roles,
        kind=manifest.Kind.ADAPTER,
        backbone=backbone,
        rank=config["r"],
        tool_mention=tool_mention,
        parents=parents,
        training={**training, "versions": {p: version(p) for p in ("torch", "transformers", "peft")}},
        metrics={"final_loss": round(loss, 4)},
    )
    card = _CARD.format(
        version=name,
        rank=config["r"],
        backbone=backbone,
        roles=", ".join(roles),
        stage=training["stage"],
        parents=f", from {', '.join(parents)}" if parents else "",
        tasks=training["tasks"],
        loss=loss,
    )
    (target / "README.md").write_text(card, "utf-8")
    return written


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
