"""The training command: `python -m training --help`."""

import signal
from pathlib import Path
from typing import Annotated

import typer

from training.commands_formats import compare_instances, inspect
from training.commands_metrics import metrics
from training.commands_stages import global_stage, local_stage, system
from training.commands_static import static
from training.merge import merge
from training.process import keep_freed_memory

app = typer.Typer(no_args_is_help=True, add_completion=False, help=__doc__)
app.command("global")(global_stage)
app.command("local")(local_stage)
for command in (system, merge, inspect, compare_instances, metrics, static):
    app.command()(command)

Tasks = Annotated[Path, typer.Option(help="Folder of task files.")]


@app.command()
def tasks(folder: Tasks = Path("var/tasks"), seed: int = 7) -> None:
    """Make the task files by executing tasks over the example tools."""
    from training.tasks.files import write_all

    write_all(folder, seed)


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
    from training.evaluate import OtherSubject, compare
    from training.served import SHIPPED
    from training.tasks import files
    from training.tasks.entities import Split

    signal.signal(signal.SIGTERM, _stop)  # so that the stack that was started is stopped as well
    path = files.path_of(folder, Split.TEST)
    chosen = list(files.read(path))[:count]
    try:
        compare(chosen, f"tasks {files.sha256(path)[:12]}", at_once, output, system or list(SHIPPED))
    except OtherSubject as error:
        raise typer.BadParameter(str(error)) from error


@app.command()
def report(output: Annotated[Path, typer.Option(help="Where the results are.")] = Path("var/eval")) -> None:
    """Print the table of the results that are there, of an evaluation in progress as well."""
    from training.report import table

    typer.echo(table(output))


def _stop(*_: object) -> None:
    raise SystemExit(1)


if __name__ == "__main__":
    keep_freed_memory()
    app()
