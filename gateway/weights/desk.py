"""The registry of weights as operators use it."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from gateway.problems import NotFound
from umi.errors import BadInput
from umi.manifest import Manifest
from umi.registry import Registry
from umi.release import (
    Action,
    Change,
    Release,
    State,
    first,
    promoted,
    released,
    rolled_back,
    shadowed,
    tried,
    unshadowed,
)
from umi.roles import Role


@dataclass(frozen=True)
class Version:
    """A version in the registry: what the release uses it for, and its manifest, or why it has none."""

    name: str
    use: str
    manifest: Manifest | None
    problem: str | None = None


@dataclass(frozen=True)
class Decision:
    """Who changes a release and why; `generation` is the one it was decided on, if only that one may be changed."""

    who: str
    why: str = ""
    generation: int | None = None


class Desk:
    """Every method may wait for the registry, and raises BadInput for what its user can mend: Outdated for whoever
    decided on a generation that is over, NotFound for a role that has no release yet."""

    def __init__(self, registry: Registry) -> None:
        self.registry = registry

    def versions(self, role: Role) -> list[Version]:
        """All of a role, oldest first."""
        release = self.registry.release(role)
        return [self._version(role, name, release) for name in self.registry.versions(role)]

    def show(self, role: Role) -> Release:
        """What is served now, and how it came to be."""
        return _there(role, self.registry.release(role))

    def release(self, role: Role, version: str, by: Decision) -> Release:
        """Serve a version to all runs that begin from now on; the role's first release as well."""
        change = _change(Action.RELEASE, by)

        def make(before: Release | None) -> Release:
            return released(before, version, change) if before else first(role, version, change)

        return self.registry.change(role, make, by.generation)

    def canary(self, role: Role, version: str, share: float, by: Decision) -> Release:
        """Try a version on a share of the runs."""
        return self._change(role, Action.CANARY, by, lambda before, change: tried(before, version, share, change))

    def shadow(self, role: Role, version: str | None, share: float, by: Decision) -> Release:
        """Let a version take turns that nobody waits for; None ends that."""

        def make(before: Release, change: Change) -> Release:
            return shadowed(before, version, share, change) if version else unshadowed(before, change)

        return self._change(role, Action.SHADOW, by, make)

    def promote(self, role: Role, by: Decision) -> Release:
        """The canary becomes stable."""
        return self._change(role, Action.PROMOTE, by, promoted)

    def rollback(self, role: Role, by: Decision) -> Release:
        """End a trial; without one, go back to the stable version before this one."""
        return self._change(role, Action.ROLLBACK, by, rolled_back)

    def restart(self, release: Release) -> str | None:
        """Why no replica can load what was just released as it runs; None when it can."""
        if not release.history:
            return None
        with suppress(BadInput):
            both = (release.history[-1], release)
            old, new = (self.registry.manifest(release.role, state.stable) for state in both)
            if (old.kind, old.backbone) != (new.kind, new.backbone):
                return (
                    f"{new.version} ({new.kind}, {new.backbone}) needs an engine of its own: restart every "
                    f"{release.role}; until then they serve {old.version} ({old.kind}, {old.backbone})"
                )
        return None

    def _change(self, role: Role, action: Action, by: Decision, make: Callable[[Release, Change], Release]) -> Release:
        change = _change(action, by)
        return self.registry.change(role, lambda before: make(_there(role, before), change), by.generation)

    def _version(self, role: Role, name: str, release: Release | None) -> Version:
        try:
            return Version(name, use(release, name), self.registry.manifest(role, name))
        except BadInput as error:
            return Version(name, use(release, name), None, str(error))


def use(release: State | None, version: str) -> str:
    """What a version is used for, in a word; empty when the release does not name it."""
    if release is None:
        return ""
    if version == release.stable:
        return "stable"
    if release.shadow and release.shadow.version == version:
        return f"shadow ({release.shadow.share:.0%})"
    return f"canary ({release.canary.share:.0%})" if release.canary and release.canary.version == version else ""


def _change(action: Action, by: Decision) -> Change:
    return Change(action=action, who=by.who, why=by.why)


def _there(role: Role, release: Release | None) -> Release:
    if release is None:
        raise NotFound(f"the {role} has no release yet; make one with: umi weights release {role} VERSION", "role")
    return release
