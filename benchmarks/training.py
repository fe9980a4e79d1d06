"""Training with prefix trees beside a plain TRL SFTTrainer: the same instances and updates, both losses.

Both start from the same backbone with the same fresh adapter and see the same tasks once, in updates of about the same
number of tokens, with the same optimizer, schedule, precision and context. The SFTTrainer gets the instances as prompt
and completion (its loss is on the completion only), grouped by length, without recomputation. Exits with 1 when the
prefix trees are not faster by `goal` at the same loss.
"""

import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from transformers import Trainer, TrainerCallback

from training.attention import NAME as TREE_ATTENTION
from training.collate import Batch, TreeCollator, survey
from training.data import generated
from training.lessons import Turns
from training.model import Model, base_of, compile_layers, load_model, load_tokenizer
from training.process import keep_freed_memory
from training.records import Record
from training.settings import EMBEDDED, PRESETS, StageSettings
from training.stage import TreeTrainer, arguments_of, edge_loss, groups_of
from training.tasks import files
from training.tasks.entities import Split

_SAME = (
    "learning_rate lr_scheduler_type lr_scheduler_kwargs warmup_steps weight_decay max_grad_norm num_train_epochs seed "
    "optim use_cpu bf16 remove_unused_columns"
).split()
_BATCH = 4
"""Instances in one pass of the SFTTrainer: about the tokens of a tree."""
_LOSS_TOLERANCE = 0.05
"""So much higher, relatively, may a loss be and still count as equal."""


@dataclass
class Course:
    """A training as it went, by update: when it ended, and tokens so far of instances and of what was computed."""

    given: int = 0
    computed: int = 0
    updates: list[tuple[float, int, int]] = field(default_factory=list[tuple[float, int, int]])
    started: float = 0.0
    loss: float = 0.0

    @property
    def seconds(self) -> float:
        """From the end of the first update, which compiles and warms up, to the end of the last."""
        return self.updates[-1][0] - self.updates[0][0]

    def rates(self) -> tuple[float, float]:
        """Instance tokens and computed nodes per second after the first update."""
        first, last = self.updates[0], self.updates[-1]
        return (last[1] - first[1]) / self.seconds, (last[2] - first[2]) / self.seconds


class _Watch(TrainerCallback):
    def __init__(self, course: Course) -> None:
        self._course = course

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        self._course.started = time.monotonic()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self._course.updates.append((time.monotonic(), self._course.given, self._course.computed))


class _CountingCollator(TreeCollator):
    def __call__(self, groups: Sequence[Sequence[Record]]) -> Batch:
        tree = self.tree(groups[0])
        return {**tree.tensors(), "given": tree.given}


def main(
    tasks: Annotated[int, typer.Option(min=6, help="Training tasks.")] = 36,
    held_out: Annotated[int, typer.Option(min=1, help="Unseen tasks for the loss.")] = 20,
    folder: Annotated[Path, typer.Option(help="Folder of task files.")] = Path("var/tasks"),
    backbone: Annotated[Path, typer.Option(help="The backbone.")] = Path("var/backbone"),
    goal: Annotated[float, typer.Option(help="So many times as fast it has to be.")] = 1.5,
) -> None:
    """Train both ways and print the table."""
    settings = PRESETS[EMBEDDED].start.changed(["passes_per_step=1"])
    records = generated(folder).some(0, tasks).records
    unseen = [task.record() for task in files.read(files.path_of(folder, Split.DEV))][:held_out]
    collate = _CountingCollator(load_tokenizer(backbone, settings.max_tokens), Turns(), settings.max_tokens)
    if survey(records, collate).counts["whole"] != sum(len(list(Turns().instances(record))) for record in records):
        raise typer.BadParameter("an instance is longer than the context, which the two would cut differently")
    with tempfile.TemporaryDirectory(prefix="umi-bench-") as work:
        untrained = held_out_loss(load_model(backbone, settings), unseen, collate)
        trees = train_trees(records, collate, settings, backbone, Path(work), unseen)
        plain = train_plain(records, collate, settings, backbone, Path(work), unseen)
    report(trees, plain, untrained)
    ratio = trees.rates()[0] / plain.rates()[0]
    raise typer.Exit(0 if ratio >= goal and trees.loss <= plain.loss * (1 + _LOSS_TOLERANCE) else 1)


def train_trees(
    records: Sequence[Record], collate: TreeCollator, settings: StageSettings, backbone: Path, work: Path,
    unseen: Sequence[Record],
) -> Course:  # fmt: skip
    """The stage's own trainer."""
    course = Course()

    class Counting(TreeTrainer):
        def compute_loss(self, model: Any, inputs: Batch, *args: Any, **kwargs: Any) -> torch.Tensor:
            course.given += inputs["given"]
            course.computed += inputs["input_ids"].numel()
            return super().compute_loss(model, inputs, *args, **kwargs)

    model = _fresh(backbone, settings)
    compile_layers(model)
    trainer = Counting(
        model=model,
        args=arguments_of(settings, work / "trees"),
        train_dataset=groups_of(records, settings.tasks_per_pass, collate.lesson),  # type: ignore[arg-type]
        data_collator=collate,
    )
    return _run(trainer, course, model, unseen, collate)


