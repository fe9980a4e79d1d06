"""Task files: one JSON object a line, and the numbers of tasks that the shipped checkpoints were made from."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

from tqdm import tqdm

from training.tasks.build import Builder
from training.tasks.entities import Split
from training.tasks.execute import Tools
from training.tasks.task import Task

SIZES = {Split.TRAIN: 6000, Split.DEV: 300, Split.TEST: 400}
GROUP = 3
"""Neighbouring training tasks that are offered the same tools."""


def write_all(folder: Path, seed: int) -> None:
    """Make the files of all splits that are not there yet, each written whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    for split, count in SIZES.items():
        target = path_of(folder, split)
        if target.exists():
            continue
        partial = target.with_suffix(".partial")
        group = GROUP if split is Split.TRAIN else 1
        with partial.open("w", encoding="utf-8") as file:
            for task in tqdm(Builder(split, seed, Tools()).tasks(count, group), total=count, desc=f"{split} tasks"):
                file.write(task.model_dump_json() + "\n")
        partial.rename(target)


def path_of(folder: Path, split: Split) -> Path:
    """Where the tasks of a split lie."""
    return folder / f"{split}.jsonl"


def read(path: Path) -> Iterator[Task]:
    """The tasks of a file. Raises FileNotFoundError naming the command that makes it."""
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist; make it with `python -m training tasks`")
    with path.open(encoding="utf-8") as file:
        for line in file:
            yield Task.model_validate_json(line)


def sha256(path: Path) -> str:
    """Identifies a data file in a manifest."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
