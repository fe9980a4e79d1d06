"""The stages of training, and the paper's systems made of them, as commands."""

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from training.settings import EMBEDDED, PRESETS, Preset, StageSettings
from umi.errors import BadInput, TrainingStopped
from umi.roles import Role

if TYPE_CHECKING:
    from training.data import Data
    from training.runs import Backbone

Tasks = Annotated[Path, typer.Option(help="Folder of task files.")]
DataPaths = Annotated[
    list[Path] | None,
    typer.Option(
        "--data", help="Learn from these files or folders instead, in any form that `inspect` knows; may be repeated."
    ),
]
Skip = Annotated[int, typer.Option(min=0, help="Leave out so many records at the beginning: those seen already.")]
Limit = Annotated[int | None, typer.Option(min=1, help="Use at most so many records.")]
BackboneDir = Annotated[Path, typer.Option(help="The backbone, as `from_pretrained` reads it.")]
BackboneName = Annotated[
    str | None, typer.Option(help="What checkpoints call it; otherwise its folder's name, or the embedded backbone's.")
]
PresetName = Annotated[str, typer.Option("--preset", help=f"Hyperparameters: {', '.join(PRESETS)}.")]
Changes = Annotated[
    list[str] | None,
    typer.Option("--set", help="NAME=VALUE in place of one of the preset's; may be repeated. Names: docs/training.md."),
]
_TASKS, _BACKBONE = Path("var/tasks"), Path("var/backbone")
_EMBEDDED_NAME = "SmolLM2-135M-Instruct"


def global_stage(
    target: Annotated[Path, typer.Argument(help="Checkpoint directory to write.")] = Path("checkpoints/global"),
    folder: Tasks = _TASKS,
    backbone: BackboneDir = _BACKBONE,
    backbone_name: BackboneName = None,
    work: Annotated[Path, typer.Option(help="The stage's own checkpoints; it goes on from them.")] = Path(
        "var/work/global"
    ),
    parent: Annotated[Path | None, typer.Option(help="Go on from this checkpoint instead of the backbone.")] = None,
    skip: Skip = 0,
    limit: Limit = None,
    data: DataPaths = None,
    preset: PresetName = EMBEDDED,
    changes: Changes = None,
) -> None:
    """Stage one: one model learns the turns of all roles."""
    from training.lessons import Turns
    from training.runs import Run, run

    with _told():
        settings = _preset(preset).start.changed(changes or [])
        chosen = _data(data, folder).some(skip, limit)
        run(Run("global", Turns(), settings, chosen, _named(backbone, backbone_name), work, target, parent))


def local_stage(
    role: Role,
    parent: Annotated[Path, typer.Option(help="The global checkpoint to start from.")] = Path("checkpoints/global"),
    target: Annotated[Path | None, typer.Argument(help="Checkpoint directory to write.")] = None,
    folder: Tasks = _TASKS,
    backbone: BackboneDir = _BACKBONE,
    backbone_name: BackboneName = None,
    work: Annotated[Path, typer.Option(help="Parent of the stage's working folder.")] = Path("var/work"),
    skip: Skip = 0,
    limit: Limit = None,
    data: DataPaths = None,
    preset: PresetName = EMBEDDED,
    changes: Changes = None,
) -> None:
    """Stage two: a copy of the global checkpoint goes on with one role's turns."""
    from training.lessons import Turns
    from training.runs import Run, run

    with _told():
        settings: StageSettings = _preset(preset).local[role].changed(changes or [])
        chosen = _data(data, folder).some(skip, limit)
        named = _named(backbone, backbone_name)
        directory = target or Path("checkpoints") / role
        run(Run(f"local {role}", Turns(role), settings, chosen, named, work / role, directory, parent))


def system(
    name: Annotated[str, typer.Argument(help="One of the systems that the paper compares; `list` names them.")],
    output: Annotated[Path, typer.Option(help="Folder of the systems' checkpoints.")] = Path("var/systems"),
    folder: Tasks = _TASKS,
    backbone: BackboneDir = _BACKBONE,
    backbone_name: BackboneName = None,
    skip: Skip = 0,
    limit: Limit = None,
    data: DataPaths = None,
    preset: PresetName = EMBEDDED,
    changes: Changes = None,
) -> None:
    """Every stage of one system, in order; stages that are done are not trained again, others go on."""
    from training.runs import run_system
    from training.systems import SYSTEMS

    if name == "list":
        for key, one in SYSTEMS.items():
            typer.echo(f"{key:18} {one.title}: {', '.join(one.stages())}")
        return
    with _told():
        if name not in SYSTEMS:
            raise BadInput(f"there is no system {name!r}: {', '.join(SYSTEMS)}")
        chosen = _data(data, folder).some(skip, limit)
        run_system(name, _preset(preset), changes or [], chosen, _named(backbone, backbone_name), output)


def _data(data: list[Path] | None, tasks: Path) -> "Data":
    from training.data import foreign, generated

    return foreign(data, lambda line: typer.echo(line, err=True)) if data else generated(tasks)


def _named(backbone: Path, name: str | None) -> "Backbone":
    from training.runs import Backbone

    return Backbone(backbone, name or (_EMBEDDED_NAME if backbone == _BACKBONE else backbone.resolve().name))


def _preset(name: str) -> Preset:
    if name not in PRESETS:
        raise BadInput(f"there is no preset {name!r}: {', '.join(PRESETS)}")
    return PRESETS[name]


@contextmanager
def _told() -> Generator[None]:
    """An error that a user can do something about is one sentence, and exit status 1."""
    try:
        yield
    except (BadInput, TrainingStopped) as error:
        typer.echo(f"Error: {error}", err=True)
        raise typer.Exit(1) from error
