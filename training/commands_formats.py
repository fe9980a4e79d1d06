"""Commands about data in the forms of others: what a file holds, and whether we make of it what the reference makes."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from training.formats import Form, read
from training.formats.reference import compare, load, targets
from training.records import Record
from umi.errors import BadInput
from umi.roles import Role

T = TypeVar("T")


def inspect(
    paths: Annotated[list[Path], typer.Argument(help="Data files, or folders of them.")],
    form: Annotated[Form | None, typer.Option(help="Read them as this; otherwise found out.")] = None,
    show: Annotated[int, typer.Option(help="How many malformed entries of each path are shown.")] = 10,
) -> None:
    """What data files hold: records, calls, answers, turns that are not learnt, and every malformed entry."""
    rows: list[tuple[str, ...]] = [
        ("path", "form", "records", "malformed", "calls", "answers", "user again", "unlearnt P/C", "remarks")
    ]
    shown: list[str] = []
    for path in paths:
        records, report = (reading := _or_exit(lambda path=path: read(path, form))).records, reading.report
        forms = " + ".join(report.records) or "–"
        rows.append((str(path), forms, str(len(records)), str(len(report.malformed)), *_counts(records)))
        shown += [str(item) for item in report.malformed[:show]]
        if len(report.malformed) > show:
            shown.append(
                f"{path}: {len(report.malformed) - show} more malformed entries; --show says how many are shown"
            )
    typer.echo(_table(rows))
    if shown:
        typer.echo("\n" + "\n".join(shown))


def compare_instances(
    raw: Annotated[Path, typer.Argument(help="Trajectories, in any form.")],
    reference: Annotated[list[Path], typer.Argument(help="What the reference made of them; the name tells the role.")],
) -> None:
    """Our instances beside the reference's, per role, and every difference. Exits with 1 if there is one."""
    reading = _or_exit(lambda: read(raw))
    for item in reading.report.malformed:
        typer.echo(f"malformed: {item}")
    rows = [("role", "ours", "reference", "equal targets", "differences")]
    shown: list[str] = []
    for path in reference:
        kind, theirs = _or_exit(lambda path=path: load(path))
        found = compare(kind, list(targets(reading.records, kind)), theirs)
        rows.append((kind, str(found.ours), str(found.theirs), str(found.equal), str(len(found.differences))))
        shown += [f"\n{kind}\n  ours:      {ours!r}\n  reference: {their!r}" for ours, their in found.differences]
    typer.echo(_table(rows) + "\n".join(shown))
    if shown or reading.report.malformed:
        raise typer.Exit(1)


def _counts(records: Iterable[Record]) -> tuple[str, ...]:
    calls = answers = again = remarks = planner = caller = 0
    for record in records:
        calls += sum(step.call is not None for step in record.trajectory.steps)
        answers += record.answer is not None
        again += len(record.user_turns)
        remarks += record.remarks
        planner += sum(role is Role.PLANNER for _, role in record.unlearnt)
        caller += sum(role is Role.CALLER for _, role in record.unlearnt)
    return (str(calls), str(answers), str(again), f"{planner}/{caller}", str(remarks))


def _table(rows: list[tuple[str, ...]]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)


def _or_exit(act: Callable[[], T]) -> T:
    """The edge: what the user can mend is a line, not a traceback."""
    try:
        return act()
    except (BadInput, FileNotFoundError) as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(2) from error
