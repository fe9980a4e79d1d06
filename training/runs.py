"""Running a stage from data to checkpoint, and a whole system of stages."""

import json
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from torch import distributed

from training.collate import TreeCollator
from training.data import Data
from training.export import About, export
from training.lessons import Lesson
from training.model import load_tokenizer
from training.settings import Preset, StageSettings
from training.smoke import choose
from training.stage import Trained, last_whole, train
from training.systems import STAGES, SYSTEMS
from umi.errors import BadInput
from umi.manifest import Checkpoint
from umi.smoke import SmokeCase

_FACTS = "stage.json"


class Backbone(NamedTuple):
    """Where it lies, and the name by which checkpoints know it."""

    directory: Path
    name: str


@dataclass(frozen=True)
class Run:
    """One stage: what it is called, teaches and learns from, and where it works and writes its checkpoint."""

    stage: str
    lesson: Lesson
    settings: StageSettings
    data: Data
    backbone: Backbone
    work: Path
    target: Path
    parent: Path | None = None

    def facts(self) -> dict[str, Any]:
        """What identifies the stage; goes into the manifest."""
        facts = {
            "stage": self.stage,
            **self.data.facts(),
            "settings": self.settings.model_dump(mode="json", exclude_none=True),
        }
        return facts | {"processes": int(os.environ.get("WORLD_SIZE", "1"))}

    def parents(self) -> tuple[str, ...]:
        """The version it goes on from. Raises BadInput when that is for another backbone."""
        if self.parent is None:
            return ()
        manifest = Checkpoint.open(self.parent).manifest
        if manifest.backbone != self.backbone.name:
            raise BadInput(
                f"{self.parent} was trained over {manifest.backbone}, the backbone in {self.backbone.directory} is "
                f"{self.backbone.name}: give that backbone, or its right name with --backbone-name"
            )
        return (manifest.version,)


def run(stage: Run) -> None:
    """Train a stage and write its checkpoint; goes on where it was interrupted.

    Raises BadInput before anything is trained where that can be known, TrainingStopped later.
    """
    parents, facts = stage.parents(), stage.facts()
    _claim(stage.work, facts | {"parents": parents})
    trained = train(
        stage.data.records, stage.lesson, stage.settings, stage.backbone.directory, stage.work, stage.parent
    )
    if _is_first():  # one of several processes writes what all of them have learnt
        _write(stage, trained, facts | {"turns": dict(trained.turns.counts)}, parents)
    if distributed.is_initialized():
        distributed.barrier()  # the others may need the checkpoint next


def _write(stage: Run, trained: Trained, facts: dict[str, Any], parents: tuple[str, ...]) -> None:
    tokenizer = load_tokenizer(stage.backbone.directory, stage.settings.max_tokens)
    cases: tuple[SmokeCase, ...] = ()
    if len(stage.lesson.roles) == 1:
        collate = TreeCollator(tokenizer, stage.lesson, stage.settings.max_tokens, stage.settings.observation_tokens)
        seen = [collate.compressed(record) for record in stage.data.smoke]
        cases = choose(trained.model, tokenizer, stage.lesson.roles[0], seen)
    about = About(
        next_version(stage.target),
        stage.backbone.name,
        facts,
        trained.log,
        parents,
        cases,
        stage.data.tool_mention,
        {"tokens": trained.tokens, "seconds": round(trained.seconds, 1)} if trained.tokens else {},
        stage.settings.observation_tokens,
        stage.settings.max_tokens,
    )
    export(trained.model, tokenizer, stage.target, stage.lesson, about)
    print(f"written to {stage.target}", flush=True)


def run_system(name: str, preset: Preset, changes: list[str], data: Data, backbone: Backbone, folder: Path) -> None:
    """Every stage of a system that has no checkpoint in `folder` yet.

    These are compared and not released, so they get no smoke cases, which would carry words of the data along.
    Raises BadInput also when a checkpoint that is there was made from other data or settings.
    """
    for stage_name in SYSTEMS[name].stages():
        stage = STAGES[stage_name]
        settings = preset.start if stage.parent is None else preset.local[stage.lesson.roles[0]]
        one = Run(
            stage_name,
            stage.lesson,
            settings.changed(changes),
            replace(data.half(stage.part), smoke=()),
            backbone,
            folder / "work" / stage_name,
            folder / stage_name,
            folder / stage.parent if stage.parent else None,
        )
        if not is_done(one):
            run(one)


def is_done(stage: Run) -> bool:
    """Whether the stage's checkpoint is there. Raises BadInput when it is one of another stage."""
    if not stage.target.exists():
        return False
    found = json.loads(json.dumps(Checkpoint.open(stage.target).manifest.training))
    _same(stage.target, found, json.loads(json.dumps(stage.facts())))
    return True


def next_version(target: Path) -> str:
    """`planner-1`, or one more than the checkpoint that `target` holds: weights never change under their name."""
    number = 1
    if target.exists():
        number = int(Checkpoint.open(target).manifest.version.rpartition("-")[2]) + 1
    return f"{target.name}-{number}"


def _claim(work: Path, facts: dict[str, Any]) -> None:
    """Note whose checkpoints a working folder holds. Raises BadInput when they are of another stage."""
    file = work / _FACTS
    facts = json.loads(json.dumps(facts))
    if file.exists() and last_whole(work) is not None:
        _same(work, json.loads(file.read_text("utf-8")), facts)
    elif _is_first():
        work.mkdir(parents=True, exist_ok=True)
        partial = file.with_suffix(".partial")
        partial.write_text(json.dumps(facts, indent=1) + "\n", "utf-8")
        partial.replace(file)


def _same(place: Path, found: dict[str, Any], wanted: dict[str, Any]) -> None:
    for key, value in wanted.items():
        if key != "processes" and found.get(key) != value:
            raise BadInput(
                f"{place} was made with another {key}: {found.get(key)} there, {value} here; move it away, or name "
                "another folder"
            )


def _is_first() -> bool:
    return os.environ.get("RANK", "0") == "0"
