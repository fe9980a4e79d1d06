"""The table: what was measured, what is wanted, and whether it was met."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Row:
    """One measurement."""

    what: str
    measured: str
    wanted: str = ""
    is_met: bool = True


@dataclass
class Part:
    """The rows of one part, and sentences about whatever went wrong."""

    title: str
    rows: list[Row] = field(default_factory=list[Row])
    complaints: list[str] = field(default_factory=list[str])

    def add(self, what: str, measured: object, wanted: str = "", is_met: bool = True) -> None:
        """One more row."""
        self.rows.append(Row(what, str(measured), wanted, is_met))

    def none(self, what: str, found: list[str]) -> None:
        """A row about what must not have happened, and the first of what did."""
        self.add(what, len(found), "0", not found)
        self.complaints += [f"{what}: {sentence}" for sentence in found[:3]]

    def most(self, what: str, seconds: float, limit: float) -> None:
        """A row about seconds that must not be more."""
        self.add(what, f"{seconds:.2f} s", f"at most {limit:g} s", seconds <= limit)

    @property
    def is_met(self) -> bool:
        """Whether everything is as wanted."""
        return all(row.is_met for row in self.rows)


def text(parts: list[Part]) -> str:
    """All parts as one Markdown table, and the complaints below it."""
    lines = ["| | measured | wanted | |", "| --- | --- | --- | --- |"]
    for part in parts:
        lines.append(f"| **{part.title}** | | | |")
        for row in part.rows:
            verdict = ("met" if row.is_met else "**missed**") if row.wanted else ""
            lines.append(f"| {row.what} | {row.measured} | {row.wanted} | {verdict} |")
    complaints = [sentence for part in parts for sentence in part.complaints]
    return "\n".join([*lines, "", *complaints])
