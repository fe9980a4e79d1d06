"""Hyperparameters of the stages."""

from typing import Annotated

from pydantic import Field

from umi.trajectory import Frozen


class StageSettings(Frozen):
    """What one stage of training does; everything here goes into the checkpoint's manifest."""

    learning_rate: Annotated[float, Field(gt=0)]
    epochs: Annotated[float, Field(gt=0)] = 1.0
    warmup: Annotated[float, Field(ge=0, le=1, description="share of the steps")] = 0.04
    weight_decay: float = 0.0
    tasks_per_pass: Annotated[int, Field(ge=1, description="tasks in one prefix tree")] = 3
    passes_per_step: Annotated[int, Field(ge=1, description="gradient accumulation")] = 2
    rank: Annotated[int, Field(ge=1)] = 16
    alpha: Annotated[int, Field(ge=1)] = 32
    save_steps: Annotated[int, Field(ge=1, description="optimizer steps between two checkpoints of a stage")] = 40
    seed: int = 7


EMBEDDED_GLOBAL = StageSettings(learning_rate=8e-4)
EMBEDDED_LOCAL = StageSettings(learning_rate=2e-4, weight_decay=0.01)
