"""Hyperparameters of a stage, and the named sets of them: `--preset`."""

import json
from typing import Annotated

from pydantic import Field, ValidationError

from umi.context import LEAST_BUDGET
from umi.errors import BadInput
from umi.roles import Role
from umi.trajectory import Frozen


class StageSettings(Frozen):
    """What one stage of training does; everything here goes into the checkpoint's manifest."""

    learning_rate: Annotated[float, Field(gt=0)]
    epochs: Annotated[float, Field(gt=0)] = 1.0
    warmup: Annotated[float, Field(ge=0, lt=1, description="share of the steps")] = 0.04
    floor: Annotated[float, Field(ge=0, lt=1, description="share of the learning rate at which its cosine ends")] = 0.05
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    tasks_per_pass: Annotated[int, Field(ge=1, description="tasks in one prefix tree")] = 3
    passes_per_step: Annotated[int, Field(ge=1, description="trees in one update, of all processes together")] = 2
    max_tokens: Annotated[int, Field(ge=16, description="prompt and target of one turn; older steps are cut")] = 4096
    observation_tokens: Annotated[
        int | None,
        Field(ge=LEAST_BUDGET, description="of one observation; what is longer is shortened by its structure"),
    ] = None
    rank: Annotated[int, Field(ge=0, description="of a LoRA adapter; 0: every parameter is trained, no adapter")] = 16
    alpha: Annotated[int, Field(ge=1)] = 32
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    targets: Annotated[tuple[str, ...], Field(description="layers with an adapter; none named: all linear ones")] = ()
    recompute: Annotated[bool, Field(description="trade time for memory: activations are computed twice")] = False
    save_steps: Annotated[int, Field(ge=1, description="optimizer steps between two checkpoints of a stage")] = 40
    seed: int = 7

    def changed(self, changes: list[str]) -> "StageSettings":
        """These settings with `name=value` of each change. Raises BadInput naming the one that is wrong."""
        values = self.model_dump()
        for change in changes:
            name, equals, text = change.partition("=")
            if not equals or name not in values:
                raise BadInput(f"{change!r}: expected NAME=VALUE with one of {', '.join(values)}")
            values[name] = _value(text)
        try:
            return StageSettings.model_validate(values)
        except ValidationError as error:
            wrong = error.errors()[0]
            raise BadInput(f"{'.'.join(map(str, wrong['loc']))}: {wrong['msg']}") from error


class Preset(Frozen):
    """Settings for every stage of a system."""

    start: StageSettings
    """Of a stage that starts from the backbone."""
    local: dict[Role, StageSettings]
    """Of a stage that goes on from the global one, by the role it learns."""


def _value(text: str) -> object:
    try:
        return json.loads(text)
    except ValueError:
        return text


# α-UMi (arXiv 2401.07324), 8 GPUs with 6 instances each: 48 in one update. Here an update counts trees, and one tree is
# a trajectory: of ToolBench's, 8 hold about 48 instances of all roles, 16 of planner or caller, 64 of the summarizer.
_PAPER = StageSettings(
    learning_rate=5e-5, epochs=2, warmup=0.4, floor=0, tasks_per_pass=1, passes_per_step=8, rank=0, recompute=True,
    save_steps=200,
)  # fmt: skip
_PAPER_LOCAL = {"learning_rate": 1e-5, "weight_decay": 0.01}
_ROLES_7B = {
    Role.PLANNER: {**_PAPER_LOCAL, "epochs": 1.0, "warmup": 0.2, "passes_per_step": 16},
    Role.CALLER: {**_PAPER_LOCAL, "epochs": 1.0, "warmup": 0.2, "passes_per_step": 16},
    Role.SUMMARIZER: {**_PAPER_LOCAL, "epochs": 2.0, "warmup": 0.4, "passes_per_step": 64},
}
_LORA = {"rank": 8, "alpha": 16, "dropout": 0.05, "targets": ("q_proj", "v_proj")}
_EMBEDDED = StageSettings(learning_rate=8e-4)
_EMBEDDED_LOCAL = StageSettings(learning_rate=2e-4, weight_decay=0.01)

EMBEDDED = "embedded"
PRESETS = {
    EMBEDDED: Preset(start=_EMBEDDED, local=dict.fromkeys(Role, _EMBEDDED_LOCAL)),
    "7b": Preset(start=_PAPER, local={role: _PAPER.model_copy(update=own) for role, own in _ROLES_7B.items()}),
    "7b-lora": Preset(
        start=_PAPER.model_copy(update=_LORA),
        local={role: _PAPER.model_copy(update=own | _LORA) for role, own in _ROLES_7B.items()},
    ),
}
"""`embedded`: a LoRA adapter on the backbone that ships with UMi, two cores. `7b`: the paper's, every parameter on
eight GPUs. `7b-lora`: the LoRA variant of the paper's code."""
