"""The release of a role: which version its replicas serve, which one is on trial, and how it came so.

A release is a value; every change makes the next one, with its generation counted up and the state before kept in the
history. `umi.registry` keeps it in a file that all replicas of the role watch.
"""

import hashlib
import time
from enum import StrEnum
from typing import Annotated

from pydantic import Field

from umi.errors import BadInput
from umi.manifest import VERSION
from umi.roles import Role
from umi.trajectory import Frozen

Version = Annotated[str, Field(pattern=VERSION)]
KEPT = 200
"""Earlier states that a release remembers."""


class Action(StrEnum):
    """What an operator did."""

    RELEASE = "release"
    CANARY = "canary"
    PROMOTE = "promote"
    ROLLBACK = "rollback"
    SHADOW = "shadow"


class Canary(Frozen):
    """A version on trial, and the share of runs that get it."""

    version: Version
    share: Annotated[float, Field(gt=0, lt=1)]


class Shadow(Frozen):
    """A version that takes turns nobody waits for, to be compared, and the share of runs that it follows."""

    version: Version
    share: Annotated[float, Field(gt=0, le=1)]


class State(Frozen):
    """What was to be served from one change to the next. `at` is seconds since the epoch."""

    generation: Annotated[int, Field(ge=1)]
    action: Action
    stable: Version
    canary: Canary | None = None
    shadow: Shadow | None = None
    who: str
    why: str = ""
    at: float = Field(default_factory=time.time)

    @property
    def versions(self) -> tuple[str, ...]:
        """Every version that a replica has to hold."""
        trials = (trial.version for trial in (self.canary, self.shadow) if trial)
        return tuple(dict.fromkeys((self.stable, *trials)))


class Release(State):
    """The present state, and those before it, oldest first."""

    role: Role
    history: tuple[State, ...] = ()

    def version_for(self, run_id: str) -> str:
        """The version of a run that begins now: a hash of its id, so that every replica gives the same answer."""
        if self.canary is not None and _place(self.role, run_id) < self.canary.share:
            return self.canary.version
        return self.stable

    def is_shadowed(self, run_id: str) -> bool:
        """Whether the shadow follows this run."""
        return self.shadow is not None and _place(self.role, f"shadow {run_id}") < self.shadow.share

    def changed(
        self, by: "Change", stable: str, canary: Canary | None = None, shadow: Shadow | None = None
    ) -> "Release":
        """The next release. Without a new shadow the present one stays, unless its version is served now."""
        kept = shadow or self.shadow
        if kept is not None and kept.version in (stable, canary.version if canary else None):
            kept = None
        before = State.model_validate(self.model_dump(exclude={"role", "history"}))
        return Release(
            role=self.role,
            generation=self.generation + 1,
            stable=stable,
            canary=canary,
            shadow=kept,
            history=(*self.history, before)[-KEPT:],
            **by.model_dump(),
        )


class Change(Frozen):
    """Who changes a release, how and why."""

    action: Action
    who: str
    why: str = ""


def first(role: Role, version: str, by: Change) -> Release:
    """The release of a role that had none."""
    return Release(role=role, generation=1, stable=version, **by.model_dump())


def released(before: Release, version: str, by: Change) -> Release:
    """All runs that begin from now on get `version`; a trial ends."""
    return before.changed(by, version)


def tried(before: Release, version: str, share: float, by: Change) -> Release:
    """A share of the runs that begin from now on gets `version`. Raises BadInput when it is what all others get."""
    if version == before.stable:
        raise BadInput(f"{version} is stable already; a trial needs another version", "version")
    return before.changed(by, before.stable, Canary(version=version, share=share))


def shadowed(before: Release, version: str, share: float, by: Change) -> Release:
    """A version follows a share of the runs without being answered with. Raises BadInput when it is served already."""
    if version in (before.stable, before.canary.version if before.canary else None):
        raise BadInput(f"{version} is served already; a shadow needs another version", "version")
    return before.changed(by, before.stable, before.canary, Shadow(version=version, share=share))


def unshadowed(before: Release, by: Change) -> Release:
    """The shadow goes. Raises BadInput when there is none."""
    if before.shadow is None:
        raise BadInput(f"the {before.role} has no shadow", "role")
    return before.model_copy(update={"shadow": None}).changed(by, before.stable, before.canary)


def promoted(before: Release, by: Change) -> Release:
    """The version on trial becomes stable. Raises BadInput when there is none."""
    if before.canary is None:
        raise BadInput(f"the {before.role} has no canary to promote", "role")
    return before.changed(by, before.canary.version)


def rolled_back(before: Release, by: Change) -> Release:
    """A trial ends; without one, the stable version before this one comes back. Raises BadInput when there is none."""
    if before.canary is not None:
        return before.changed(by, before.stable)
    for state in reversed(before.history):
        if state.stable != before.stable:
            return before.changed(by, state.stable)
    raise BadInput(f"the {before.role} has no earlier version to go back to", "role")


def _place(role: Role, run_id: str) -> float:
    """Where a run stands between 0 and 1. Each role hashes for itself, so that trials of two roles mix."""
    digest = hashlib.sha256(f"{role}:{run_id}".encode()).digest()
    return int.from_bytes(digest[:8]) / 2**64
