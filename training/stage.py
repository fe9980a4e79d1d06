"""One stage of GLPFT: `global` learns every role's turns, `local` goes on with one role's.

In LoRA mode the local stage trains a copy of the global adapter on, so that each role is one small file over the same
public backbone; with rank 0 every parameter is trained.
"""

import os
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
from safetensors import SafetensorError
from torch import nn
from torch.distributed.tensor import DTensor
from transformers import Trainer, TrainerCallback, TrainerState, TrainingArguments
from transformers.integrations.deepspeed import unset_hf_deepspeed_config
from transformers.trainer_callback import ExportableState

from training.attention import Opaque
from training.collate import Batch, Survey, TreeCollator, survey
from training.lessons import Lesson
from training.model import Model, compile_layers, load_model, load_tokenizer, multiplies_bfloat16
from training.order import SimilarSizes
from training.records import Record
from training.settings import StageSettings
from umi.errors import BadInput, TrainingStopped

_KEPT = 2
"""Checkpoints of a stage that are kept; one more while it is written."""
_STATE = "trainer_state.json"


class Trained(NamedTuple):
    """What a stage gives: the model, the log (rows with `step`, `loss` in nats per token), and what had to be cut.

    `tokens` is how many nodes of prefix trees went through the model, `seconds` how long that took; what was lost to
    interruptions does not count.
    """

    model: Model
    log: list[dict[str, float]]
    turns: Survey
    tokens: int = 0
    seconds: float = 0.0


class Clock(TrainerCallback, ExportableState):
    """Seconds that were spent on what is in a checkpoint: saved with it, under this class' name."""

    def __init__(self, seconds: float = 0.0) -> None:
        self._before, self._began = seconds, time.monotonic()

    @classmethod
    def going_on(cls, checkpoint: Path | None) -> "Clock":
        """As it was when the checkpoint was written; from 0 without one, or with one that an older version wrote."""
        saved = TrainerState.load_from_json(str(checkpoint / _STATE)).stateful_callbacks if checkpoint else {}
        return cls(**saved.get(cls.__name__, {}).get("args", {}))  # type: ignore[union-attr]

    @property
    def seconds(self) -> float:
        """Until now."""
        return self._before + time.monotonic() - self._began

    def state(self) -> dict[str, dict[str, float]]:
        """Arguments that make it anew."""
        return {"args": {"seconds": self.seconds}, "attributes": {}}


