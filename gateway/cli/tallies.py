"""What each version has done, over all replicas: the counts that a canary is judged by."""

from collections.abc import Iterable, Mapping

from rich.table import Table

from gateway.cli.replicas import Report
from umi.release import Release
from umi.roles import Role
from umi.trial import Tally


def tally(found: Iterable[Report], role: Role, version: str) -> Tally:
    """The counts of a role's version on all replicas together."""
    total = Tally()
    for report in found:
        if report.role is role:
            total = total.plus(report.tallies.get(version, Tally()))
    return total


def use(release: Release | None, version: str) -> str:
    """What a version is used for, in a word; empty when the release does not name it."""
    if release is None:
        return ""
    if version == release.stable:
        return "stable"
    if release.shadow and release.shadow.version == version:
        return f"shadow ({release.shadow.share:.0%})"
    return f"canary ({release.canary.share:.0%})" if release.canary and release.canary.version == version else ""


def table(found: Iterable[Report], wanted: Mapping[Role, Release | None]) -> Table:
    """A row for each version that has taken turns, the released ones first."""
    shown = Table(
        "role", "version", "used as", "turns", "failed", "texts unusable", "seconds a turn", "steps a run", box=None
    )
    reports = list(found)
    for role, release in wanted.items():
        served = release.versions if release else ()
        others = (version for report in reports if report.role is role for version in report.tallies)
        for version in dict.fromkeys((*served, *others)):
            done = tally(reports, role, version)
            if done.turns:
                counts = (str(done.turns), str(done.failed), str(done.unusable), f"{done.mean_seconds:.2f}")
                shown.add_row(
                    role, version, use(release, version), *counts, f"{done.mean_steps:.1f}" if done.runs else "-"
                )
    return shown
