"""Data in the forms of others, read into records: `read(path)` finds out the form by itself."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

from training.formats import alpha_umi, runs, steps, toolalpaca, toolbench
from training.formats.entries import Entry, Malformed, entries, files
from training.records import Record
from umi.errors import BadInput
from umi.trajectory import JsonObject

__all__ = ["Form", "Malformed", "Reading", "Report", "read"]


class Form(StrEnum):
    """The forms that can be read."""

    TOOLBENCH = "toolbench"
    ALPHA_UMI = "alpha-umi"
    TOOLALPACA = "toolalpaca"
    STEPS = "steps"
    RUNS = "runs"


class _Reader(NamedTuple):
    """How a form is told from others, what it looks like, and how an entry of it is read."""

    recognises: Callable[[JsonObject], bool]
    records: Callable[[JsonObject, str], Iterator[Record | BadInput]]
    expects: str


_READERS = {
    Form.TOOLBENCH: _Reader(toolbench.recognises, toolbench.records, toolbench.EXPECTS),
    Form.ALPHA_UMI: _Reader(alpha_umi.recognises, alpha_umi.records, alpha_umi.EXPECTS),
    Form.TOOLALPACA: _Reader(toolalpaca.recognises, toolalpaca.records, toolalpaca.EXPECTS),
    Form.STEPS: _Reader(steps.recognises, steps.records, steps.EXPECTS),
    Form.RUNS: _Reader(runs.recognises, runs.records, runs.EXPECTS),
}


@dataclass
class Report:
    """What came of reading a path: records per form, and everything that is not one."""

    path: Path
    records: Counter[Form] = field(default_factory=Counter[Form])
    malformed: list[Malformed] = field(default_factory=list[Malformed])


@dataclass(frozen=True)
class Reading:
    """The records of a path and the report on them."""

    records: list[Record]
    report: Report


def read(path: Path, form: Form | None = None) -> Reading:
    """Everything in a file, or in all data files of a folder. Each file's form is found out unless it is given.

    Whatever is not a record is in the report with its file, place and reason. Raises FileNotFoundError only.
    """
    report, records = Report(path), list[Record]()
    for file in files(path):
        for item in _read(file, form):
            if isinstance(item, Malformed):
                report.malformed.append(item)
            else:
                report.records[item[0]] += 1
                records.append(item[1])
    if not records and not report.malformed:
        report.malformed.append(Malformed(path, "folder", "holds no .json, .jsonl or .ndjson file"))
    return Reading(records, report)


def _read(file: Path, form: Form | None) -> Iterator[tuple[Form, Record] | Malformed]:
    unknown: list[Entry] = []
    for entry in entries(file):
        if isinstance(entry, Malformed):
            yield entry
        elif not isinstance(entry.value, dict):
            yield Malformed(file, entry.place, "expected a JSON object")
        elif (form := form or _form_of(entry.value)) is None:
            unknown.append(entry)
        else:
            for item in _records(entry, form, f"{file.stem}:{entry.key}" if entry.place != "file" else file.stem):
                if isinstance(item, BadInput):
                    yield Malformed(file, entry.place, str(item))
                else:
                    yield form, item
    expected = _READERS[form].expects if form else " or ".join(f"{name}: {_READERS[name].expects}" for name in Form)
    for entry in unknown:
        yield Malformed(file, entry.place, f"expected {expected}")


def _form_of(value: JsonObject) -> Form | None:
    return next((form for form, reader in _READERS.items() if reader.recognises(value)), None)


def _records(entry: Entry, form: Form, id: str) -> Iterator[Record | BadInput]:
    reader = _READERS[form]
    if not reader.recognises(entry.value):
        yield BadInput(f"expected {form}: {reader.expects}")
        return
    try:
        yield from reader.records(entry.value, id)
    except BadInput as error:
        yield error