class TreeTrainer(Trainer):
    """The Trainer over prefix trees: its loss, an order of work that is the same for any number of processes, and
    an end that leaves whole checkpoints behind."""

    def _get_train_sampler(self, train_dataset: Any = None) -> SimilarSizes:
        groups = cast(Sequence[Sequence[Record]], train_dataset or self.train_dataset)
        sizes = [sum(len(record.model_dump_json()) for record in group) for group in groups]
        return SimilarSizes(sizes, self.args.world_size * self.args.gradient_accumulation_steps, self.args.seed)

    def compute_loss(
        self, model: nn.Module, inputs: Batch, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> torch.Tensor:
        """Mean cross-entropy over the edges of one tree, in nats per token.

        Raises TrainingStopped when it is no number, before it can reach the weights.
        """
        loss = edge_loss(model, inputs)
        if not torch.isfinite(loss):
            raise TrainingStopped(
                f"the loss is {loss.item()} at step {self.state.global_step + 1}: lower the learning rate and start "
                f"again; it goes on from {_name(last_whole(Path(str(self.args.output_dir))))}"
            )
        return loss

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        try:
            super()._save_checkpoint(model, trial)
        except (OSError, RuntimeError, SafetensorError) as error:
            work = Path(str(self.args.output_dir))
            shutil.rmtree(work / f"checkpoint-{self.state.global_step}", ignore_errors=True)
            raise TrainingStopped(
                f"the checkpoint of step {self.state.global_step} could not be written into {work}: {error}; free "
                f"space there and start again; it goes on from {_name(last_whole(work))}"
            ) from error


def edge_loss(model: nn.Module, batch: Batch) -> torch.Tensor:
    """Mean cross-entropy over the learnt edges of a prefix tree, in nats per token.

    Logits are computed only where something is learnt: the head is a third of the work.
    """
    output = model(
        input_ids=batch["input_ids"],
        position_ids=batch["position_ids"],
        attention_mask=batch["attention_mask"],  # four-dimensional, so that no other is made; the blocks count
        tree=Opaque(batch["blocks"]),
        use_cache=False,
        logits_to_keep=batch["edge_nodes"],
    )
    return nn.functional.cross_entropy(output.logits[0].float(), batch["edge_tokens"])


def groups_of(records: Sequence[Record], size: int, lesson: Lesson) -> list[Sequence[Record]]:
    """Neighbouring records, `size` at a time, without those that have nothing to learn; no group is empty."""
    groups = (records[start : start + size] for start in range(0, len(records), size))
    taught = ([record for record in group if lesson.teaches(record)] for group in groups)
    return [group for group in taught if group]


def train(
    records: Sequence[Record],
    lesson: Lesson,
    settings: StageSettings,
    backbone: Path,
    work: Path,
    parent: Path | None = None,
) -> Trained:
    """Train one stage; goes on from the last whole checkpoint in `work` when there is one.

    Raises BadInput for what can be seen before (the context, the disk, the parent), TrainingStopped for what cannot.
    """
    arguments = arguments_of(settings, work)  # first: it tells from_pretrained how the processes share the weights
    tokenizer = load_tokenizer(backbone, settings.max_tokens)
    collate = TreeCollator(tokenizer, lesson, settings.max_tokens, settings.observation_tokens)
    turns = survey(records, collate)
    if arguments.process_index == 0:
        print(f"turns of {', '.join(lesson.roles)}: {turns}", flush=True)
    torch.manual_seed(settings.seed)
    model = load_model(backbone, settings, parent)
    _require_space(work, model)
    compile_layers(model)
    last = last_whole(work)
    clock = Clock.going_on(last)
    trainer = TreeTrainer(
        model=model,
        args=arguments,
        callbacks=[clock],
        train_dataset=groups_of(records, settings.tasks_per_pass, lesson),  # type: ignore[arg-type]
        data_collator=collate,
    )
    trainer.train(resume_from_checkpoint=str(last) if last else None)
    log = [row for row in trainer.state.log_history if "loss" in row]
    tokens, seconds = int(trainer.state.num_input_tokens_seen), clock.seconds
    return Trained(_gathered(trainer, backbone, settings, parent), log, turns, tokens, seconds)


def arguments_of(settings: StageSettings, work: Path) -> TrainingArguments:
    """Settings as transformers has them. Raises BadInput when the processes cannot share the passes of an update."""
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    if settings.passes_per_step % processes:
        raise BadInput(
            f"{settings.passes_per_step} passes a step cannot be shared by {processes} processes: "
            f"--set passes_per_step={processes * max(1, settings.passes_per_step // processes)}"
        )
    return TrainingArguments(
        output_dir=str(work),
        per_device_train_batch_size=1,
        gradient_accumulation_steps=settings.passes_per_step // processes,
        learning_rate=settings.learning_rate,
        num_train_epochs=settings.epochs,
        lr_scheduler_type="cosine_with_min_lr",
        lr_scheduler_kwargs={"min_lr_rate": settings.floor},
        warmup_steps=settings.warmup,
        weight_decay=settings.weight_decay,
        max_grad_norm=1.0,
        logging_steps=5,
        save_steps=settings.save_steps,
        save_total_limit=_KEPT,
        seed=settings.seed,
        report_to=[],
        include_num_input_tokens_seen="all",
        remove_unused_columns=False,
        dataloader_num_workers=0,
        use_cpu=not torch.cuda.is_available(),
        bf16=multiplies_bfloat16(),
        gradient_checkpointing=settings.recompute,
        gradient_checkpointing_kwargs={"use_reentrant": False} if settings.recompute else None,
        ddp_find_unused_parameters=False,
    )


def last_whole(work: Path) -> Path | None:
    """The newest checkpoint of a stage that was written to its end; its state is written last."""
    found = sorted(work.glob("checkpoint-*"), key=lambda path: int(path.name.rpartition("-")[2]), reverse=True)
    return next((path for path in found if _is_whole(path)), None)


def _is_whole(checkpoint: Path) -> bool:
    try:
        TrainerState.load_from_json(str(checkpoint / _STATE))
    except (OSError, ValueError, TypeError):
        return False
    return True


def _name(checkpoint: Path | None) -> str:
    return checkpoint.name if checkpoint else "the beginning"


def _require_space(work: Path, model: Model) -> None:
    """Raises BadInput when the checkpoints of a stage would not fit on the disk of `work`."""
    work.mkdir(parents=True, exist_ok=True)
    trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    needed = 12 * trained * (_KEPT + 1)  # float32 weights and two moments of Adam
    there = sum(path.stat().st_size for path in work.glob("checkpoint-*/*"))
    if (free := shutil.disk_usage(work).free + there) < needed:
        raise BadInput(f"{work}: {free / 2**30:.1f} GiB are free, the checkpoints need {needed / 2**30:.1f}: free some")


def _gathered(trainer: TreeTrainer, backbone: Path, settings: StageSettings, parent: Path | None) -> Model:
    """The trained model in one piece. Every process takes part; of a sharded one only the first has the weights."""
    if not (trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled):
        return cast(Model, trainer.model)
    state = (
        trainer.accelerator.get_state_dict(trainer.model_wrapped) if trainer.is_deepspeed_enabled else _full(trainer)
    )
    unset_hf_deepspeed_config()  # or this copy would be parted among the processes as well
    whole = load_model(backbone, settings, parent)
    if trainer.args.process_index == 0:
        whole.load_state_dict(state)
    return whole


def _full(trainer: TreeTrainer) -> dict[str, torch.Tensor]:
    """The sharded weights put together, tensor by tensor; empty but in the first process."""
    found: dict[str, torch.Tensor] = {}
    for name, tensor in cast(nn.Module, trainer.model).state_dict().items():
        whole = tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
        if trainer.args.process_index == 0:
            found[name] = whole.cpu()
    return found
