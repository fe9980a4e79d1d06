"""An adapter and its backbone as one model."""

from pathlib import Path
from typing import Any

import pytest

from tests.checkpoints import random_adapter
from tests.models import tiny_backbone, tokens
from training.merge import merged
from umi.errors import BadInput
from umi.manifest import Checkpoint, Kind


def logits(model: Any) -> Any:
    import torch

    with torch.no_grad():
        return model(torch.tensor([tokens("Next: caller.")])).logits


def test_full_weights_compute_what_the_adapter_on_its_backbone_does(tmp_path: Path) -> None:
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    backbone = tiny_backbone(tmp_path / "backbone")
    adapter = random_adapter(tmp_path / "adapter", backbone, rank=4, version="a-1", tool_mention="use (x)")
    assert merged(adapter.directory, tmp_path / "full", backbone) == "a-1-full"
    written = Checkpoint.open(tmp_path / "full")
    assert (written.manifest.kind, written.manifest.rank, written.manifest.parents) == (Kind.FULL, None, ("a-1",))
    assert written.manifest.tool_mention == "use (x)"
    assert {(written.directory / name).stat().st_mode & 0o777 for name in written.files} == {0o644}
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= written.manifest.files.keys()
    plain = logits(AutoModelForCausalLM.from_pretrained(backbone, dtype=torch.float32))
    with_adapter = logits(
        PeftModel.from_pretrained(
            AutoModelForCausalLM.from_pretrained(backbone, dtype=torch.float32), adapter.directory
        )
    )
    found = logits(AutoModelForCausalLM.from_pretrained(written.directory, dtype=torch.float32))
    assert (found - with_adapter).abs().max() < 0.2 * (plain - with_adapter).abs().max()
    with pytest.raises(BadInput, match="is there already"):
        merged(adapter.directory, tmp_path / "full", backbone)
    with pytest.raises(BadInput, match="full weights already"):
        merged(written.directory, tmp_path / "again", backbone)
