"""The static evaluation as a command: systems beside each other on annotated trajectories of any form."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from training.evaluate import OtherSubject
from training.formats import read
from training.formats.entries import files
from training.live import running
from training.records import Record
from training.report import file_of
from training.served import NAMES, SHIPPED, Served, trained
from training.static import RoleServices, learnt_steps
from training.static_report import plot, report
from training.static_report import read as read_results
from training.tasks.files import sha256
from umi.errors import BadInput
from umi.roles import Role

URLS = {role: f"http://127.0.0.1:{8101 + number}" for number, role in enumerate(Role)}


def static(
    data: Annotated[list[Path], typer.Argument(help="Annotated trajectories, in any form that `inspect` knows.")],
    system: Annotated[list[str] | None, typer.Option(help=f"Only this one of: {', '.join(NAMES)}.")] = None,
    systems: Annotated[
        Path | None,
        typer.Option(help="Folder of trained systems (`python -m training system`) to evaluate, not those shipped."),
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only so many trajectories.")] = None,
    at_once: Annotated[int, typer.Option(min=1, help="Steps that are asked at a time.")] = 8,
    output: Annotated[Path, typer.Option(help="Where the results go; goes on with what is there.")] = Path(
        "var/static"
    ),
) -> None:
    """Teacher-forced evaluation: each annotated step is predicted from the annotated history, by the running roles."""
    records = _records(data)[:limit]
    digest = "".join(sha256(file) for path in data for file in files(path))[:12]
    output.mkdir(parents=True, exist_ok=True)
    try:
        for name, served in chosen(system, systems).items():
            asyncio.run(_evaluate(name, served, records, f"{served.weights()} on {digest}", at_once, output))
    except (OtherSubject, BadInput) as error:
        raise typer.BadParameter(str(error)) from error
    results = read_results(output)
    text = report(results, systems)
    (output / "report.md").write_text(text + "\n", "utf-8")
    plot(results, output / "metrics.png")
    typer.echo("\n" + text)


def chosen(names: Sequence[str] | None, folder: Path | None) -> dict[str, Served]:
    """The systems of these names, all without any: the shipped ones, or those of a folder. Raises BadInput."""
    known = trained(folder) if folder else SHIPPED
    if missing := set(names or ()) - known.keys():
        raise BadInput(
            f"there is no {', '.join(sorted(missing))} in {folder or 'checkpoints'}, only {', '.join(known)}"
        )
    return {name: known[name] for name in names or known}


async def _evaluate(
    system: str, served: Served, records: Sequence[Record], subject: str, at_once: int, output: Path
) -> None:
    file = file_of(output, system)
    earlier = read_results(output).get(system, [])
    if other := {result.subject for result in earlier} - {subject}:
        raise OtherSubject(f"{file} holds results of {other.pop()}, not of {subject}; move it away or use --output")
    known = {(result.id, result.step) for result in earlier}
    if not any(step not in known for step in learnt_steps(records)):
        return
    with running([*served.options, "--no-tools"], file.with_suffix(".log"), subject):
        async with RoleServices(URLS, at_once) as roles:
            async for result in roles.predict_all(records, subject, known):
                with file.open("a", encoding="utf-8") as lines:
                    lines.write(result.model_dump_json() + "\n")


def _records(data: Sequence[Path]) -> list[Record]:
    found: list[Record] = []
    for path in data:
        try:
            reading = read(path)
        except (BadInput, FileNotFoundError) as error:
            raise typer.BadParameter(str(error)) from error
        for item in reading.report.malformed:
            typer.echo(f"left out: {item}", err=True)
        found += reading.records
    if not found:
        raise typer.BadParameter("there is no trajectory in them; `python -m training inspect` says why")
    return found
