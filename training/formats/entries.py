"""The entries of a data file: a JSON object, a list of them, or one a line. What cannot be read is an entry too."""

from collections.abc import Iterator
from dataclasses import dataclass
from json import JSONDecodeError
from pathlib import Path
from typing import Any

from training.formats.shapes import loads

SUFFIXES = {".json", ".jsonl", ".ndjson"}
_BY_LINES = {".jsonl", ".ndjson"}


@dataclass(frozen=True)
class Malformed:
    """What could not be read: where (`line 3`, `index 12`, counted as the place does) and why."""

    file: Path
    place: str
    reason: str

    def __str__(self) -> str:
        return f"{self.file}, {self.place}: {self.reason}"


@dataclass(frozen=True)
class Entry:
    """One JSON value of a file. `key` tells it from its neighbours."""

    place: str
    key: str
    value: Any


def entries(file: Path) -> Iterator[Entry | Malformed]:
    """All entries of a file, in order. Raises nothing for what the file holds or is."""
    try:
        text = file.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        yield Malformed(file, "file", f"cannot be read: {error}")
        return
    if not text.strip():
        yield Malformed(file, "file", "is empty; expected JSON")
    elif file.suffix in _BY_LINES or _starts_with_an_object_a_line(text):
        yield from _lines(file, text)
    else:
        yield from _whole(file, text)


def files(path: Path) -> Iterator[Path]:
    """The file itself, or a folder's data files at any depth, in order. Raises FileNotFoundError."""
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist; expected a data file or a folder of them")
    if path.is_dir():
        yield from sorted(file for file in path.rglob("*") if file.suffix in SUFFIXES and file.is_file())
    else:
        yield path


def _starts_with_an_object_a_line(text: str) -> bool:
    first, _, rest = text.strip().partition("\n")
    try:
        return bool(rest) and isinstance(loads(first), dict)
    except ValueError:
        return False


def _lines(file: Path, text: str) -> Iterator[Entry | Malformed]:
    for number, line in enumerate(text.split("\n"), start=1):  # splitlines would split inside of texts, at U+2028
        if not line.strip():
            continue
        place = f"line {number}"
        try:
            yield Entry(place, str(number), loads(line))
        except ValueError as error:
            yield Malformed(file, place, f"not JSON: {error}")


def _whole(file: Path, text: str) -> Iterator[Entry | Malformed]:
    try:
        value = loads(text)
    except ValueError as error:
        place = f"line {error.lineno}" if isinstance(error, JSONDecodeError) else "file"
        yield Malformed(file, place, f"not JSON: {error}")
        return
    if not isinstance(value, list):
        yield Entry("file", "0", value)
    elif value:
        yield from (Entry(f"index {index}", str(index), item) for index, item in enumerate(value))
    else:
        yield Malformed(file, "file", "is an empty list; expected at least one entry")
