"""What replicas serve beside what is released, and what each version has done."""

import asyncio
from collections.abc import Iterable, Mapping

from pydantic import Field, computed_field

from gateway.weights.desk import use
from gateway.weights.replicas import Report, reports
from umi.registry import Registry
from umi.release import State
from umi.roles import Role
from umi.trajectory import Frozen
from umi.trial import Tally


class Compared(Report):
    """A replica's report, and whether it is `behind`: not at the release's generation, or in trouble."""

    behind: bool


class Count(Frozen):
    """What a version has done on all replicas together since they loaded it."""

    role: Role
    version: str
    use: str
    done: Tally


class Status(Frozen):
    """All replicas; `generations` are those released, None for a role without a release."""

    generations: dict[Role, int | None]
    replicas: list[Compared]
    counts: list[Count] = Field(default_factory=list[Count])

    @computed_field
    @property
    def converged(self) -> bool:
        """Whether every replica serves what is released."""
        return not any(replica.behind for replica in self.replicas)


async def status(urls: Mapping[Role, str], registry: Registry, token: str | None = None) -> Status:
    """Ask registry and replicas, which want to be shown `token`. Raises BadInput when a release cannot be read."""
    wanted = {role: await asyncio.to_thread(registry.release, role) for role in urls}
    found = await reports(urls, token)
    return Status(
        generations={role: release.generation if release else None for role, release in wanted.items()},
        replicas=[Compared(**dict(report), behind=_is_behind(report, wanted[report.role])) for report in found],
        counts=[count for role, release in wanted.items() for count in _counts(found, role, release)],
    )


def tally(found: Iterable[Report], role: Role, version: str) -> Tally:
    """The counts of a role's version on all replicas together."""
    total = Tally()
    for report in found:
        if report.role is role and report.serves is not None:
            total = total.plus(report.serves.tallies.get(version, Tally()))
    return total


def _counts(found: list[Report], role: Role, release: State | None) -> list[Count]:
    """Of the versions that have taken turns, the released ones first."""
    served = release.versions if release else ()
    others = (version for report in found if report.role is role and report.serves for version in report.serves.tallies)
    counts = (
        Count(role=role, version=version, use=use(release, version), done=tally(found, role, version))
        for version in dict.fromkeys((*served, *others))
    )
    return [count for count in counts if count.done.turns]


def _is_behind(report: Report, release: State | None) -> bool:
    return report.problem is not None or (release is not None and report.generation != release.generation)
