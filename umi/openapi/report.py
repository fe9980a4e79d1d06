"""What became of each operation of a document, beside the operations themselves."""

from collections import Counter
from collections.abc import Mapping
from enum import StrEnum

from umi.errors import BadDocument
from umi.openapi.model import Operation
from umi.trajectory import Frozen

_MAX_LOSSES = 12


class Status(StrEnum):
    """What became of an operation."""

    IMPORTED = "imported"
    WITH_LOSS = "with_loss"
    """Usable, but something that its document says is not known to the model or not checked."""
    REFUSED = "refused"
    LEFT_OUT = "left_out"
    """Not selected: deprecated, or excluded by tag, path or method."""


class OperationReport(Frozen):
    """One operation: its tool's name when it has one, what was lost, or why it is not there."""

    method: str
    path: str
    name: str | None = None
    status: Status
    losses: tuple[str, ...] = ()
    """Each as `kind` or `kind: where`."""
    reason: str | None = None
    field: str | None = None
    """The part of the document that the reason is about."""


class Report(Frozen):
    """All operations of a document, in its own order."""

    operations: tuple[OperationReport, ...] = ()

    def of(self, *status: Status) -> list[OperationReport]:
        """Those that came out so."""
        return [operation for operation in self.operations if operation.status in status]

    def without(self, wrong: Mapping[str, str]) -> "Report":
        """The same, but tools of these names are refused for these reasons."""
        return Report(operations=tuple(_refused(entry, wrong) for entry in self.operations))

    @property
    def summary(self) -> str:
        """How many came out in which way, in one line."""
        counts = Counter(operation.status for operation in self.operations)
        return ", ".join(f"{counts[status]} {status.replace('_', ' ')}" for status in Status if counts[status])


def _refused(entry: OperationReport, wrong: Mapping[str, str]) -> OperationReport:
    if entry.name is None or entry.name not in wrong:
        return entry
    return entry.model_copy(update={"status": Status.REFUSED, "losses": (), "reason": wrong[entry.name]})


class Imported(Frozen):
    """The operations of a document that can be called, and what became of all."""

    operations: tuple[Operation, ...]
    report: Report

    def usable(self) -> list[Operation]:
        """The operations. Raises BadDocument when there are none, with the reason of the first that was refused."""
        if self.operations:
            return list(self.operations)
        entries = self.report.of(Status.REFUSED) or self.report.of(Status.LEFT_OUT)
        if not entries:
            raise BadDocument("the document has no operations", "document.paths")
        first = entries[0]
        where = f"{first.method} {first.path}".strip()
        message = f"no operation is usable; {where}: {first.reason}"
        raise BadDocument(message, first.field or f"document.paths.{first.path}")


class Losses:
    """What an operation loses on its import, each thing once."""

    def __init__(self) -> None:
        self._texts: dict[str, None] = {}

    def add(self, kind: str, where: str = "") -> None:
        """Note a loss."""
        if len(self._texts) <= 10 * _MAX_LOSSES:  # a hostile document must not fill memory with notes
            self._texts[f"{kind}: {where[:100]}" if where else kind] = None

    def update(self, other: "Losses") -> None:
        """Take over what another has noted."""
        self._texts |= other._texts

    @property
    def texts(self) -> tuple[str, ...]:
        """All of them, or the first few and how many more there are."""
        texts = tuple(self._texts)
        return (
            texts
            if len(texts) <= _MAX_LOSSES
            else (*texts[:_MAX_LOSSES], f"further losses: {len(texts) - _MAX_LOSSES}")
        )
