"""What a stage learns from: the generated tasks, or files of others, with what identifies them in a manifest."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

from training.formats import read
from training.formats.entries import files as files_of
from training.records import Record, decodable
from training.systems import Part
from training.tasks import files
from training.tasks.entities import Split
from training.tasks.execute import TOOL_MENTION
from umi.errors import BadInput

_SMOKE = 300
"""Records among which a role's smoke cases are looked for."""


@dataclass(frozen=True)
class Data:
    """Records, the hash of the files they came from, and what is said of them. `part` of them, after `skipped`."""

    records: Sequence[Record]
    sha256: str
    description: str
    smoke: Sequence[Record]
    tool_mention: str | None = None
    skipped: int = 0
    part: Part = Part.ALL

    def some(self, skip: int, limit: int | None) -> "Data":
        """At most `limit` records after the first `skip`. Raises BadInput when none is left."""
        chosen = self.records[skip : None if limit is None else skip + limit]
        if not chosen:
            raise BadInput(f"no record is left of {len(self.records)} after the first {skip}: --skip fewer")
        return replace(self, records=chosen, skipped=skip)

    def half(self, part: Part) -> "Data":
        """The records of a part. Raises BadInput when there is none."""
        chosen = part.of(self.records)
        if not chosen:
            raise BadInput(f"{len(self.records)} records are too few for {part}")
        return replace(self, records=chosen, part=part)

    def facts(self) -> dict[str, object]:
        """For the manifest."""
        return {
            "tasks": len(self.records),
            "data": self.description,
            "skipped": self.skipped,
            "part": self.part,
            "data_sha256": self.sha256,
        }


def generated(folder: Path) -> Data:
    """The tasks that `python -m training tasks` makes; smoke cases come from unseen ones."""
    path = files.path_of(folder, Split.TRAIN)
    return Data(
        [task.record() for task in files.read(path)],
        files.sha256(path),
        "generated tasks over the tools in `examples/tools`, every observation a real response",
        [task.record() for task in islice(files.read(files.path_of(folder, Split.DEV)), _SMOKE)],
        TOOL_MENTION,
    )


def foreign(paths: Sequence[Path], tell: Callable[[str], None]) -> Data:
    """The records of files or folders in any known form; `tell` hears of every entry that is not one.

    Raises BadInput when there is no record, or a file is missing.
    """
    try:
        readings = [read(path) for path in paths]
    except FileNotFoundError as error:
        raise BadInput(f"{error.filename or error}: there is no such file or folder") from error
    for reading in readings:
        for item in reading.report.malformed:
            tell(f"left out: {item}")
    records = [decodable(record) for reading in readings for record in reading.records]
    if not records:
        raise BadInput(f"{', '.join(map(str, paths))}: holds no record; `python -m training inspect` says why")
    sources = ", ".join(sorted({record.source for record in records}))
    hashes = "".join(files.sha256(file) for path in paths for file in files_of(path))
    return Data(records, hashlib.sha256(hashes.encode()).hexdigest(), f"trajectories of {sources}", records[:_SMOKE])
