"""Where a registry of weights lies. `umi.registry` decides what is in it; a storage keeps it and gives it back.

Two of them exist: a directory (here), and the objects below an fsspec URL (`remote`).
"""

import fcntl
import os
import re
import shutil
import tempfile
from collections.abc import Collection, Generator, Hashable
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, Protocol

from umi.errors import BadCheckpoint, BadInput
from umi.manifest import VERSION, Checkpoint, Manifest
from umi.roles import Role

Stamp = Hashable
"""Differs after every change of a role's release."""


class Written(NamedTuple):
    """A release as it is written: what it is called in messages, its content, and its stamp."""

    name: str
    content: bytes
    stamp: Stamp


class Storage(Protocol):
    """Versions that never change once they are there, and one release per role that is replaced as a whole.

    Every method may wait for disk or network. Raises BadCheckpoint for a version, BadInput for the rest.
    """

    @property
    def place(self) -> str:
        """Path or URL."""
        ...

    @property
    def look_seconds(self) -> float:
        """Between two calls of `stamp` that nobody minds."""
        ...

    def require_room(self, size: int) -> None:
        """Raises BadCheckpoint when `size` bytes are known not to fit."""
        ...

    def add(self, role: Role, checkpoint: Checkpoint) -> bool:
        """Copy a version in: it appears whole or not at all. False when there is one of that name."""
        ...

    def versions(self, role: Role) -> list[str]:
        """Names, oldest first."""
        ...

    def manifest(self, role: Role, version: str) -> Manifest:
        """What a version is; its manifest and template are verified, its weights are there."""
        ...

    def verify(self, role: Role, version: str) -> Manifest:
        """The same, its weights verified too where they need not be fetched for that."""
        ...

    def open(self, role: Role, version: str) -> Checkpoint:
        """A version in files of this machine, every one of them verified."""
        ...

    def keep(self, role: Role, versions: Collection[str]) -> None:
        """Of what `open` has fetched, all others may go."""
        ...

    def stamp(self, role: Role) -> Stamp | None:
        """Of the newest release; cheap, and raises nothing. None when there is none, or it cannot be seen."""
        ...

    def read(self, role: Role) -> Written | None:
        """The newest release."""
        ...

    def publish(self, role: Role, content: bytes, after: Stamp | None) -> bool:
        """Put a release in the place of the one that has the stamp `after`, durably; False when that is not the newest
        any more."""
        ...


class Directory:
    """A registry in a directory, which may lie on a volume that many machines share.

    versions/<role>/<version>/    copied beside, hashed and renamed
    releases/<role>.json          written beside, flushed and renamed, under a lock
    """

    look_seconds = 0.025

    def __init__(self, root: Path) -> None:
        self.root = root

    @property
    def place(self) -> str:
        """The path."""
        return str(self.root)

    def require_room(self, size: int) -> None:
        """Raises BadCheckpoint when the disk has less than `size` bytes left."""
        self.root.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(self.root).free
        if size > free:
            raise BadCheckpoint(
                f"this version has {size / 2**20:,.0f} MiB, the registry's disk only {free / 2**20:,.0f} MiB left: "
                f"remove old versions below {self.root / 'versions'}"
            )

    def add(self, role: Role, checkpoint: Checkpoint) -> bool:
        """Copy a version in, and read what was written."""
        target = self._version(role, checkpoint.manifest.version)
        if target.exists():
            return False
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=".adding-", dir=target.parent))
        try:
            for name in checkpoint.files:
                shutil.copyfile(checkpoint.directory / name, partial / name)
                _sync(partial / name)
            Checkpoint.open(partial)
            partial.chmod(0o755)
            os.rename(partial, target)
        except OSError as error:
            if target.exists():  # somebody else has added it meanwhile
                return False
            raise BadCheckpoint(f"{target} cannot be written: {error.strerror}") from error
        finally:
            shutil.rmtree(partial, ignore_errors=True)
        _sync(target.parent)
        return True

    def versions(self, role: Role) -> list[str]:
        """Names, oldest first."""
        folder = self.root / "versions" / role
        found = [entry for entry in folder.iterdir() if re.fullmatch(VERSION, entry.name)] if folder.is_dir() else []
        return [entry.name for entry in sorted(found, key=lambda entry: (entry.lstat().st_mtime, entry.name))]

    def manifest(self, role: Role, version: str) -> Manifest:
        """Read without hashing the weights, which may take long."""
        return Checkpoint.described(self._present(role, version)).manifest

    def verify(self, role: Role, version: str) -> Manifest:
        """Every file is hashed."""
        return self.open(role, version).manifest

    def open(self, role: Role, version: str) -> Checkpoint:
        """The version where it lies; it must be no link."""
        return Checkpoint.open(self._present(role, version))

    def keep(self, role: Role, versions: Collection[str]) -> None:
        """Nothing was fetched."""

    def stamp(self, role: Role) -> Stamp | None:
        """Of the file as it is now."""
        try:
            return _stamp(self._release(role).stat())
        except OSError:
            return None

    def read(self, role: Role) -> Written | None:
        """The file's content, with the stamp of that very file."""
        path = self._release(role)
        try:
            with path.open("rb") as file:
                return Written(str(path), file.read(), _stamp(os.fstat(file.fileno())))
        except FileNotFoundError:
            return None
        except OSError as error:
            raise BadInput(f"{path}: {error.strerror}", "release") from error

    def publish(self, role: Role, content: bytes, after: Stamp | None) -> bool:
        """Compare and swap, under a lock that a process which dies lets go of."""
        target = self._release(role)
        with self._locked(role):
            if self.stamp(role) != after:
                return False
            descriptor, partial = tempfile.mkstemp(prefix=f".{role}-", dir=target.parent)
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.chmod(partial, 0o644)
            os.replace(partial, target)
            _sync(target.parent)
        return True

    def _present(self, role: Role, version: str) -> Path:
        directory = self._version(role, version)
        if directory.is_symlink() or not directory.is_dir():
            raise BadCheckpoint(f"{directory}: there is no such version; `umi weights list` shows what there is")
        return directory

    def _version(self, role: Role, version: str) -> Path:
        return self.root / "versions" / role / version

    def _release(self, role: Role) -> Path:
        return self.root / "releases" / f"{role}.json"

    @contextmanager
    def _locked(self, role: Role) -> Generator[None]:
        folder = self.root / "releases"
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / f".{role}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def _stamp(status: os.stat_result) -> Stamp:
    return status.st_ino, status.st_mtime_ns, status.st_size


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
