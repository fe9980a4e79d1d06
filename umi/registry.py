"""The registry of weights: a directory that operators write and replicas read.

    versions/<role>/<version>/    a checkpoint; never changed once it is there
    releases/<role>.json          what replicas are to serve (`umi.release`)

It may lie on a shared volume. A version appears whole or not at all, and so does a release. A change names the
generation that it was decided on: of two operators who decide at the same time, one is told that it lost.
"""

import fcntl
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

from pydantic import ValidationError

from umi.errors import BadCheckpoint, BadInput, Outdated
from umi.manifest import FILE_NAME, TEMPLATE_NAME, VERSION, Checkpoint, Kind
from umi.release import Release
from umi.roles import Role

Stamp = tuple[int, int, int]


class Registry:
    """The registry in `root`; nothing has to exist yet."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def add(self, source: Path, role: Role) -> Checkpoint:
        """Copy a checkpoint into the registry and return the copy.

        Raises BadCheckpoint when it is not whole, not for the role or too large for the disk; BadInput when the version
        is there already with other content.
        """
        self._require_room(source)
        checkpoint = Checkpoint.open(source)
        checkpoint.serves(role)
        target = self._directory(role, checkpoint.manifest.version)
        if target.exists():
            return self._same(checkpoint, role)
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=".adding-", dir=target.parent))
        try:
            for name in (*checkpoint.manifest.files, TEMPLATE_NAME, FILE_NAME):
                shutil.copyfile(source / name, partial / name)
                _sync(partial / name)
            Checkpoint.open(partial)  # what was read is what was written
            partial.chmod(0o755)
            os.rename(partial, target)
        except OSError as error:
            if target.exists():  # somebody else has added it meanwhile
                return self._same(checkpoint, role)
            raise BadCheckpoint(f"{target} cannot be written: {error.strerror}") from error
        finally:
            shutil.rmtree(partial, ignore_errors=True)
        _sync(target.parent)
        return self.open(role, checkpoint.manifest.version)

    def versions(self, role: Role) -> list[str]:
        """The names of a role's versions, oldest first."""
        folder = self.root / "versions" / role
        found = [entry for entry in folder.iterdir() if re.fullmatch(VERSION, entry.name)] if folder.is_dir() else []
        return [entry.name for entry in sorted(found, key=lambda entry: (entry.lstat().st_mtime, entry.name))]

    def open(self, role: Role, version: str) -> Checkpoint:
        """A verified version. Raises BadCheckpoint: missing, altered, a link, for another role, or misnamed."""
        directory = self._directory(role, version)
        if directory.is_symlink() or not directory.is_dir():
            raise BadCheckpoint(f"{directory}: there is no such version; `umi weights list` shows what there is")
        checkpoint = Checkpoint.open(directory)
        checkpoint.serves(role)
        if checkpoint.manifest.version != version:
            raise BadCheckpoint(f"{directory} holds the version {checkpoint.manifest.version}")
        return checkpoint

    def release(self, role: Role) -> Release | None:
        """What the role's replicas are to serve; None before its first release. Raises BadInput for a broken file."""
        try:
            text = self._file(role).read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise BadInput(f"{self._file(role)}: {error.strerror}", "release") from error
        try:
            found = Release.model_validate_json(text)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            where = ".".join(map(str, first["loc"]))
            raise BadInput(f"{self._file(role)}: {where}: {first['msg']}", "release") from error
        if found.role is not role:
            raise BadInput(f"{self._file(role)} is the release of the {found.role}", "release")
        return found

    def stamp(self, role: Role) -> Stamp | None:
        """Differs after every change of the role's release; cheap enough to ask several times a second."""
        try:
            status = self._file(role).stat()
        except OSError:
            return None
        return status.st_ino, status.st_mtime_ns, status.st_size

    def change(self, role: Role, make: Callable[[Release | None], Release], expected: int | None = None) -> Release:
        """Replace a role's release with what `make` makes of it, on disk when this returns.

        Every version it names is verified first. Raises BadInput for full weights beside others, Outdated when the
        generation is not the `expected` one, and whatever `make` raises.
        """
        with self._locked(role):
            before = self.release(role)
            generation = before.generation if before else 0
            if expected is not None and expected != generation:
                by = f" ({before.action} by {before.who})" if before else ""
                raise Outdated(f"the {role} is at generation {generation}{by}, not {expected}: look again, then decide")
            after = make(before)
            for version in after.versions:
                served_alone(self.open(role, version), after)
            self._write(role, after)
        return after

    def _require_room(self, source: Path) -> None:
        needed = sum(path.stat().st_size for path in source.iterdir() if path.is_file()) if source.is_dir() else 0
        self.root.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(self.root).free
        if needed > free:
            raise BadCheckpoint(
                f"{source} has {needed / 2**20:,.0f} MiB, the registry's disk only {free / 2**20:,.0f} MiB left: "
                f"remove old versions below {self.root / 'versions'}"
            )

    def _same(self, checkpoint: Checkpoint, role: Role) -> Checkpoint:
        there = self.open(role, checkpoint.manifest.version)
        if there.manifest != checkpoint.manifest:
            raise BadInput(f"{there.directory} holds other weights under this version; give them a new one", "version")
        return there

    def _directory(self, role: Role, version: str) -> Path:
        if not re.fullmatch(VERSION, version):
            raise BadCheckpoint(f"{version!r} cannot be the name of a version")
        return self.root / "versions" / role / version

    def _file(self, role: Role) -> Path:
        return self.root / "releases" / f"{role}.json"

    def _write(self, role: Role, release: Release) -> None:
        target = self._file(role)
        descriptor, partial = tempfile.mkstemp(prefix=f".{role}-", dir=target.parent)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(release.model_dump_json(indent=2) + "\n")
            file.flush()
            os.fsync(file.fileno())
        os.chmod(partial, 0o644)
        os.replace(partial, target)
        _sync(target.parent)

    @contextmanager
    def _locked(self, role: Role) -> Generator[None]:
        folder = self.root / "releases"
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / f".{role}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def served_alone(checkpoint: Checkpoint, release: Release) -> None:
    """Raises BadInput when `checkpoint` is full weights and `release` names other versions as well."""
    if checkpoint.manifest.kind is Kind.FULL and len(release.versions) > 1:
        raise BadInput(
            f"{checkpoint.manifest.version} is full weights, and a replica that holds such holds nothing beside them: "
            "it can be released, but it can neither be a canary or a shadow nor have one",
            "version",
        )


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
