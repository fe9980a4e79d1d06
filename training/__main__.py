"""The training command: `python -m training --help`."""

import hashlib
import os
import signal
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from training.commands_formats import compare_instances, inspect
from training.commands_metrics import metrics
from training.commands_static import static
from training.merge import merge
from training.process import keep_freed_memory
from umi.manifest import ALL_ROLES
from umi.roles import Role

if TYPE_CHECKING:
    from training.records import Record

app = typer.Typer(no_args_is_help=True, add_completion=False, help=__doc__)
for command in (inspect, compare_instances, metrics, static, merge):
    app.command()(command)

Tasks = Annotated[Path, typer.Option(help="Folder of task files.")]
Backbone = Annotated[Path, typer.Option(help="The backbone, as `python -m services.backbone` writes it.")]
Work = Annotated[
    Path, typer.Option(help="Where a stage keeps its checkpoints; an interrupted stage goes on from them.")
]
Skip = Annotated[int, typer.Option(min=0, help="Leave out so many tasks at the beginning: those seen already.")]
Limit = Annotated[int | None, typer.Option(min=1, help="Use at most so many tasks.")]
Data = Annotated[
    list[Path] | None,
    typer.Option(help="Learn from these files or folders instead, in any form that `inspect` knows; may be repeated."),
]
BACKBONE_NAME = "SmolLM2-135M-Instruct"
SMOKE_TASKS = 20
"""Unseen tasks among which a role's smoke cases are looked for."""


@app.command()
def tasks(folder: Tasks = Path("var/tasks"), seed: int = 7) -> None:
    """Make the task files by executing tasks over the example tools."""
    from training.tasks.files import write_all

    write_all(folder, seed)


@app.command("global")
def global_stage(
    target: Annotated[Path, typer.Argument(help="Checkpoint directory to write.")] = Path("checkpoints/global"),
    folder: Tasks = Path("var/tasks"),
    backbone: Backbone = Path("var/backbone"),
    work: Work = Path("var/work/global"),
    parent: Annotated[Path | None, typer.Option(help="Go on from this checkpoint instead of a new adapter.")] = None,
    skip: Skip = 0,
    limit: Limit = None,
    data: Data = None,
) -> None:
    """Stage one: one adapter learns the turns of all roles."""
    from training.settings import EMBEDDED_GLOBAL

    _run("global", target, ALL_ROLES, EMBEDDED_GLOBAL, folder, backbone, work, parent, _part(skip, limit), data)


@app.command("local")
def local_stage(
    role: Role,
    parent: Annotated[Path, typer.Option(help="The global checkpoint to start from.")] = Path("checkpoints/global"),
    target: Annotated[Path | None, typer.Argument(help="Checkpoint directory to write.")] = None,
    folder: Tasks = Path("var/tasks"),
    backbone: Backbone = Path("var/backbone"),
    work: Annotated[Path, typer.Option(help="Parent of the stage's working folder.")] = Path("var/work"),
    skip: Skip = 0,
    limit: Limit = None,
    data: Data = None,
) -> None:
    """Stage two: a copy of the global adapter goes on with one role's turns."""
    from training.settings import EMBEDDED_LOCAL

    directory = target or Path("checkpoints") / role
    _run(
        f"local {role}",
        directory,
        (role,),
        EMBEDDED_LOCAL,
        folder,
        backbone,
        work / role,
        parent,
        _part(skip, limit),
        data,
    )


@app.command()
def evaluate(
    folder: Tasks = Path("var/tasks"),
    count: Annotated[int, typer.Option(help="How many test tasks.")] = 200,
    at_once: Annotated[int, typer.Option(help="How many are asked at a time.")] = 6,
    output: Annotated[Path, typer.Option(help="Where the results go.")] = Path("var/eval"),
    system: Annotated[list[str] | None, typer.Option(help="Only this system (may be repeated).")] = None,
) -> None:
    """Task success through the running stack: the three roles beside a single model that plays all of them.

    Goes on where it was cut off; empty the output folder to begin anew.
    """
    from training.evaluate import SYSTEMS, OtherSubject, compare
    from training.tasks import files
    from training.tasks.entities import Split

    signal.signal(signal.SIGTERM, _stop)  # so that the stack that was started is stopped as well
    path = files.path_of(folder, Split.TEST)
    chosen = list(files.read(path))[:count]
    try:
        compare(chosen, f"tasks {files.sha256(path)[:12]}", at_once, output, system or list(SYSTEMS))
    except OtherSubject as error:
        raise typer.BadParameter(str(error)) from error


