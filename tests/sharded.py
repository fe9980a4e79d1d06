"""`python -m training` in float32 with processors taken for accelerators: FSDP and DeepSpeed are offered to these only.

Nothing else is changed. The processes talk over gloo, and what is done with the model is what is done on GPUs.
"""

import os

import torch
from accelerate.state import PartialState
from accelerate.utils import DistributedType

from training import stage
from training.__main__ import app


def _to_cpu(state: PartialState) -> None:
    state.device = torch.device("cpu")


stage.multiplies_bfloat16 = lambda: False
if "WORLD_SIZE" in os.environ:
    os.environ.pop("ACCELERATE_USE_CPU", None)
    _arguments = stage.TrainingArguments
    stage.TrainingArguments = lambda **options: _arguments(**{**options, "use_cpu": False})
    PartialState._prepare_backend = lambda *_, **__: ("gloo", DistributedType.MULTI_GPU)
    PartialState.set_device = _to_cpu

if __name__ == "__main__":
    app()