def train_plain(
    records: Sequence[Record], collate: TreeCollator, settings: StageSettings, backbone: Path, work: Path,
    unseen: Sequence[Record],
) -> Course:  # fmt: skip
    """TRL's SFTTrainer on prompts and completions."""
    from datasets import Dataset
    from trl.trainer.sft_config import SFTConfig
    from trl.trainer.sft_trainer import SFTTrainer

    course = Course()

    class Counting(SFTTrainer):
        def compute_loss(self, model: Any, inputs: Batch, *args: Any, **kwargs: Any) -> torch.Tensor:
            course.given += int(inputs["attention_mask"].sum())
            course.computed += inputs["input_ids"].numel()
            return super().compute_loss(model, inputs, *args, **kwargs)

    turns = [turn for record in records for turn in collate.lesson.instances(record)]
    updates = len(groups_of(records, settings.tasks_per_pass, collate.lesson)) / settings.passes_per_step
    same = arguments_of(settings, work / "plain")
    arguments = SFTConfig(
        output_dir=str(work / "plain"),
        **{name: getattr(same, name) for name in _SAME},
        per_device_train_batch_size=_BATCH,
        gradient_accumulation_steps=max(1, round(len(turns) / updates / _BATCH)),
        train_sampling_strategy="group_by_length",
        gradient_checkpointing=False,
        max_length=settings.max_tokens,
        save_strategy="no",
        report_to=[],
    )
    model = _fresh(backbone, settings, attention="sdpa")
    trainer = Counting(
        model=model,
        args=arguments,
        train_dataset=Dataset.from_list([{"prompt": turn.prompt, "completion": turn.target} for turn in turns]),
        processing_class=load_tokenizer(backbone, settings.max_tokens),
    )
    _require_same(trainer.train_dataset, turns, collate)
    return _run(trainer, course, model, unseen, collate)


def held_out_loss(model: Model, unseen: Sequence[Record], collate: TreeCollator) -> float:
    """Nats per target token over all held-out instances, the same way for both."""
    base_of(model).set_attn_implementation(TREE_ATTENTION)
    total, count = 0.0, 0
    model.eval()
    with torch.no_grad(), torch.compiler.set_stance("force_eager"):
        for record in unseen:
            batch = collate.tree([record]).tensors()
            total += edge_loss(model, batch).item() * len(batch["edge_tokens"])
            count += len(batch["edge_tokens"])
    return total / count


def report(trees: Course, plain: Course, untrained: float) -> None:
    """Print the table."""
    rows = {
        "instance tokens per second": [f"{course.rates()[0]:.0f}" for course in (trees, plain)],
        "computed nodes per second": [f"{course.rates()[1]:.0f}" for course in (trees, plain)],
        "instance tokens": [f"{course.given:,}" for course in (trees, plain)],
        "computed nodes": [f"{course.computed:,}" for course in (trees, plain)],
        "updates": [str(len(course.updates)) for course in (trees, plain)],
        "seconds, without the first update": [f"{course.seconds:.1f}" for course in (trees, plain)],
        "seconds of the first update": [f"{course.updates[0][0] - course.started:.1f}" for course in (trees, plain)],
        "held-out loss, nats per token": [f"{course.loss:.4f}" for course in (trees, plain)],
    }
    print(f"\n| {torch.get_num_threads()} threads | prefix trees | TRL SFTTrainer |\n| --- | --- | --- |")
    for name, cells in rows.items():
        print(f"| {name} | {' | '.join(cells)} |")
    ratio = trees.rates()[0] / plain.rates()[0]
    print(f"\nPrefix trees are {ratio:.2f} times as fast; the held-out loss was {untrained:.4f} before training.")


def _run(trainer: Trainer, course: Course, model: Model, unseen: Sequence[Record], collate: TreeCollator) -> Course:
    trainer.add_callback(_Watch(course))
    trainer.train()
    course.loss = held_out_loss(model, unseen, collate)
    return course


def _fresh(backbone: Path, settings: StageSettings, **options: str) -> Model:
    torch.manual_seed(settings.seed)
    return load_model(backbone, settings, **options)


def _require_same(dataset: Any, turns: Sequence[Any], collate: TreeCollator) -> None:
    """Raises RuntimeError unless the SFTTrainer's tokens and loss mask are those of the instances."""
    for row, turn in zip(dataset, turns, strict=True):
        tokens = collate.tokens(turn)
        assert tokens is not None
        learnt = [label for label in row["labels"] if label >= 0]
        if row["input_ids"] != tokens.prompt + tokens.target or learnt != tokens.target:
            raise RuntimeError(f"the SFTTrainer would learn something else than this: {turn.target!r}")


if __name__ == "__main__":
    keep_freed_memory()
    typer.run(main)