@app.command()
def report(output: Annotated[Path, typer.Option(help="Where the results are.")] = Path("var/eval")) -> None:
    """Print the table of the results that are there, of an evaluation in progress as well."""
    from training.report import table

    typer.echo(table(output))


def _run(
    stage: str, target: Path, roles: tuple[Role, ...], settings: object, folder: Path, backbone: Path, work: Path,
    parent: Path | None, chosen: slice, data: list[Path] | None,
) -> None:  # fmt: skip
    from transformers import AutoTokenizer

    from training.export import export
    from training.settings import StageSettings
    from training.smoke import choose
    from training.stage import train
    from training.tasks import files
    from training.tasks.entities import Split
    from training.tasks.execute import TOOL_MENTION
    from umi.manifest import Checkpoint
    from umi.smoke import SmokeCase

    assert isinstance(settings, StageSettings)
    records, digest = _records(data, files.path_of(folder, Split.TRAIN))
    records = records[chosen]
    if not records:
        raise typer.BadParameter("no task is left", param_hint="--skip")
    parents = (Checkpoint.open(parent).manifest.version,) if parent else ()
    model, log = train(records, roles, settings, backbone, work, parent)
    if int(os.environ.get("RANK", "0")):
        return  # one of several processes writes what all of them have learnt
    cases: tuple[SmokeCase, ...] = ()
    if len(roles) == 1:
        unseen = [task.record() for task in islice(files.read(files.path_of(folder, Split.DEV)), SMOKE_TASKS)]
        cases = choose(model, AutoTokenizer.from_pretrained(backbone), roles[0], unseen)
    facts = {
        "stage": stage,
        "tasks": len(records),
        "skipped": chosen.start,
        "data_sha256": digest,
        "settings": settings.model_dump(mode="json"),
    }
    export(
        model,
        target,
        _next_version(target),
        BACKBONE_NAME,
        roles,
        facts,
        log,
        parents,
        cases,
        None if data else TOOL_MENTION,
    )
    typer.echo(f"written to {target}")


def _part(skip: int, limit: int | None) -> slice:
    return slice(skip, None if limit is None else skip + limit)


def _records(data: list[Path] | None, tasks: Path) -> "tuple[list[Record], str]":
    """What is to be learnt, and the hash that identifies it: of the task file, or of all data files together."""
    from training.formats import read
    from training.formats.entries import files as files_of
    from training.records import decodable
    from training.tasks import files

    if not data:
        return [task.record() for task in files.read(tasks)], files.sha256(tasks)
    readings = [read(path) for path in data]
    for reading in readings:
        for item in reading.report.malformed:
            typer.echo(f"left out: {item}", err=True)
    records = [decodable(record) for reading in readings for record in reading.records]
    if not records:
        raise typer.BadParameter(
            "there is no record in them; `python -m training inspect` says why", param_hint="--data"
        )
    hashes = "".join(files.sha256(file) for path in data for file in files_of(path))
    return records, hashlib.sha256(hashes.encode()).hexdigest()


def _stop(*_: object) -> None:
    raise SystemExit(1)


def _next_version(target: Path) -> str:
    """`planner-1`, or one more than the checkpoint that `target` holds: weights never change under their name."""
    from umi.manifest import Checkpoint

    number = 1
    if target.exists():
        number = int(Checkpoint.open(target).manifest.version.rpartition("-")[2]) + 1
    return f"{target.name}-{number}"


if __name__ == "__main__":
    keep_freed_memory()
    app()
