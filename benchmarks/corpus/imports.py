"""Imports documents and tells what became of their operations."""

import re
import resource
import time
import traceback
from collections import Counter
from pathlib import Path

from tqdm import tqdm

from benchmarks.corpus.documents import imported, read
from gateway.store import ToolsetRow
from gateway.tools.toolsets import read_toolset
from umi.errors import BadDocument, UmiError
from umi.openapi import Imported, Status


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

    @property
    def usable(self) -> float:
        """Share of the selected operations that can be called."""
        good = self.counts[Status.IMPORTED] + self.counts[Status.WITH_LOSS]
        return good / max(1, good + self.counts[Status.REFUSED])


def import_all(files: list[Path], schemas: bool) -> Tally:
    """Import every document and print the table; with `schemas` every tool's schema is checked as the gateway does."""
    tally, started = Tally(), time.process_time()
    for file in tqdm(files, desc="documents"):
        before = time.monotonic()
        _import(file, tally, schemas)
        tally.slowest = sorted([*tally.slowest, (time.monotonic() - before, str(file))], reverse=True)[:5]
    print(table(tally, len(files), time.process_time() - started))
    for line in (*tally.unusable, *tally.crashes, *(f"{spent:.1f} s: {file}" for spent, file in tally.slowest)):
        print(line)
    return tally


def _import(file: Path, tally: Tally, schemas: bool) -> None:
    try:
        document = read(file)
        found = imported(file, document)
        tally.add(found)
        if schemas and found.operations:
            checked = read_toolset(ToolsetRow(name="x", url="https://x.example/openapi.json", document=document))
            tally.counts["tools with a valid schema"] += len(checked.tools)
    except UmiError as error:
        where = error.field if isinstance(error, BadDocument) else None
        tally.unusable.append(f"{file}: {error} ({where})")
    except Exception:  # a crash is what this looks for
        tally.crashes.append(f"{file}\n{traceback.format_exc(limit=-4)}")


def table(tally: Tally, documents: int, seconds: float) -> str:
    """The counts in Markdown."""
    total = sum(tally.counts[status] for status in (Status.IMPORTED, Status.WITH_LOSS, Status.REFUSED))
    rows: list[tuple[str, object]] = [("documents", documents), ("documents refused", len(tally.unusable))]
    rows += [("operations that are not deprecated", total), ("**usable**", f"**{tally.usable:.3%}**")]
    rows += [
        (str(name).replace("_", " "), f"{count} ({count / max(total, 1):.2%})")
        for name, count in tally.counts.most_common()
    ]
    rows += [(f"refused: {reason}", count) for reason, count in tally.reasons.most_common(20)]
    rows += [(f"loss: {loss}", count) for loss, count in tally.losses.most_common(30)]
    rows += [("crashes", len(tally.crashes)), ("seconds of CPU", f"{seconds:.0f}")]
    rows += [("memory, MiB", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)]
    return "\n".join(["| | |", "| --- | --- |", *(f"| {name} | {value} |" for name, value in rows)])


def _kind(reason: str) -> str:
    return re.sub(r"'[^']*'|\d+", "…", reason)[:90]
