"""The registry of weights, which operators write and replicas read: versions of each role, and the role's release.

It lies in a directory or below an fsspec URL (`umi.storage`). A version appears whole or not at all, and so does a
release. A change names the generation that it was decided on: of two operators who decide at the same time, one is
told that it lost.
"""

import re
from collections.abc import Callable
from pathlib import Path

from pydantic import ValidationError

from umi.errors import BadCheckpoint, BadInput, Outdated
from umi.manifest import VERSION, Checkpoint, Kind, Manifest
from umi.release import Release
from umi.roles import Role
from umi.storage import Directory, Stamp, Storage

_REMEMBERED = 2
"""Earlier states of a release whose versions stay fetched: a trial may still have to go back to them."""


class Registry:
    """The registry in a storage, or in a directory; nothing has to exist yet. Every method may wait for the storage."""

    def __init__(self, storage: Storage | Path) -> None:
        self._storage: Storage = Directory(storage) if isinstance(storage, Path) else storage

    @property
    def place(self) -> str:
        """Its path or URL."""
        return self._storage.place

    @property
    def look_seconds(self) -> float:
        """Between two looks at a release that nobody minds."""
        return self._storage.look_seconds

    def add(self, source: Path, role: Role) -> Checkpoint:
        """Copy a checkpoint into the registry; returns what was copied.

        Raises BadCheckpoint when it is not whole, not for the role or too large for the disk; BadInput when the version
        is there already with other content.
        """
        if source.is_dir():
            self._storage.require_room(sum(path.stat().st_size for path in source.iterdir() if path.is_file()))
        checkpoint = Checkpoint.open(source)
        checkpoint.manifest.serves(role)
        version = checkpoint.manifest.version
        if not self._storage.add(role, checkpoint) and self.verified(role, version) != checkpoint.manifest:
            there = f"{self.place} holds other weights under this version, {role} {version}"
            raise BadInput(f"{there}; give them a new one", "version")
        return checkpoint

    def versions(self, role: Role) -> list[str]:
        """The names of a role's versions, oldest first."""
        return self._storage.versions(role)

    def manifest(self, role: Role, version: str) -> Manifest:
        """What a version is, read at once. Raises BadCheckpoint: missing, for another role, or misnamed."""
        return self._named(role, version, self._storage.manifest(role, _checked(version)))

    def verified(self, role: Role, version: str) -> Manifest:
        """The same, its weights hashed unless they would have to be fetched. Raises BadCheckpoint: altered, as well."""
        return self._named(role, version, self._storage.verify(role, _checked(version)))

    def open(self, role: Role, version: str) -> Checkpoint:
        """A version to be served: in files of this machine, verified. Raises BadCheckpoint."""
        checkpoint = self._storage.open(role, _checked(version))
        self._named(role, version, checkpoint.manifest)
        return checkpoint

    def release(self, role: Role) -> Release | None:
        """What the role's replicas are to serve; None before its first release. Raises BadInput for a broken one."""
        return self._current(role)[0]

    def stamp(self, role: Role) -> Stamp | None:
        """Differs after every change of the role's release; cheap enough to be asked for all the time."""
        return self._storage.stamp(role)

    def change(self, role: Role, make: Callable[[Release | None], Release], expected: int | None = None) -> Release:
        """Replace a role's release with what `make` makes of it, stored for good when this returns.

        Every version it names is verified first. Raises BadInput for full weights beside others, Outdated when the
        generation is not the `expected` one, and whatever `make` raises; it is asked again when somebody was faster.
        """
        while True:
            before, stamp = self._current(role)
            generation = before.generation if before else 0
            if expected is not None and expected != generation:
                by = f" ({before.action} by {before.who})" if before else ""
                raise Outdated(f"the {role} is at generation {generation}{by}, not {expected}: look again, then decide")
            after = make(before)
            for version in after.versions:
                served_alone(self.verified(role, version), after)
            content = after.model_dump_json(indent=2) + "\n"
            if self._storage.publish(role, content.encode(), stamp):
                return after

    def forget_fetched(self, release: Release) -> None:
        """Delete from this machine what was fetched for releases that are over."""
        states = (release, *release.history[-_REMEMBERED:])
        self._storage.keep(release.role, {version for state in states for version in state.versions})

    def _current(self, role: Role) -> tuple[Release | None, Stamp | None]:
        written = self._storage.read(role)
        if written is None:
            return None, None
        try:
            found = Release.model_validate_json(written.content)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            where = ".".join(map(str, first["loc"]))
            raise BadInput(f"{written.name}: {where}: {first['msg']}", "release") from error
        if found.role is not role:
            raise BadInput(f"{written.name} is the release of the {found.role}", "release")
        return found, written.stamp

    def _named(self, role: Role, version: str, manifest: Manifest) -> Manifest:
        manifest.serves(role)
        if manifest.version != version:
            raise BadCheckpoint(f"{self.place}: {role} {version} holds the version {manifest.version}")
        return manifest


def served_alone(manifest: Manifest, release: Release) -> None:
    """Raises BadInput when a version is full weights and `release` names other versions as well."""
    if manifest.kind is Kind.FULL and len(release.versions) > 1:
        raise BadInput(
            f"{manifest.version} is full weights, and a replica that holds such holds nothing beside them: "
            "it can be released, but it can neither be a canary or a shadow nor have one",
            "version",
        )


def _checked(version: str) -> str:
    if not re.fullmatch(VERSION, version):
        raise BadCheckpoint(f"{version!r} cannot be the name of a version")
    return version
