"""A registry as objects in a store that can create one only if it is absent (ADR 7).

    versions/<role>/<version>/          a version's files; its manifest is the last to come and makes it one
    releases/<role>/<generation>.json   the release of the highest generation is in force; none is ever changed

No object is written twice, so that two operators cannot overwrite each other, and whoever dies half-way leaves nothing
that counts.
"""

import hashlib
import shutil
from collections.abc import Collection, Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import fsspec

from remote.cache import Cache
from umi.errors import BadCheckpoint, BadInput, NoRegistry, UmiError, first_line
from umi.manifest import FILE_NAME, TEMPLATE_NAME, Checkpoint, Manifest, description, sha256
from umi.roles import Role
from umi.storage import Stamp, Written

_EXCLUSIVE = ("s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "memory")
"""Filesystems of which mode="create" is one step in the store itself. fsspec has it for all, but for others as a look
and then a write, between which somebody else may come."""
_DIGITS = 8
_TIMES = ("LastModified", "last_modified", "updated", "mtime", "created")
"""What filesystems call the time at which an object was written."""


class Objects:
    """The registry below `url`. A version is served from a copy in `cache`, a directory for registries of all URLs."""

    look_seconds = 2.0

    def __init__(self, url: str, cache: Path) -> None:
        scheme = url.partition("://")[0]
        if scheme not in _EXCLUSIVE:
            raise NoRegistry(
                f"{url}: on {scheme} two operators could overwrite each other; a registry is a directory, "
                f"or lies on {', '.join(_EXCLUSIVE[:-1])}"
            )
        self._url = url.rstrip("/")
        self._cache = Cache(cache / hashlib.sha256(self._url.encode()).hexdigest()[:16])
        self._newest: dict[Role, int] = {}
        with self._asking():
            found: tuple[Any, str] = fsspec.url_to_fs(self._url, use_listings_cache=False)
        self._files, self._root = found

    @property
    def place(self) -> str:
        """The URL."""
        return self._url

    def require_room(self, size: int) -> None:
        """Nobody knows what a store has room for."""

    def add(self, role: Role, checkpoint: Checkpoint) -> bool:
        """Upload a version. The rest of an upload that was cut off is completed, when it was of the same files."""
        folder = self._version(role, checkpoint.manifest.version)
        if self._read(f"{folder}/{FILE_NAME}") is not None:
            return False
        for name in checkpoint.files:
            source, target = checkpoint.directory / name, f"{folder}/{name}"
            if self._upload(source, target) or (name != FILE_NAME and self._hash(target) == sha256(source)):
                continue
            if name == FILE_NAME:  # somebody else has added it meanwhile
                return False
            rest = f"{self._url} holds the rest of an upload of other weights under this version"
            raise BadInput(f"{rest}, {role} {checkpoint.manifest.version}; give them a new one", "version")
        return True

    def versions(self, role: Role) -> list[str]:
        """Names, oldest first."""
        found = self._list(f"versions/{role}")
        manifests = [path for path in found if path.endswith(f"/{FILE_NAME}")]
        return [path.split("/")[-2] for path in sorted(manifests, key=lambda path: (_written(found[path]), path))]

    def manifest(self, role: Role, version: str) -> Manifest:
        """Manifest and template are read, the other files looked for."""
        folder, place = self._version(role, version), f"{self._url}/versions/{role}/{version}"
        if (text := self._read(f"{folder}/{FILE_NAME}")) is None:
            raise BadCheckpoint(f"{place}: there is no such version; `umi weights list` shows what there is")
        there = {path.rsplit("/", 1)[-1] for path in self._list(f"versions/{role}/{version}")}
        manifest, _ = description(place, text, self._read(f"{folder}/{TEMPLATE_NAME}") or b"")
        for name in manifest.files:
            if name not in there:
                raise BadCheckpoint(f"{place}/{name}: missing")
        return manifest

    def verify(self, role: Role, version: str) -> Manifest:
        """Weights were verified before they were uploaded, and are again by every replica that fetches them."""
        return self.manifest(role, version)

    def open(self, role: Role, version: str) -> Checkpoint:
        """From the cache, which fetches what it does not hold."""
        try:
            return self._cache.open(role, version, lambda target: self._fetch(role, version, target))
        except OSError as error:
            raise BadCheckpoint(f"{version} cannot be kept in {self._cache.root}: {error.strerror}") from error

    def keep(self, role: Role, versions: Collection[str]) -> None:
        """In the cache; the store itself keeps everything."""
        with suppress(OSError):
            self._cache.keep(role, versions)

    def stamp(self, role: Role) -> Stamp | None:
        """The highest generation; None as well while the store cannot be asked."""
        try:
            return self._highest(role) or None
        except NoRegistry:
            return None

    def read(self, role: Role) -> Written | None:
        """The release of the highest generation."""
        if not (newest := self._highest(role)):
            return None
        name = _numbered(role, newest)
        if (content := self._read(f"{self._root}/{name}")) is None:
            raise BadInput(f"{self._url}/{name} has been deleted", "release")
        return Written(f"{self._url}/{name}", content, newest)

    def publish(self, role: Role, content: bytes, after: Stamp | None) -> bool:
        """Create the next generation; whoever comes second finds it there."""
        path = f"{self._root}/{_numbered(role, (after if isinstance(after, int) else 0) + 1)}"
        with self._asking():
            try:
                self._files.pipe_file(path, content, mode="create")
            except FileExistsError:
                return self._read(path) == content  # ours, when the answer to the first try was lost
        return True

    def _highest(self, role: Role) -> int:
        """One request, answered "not found", while nothing changes; at first, a listing."""
        newest = self._newest.get(role, 0)
        if not newest:
            names = (path.rsplit("/", 1)[-1].removesuffix(".json") for path in self._list(f"releases/{role}"))
            newest = max((int(name) for name in names if name.isdecimal()), default=0)
        while self._read(f"{self._root}/{_numbered(role, newest + 1)}") is not None:
            newest += 1
        self._newest[role] = newest
        return newest

    def _fetch(self, role: Role, version: str, target: Path) -> None:
        """Raises BadCheckpoint when the disk has no room for it."""
        manifest, folder = self.manifest(role, version), self._version(role, version)
        names = (*manifest.files, TEMPLATE_NAME, FILE_NAME)
        with self._asking():
            size = sum(int(self._files.size(f"{folder}/{name}") or 0) for name in names)
            free = shutil.disk_usage(target).free
            if size > free:
                left = f"{free / 2**20:,.0f} MiB are left in {self._cache.root}"
                raise BadCheckpoint(f"{version}: not enough disk: it has {size / 2**20:,.0f} MiB, {left}")
            for name in names:
                self._files.get_file(f"{folder}/{name}", str(target / name))

    def _upload(self, source: Path, path: str) -> bool:
        """False when there is such an object."""
        with self._asking():
            try:
                self._files.put_file(str(source), path, mode="create")
            except FileExistsError:
                return False
        return True

    def _list(self, folder: str) -> dict[str, dict[str, Any]]:
        """Every object below it, and what the store says of it."""
        with self._asking():
            try:
                return self._files.find(f"{self._root}/{folder}", detail=True)
            except FileNotFoundError:
                return {}

    def _read(self, path: str) -> bytes | None:
        with self._asking():
            try:
                return self._files.cat_file(path)
            except FileNotFoundError:
                return None

    def _hash(self, path: str) -> str:
        with self._asking(), self._files.open(path, "rb") as file:
            digest = hashlib.sha256()
            while block := file.read(2**20):
                digest.update(block)
        return digest.hexdigest()

    def _version(self, role: Role, version: str) -> str:
        return f"{self._root}/versions/{role}/{version}"

    @contextmanager
    def _asking(self) -> Generator[None]:
        """Around every request. Raises NoRegistry for all that can go wrong with the store itself."""
        try:
            yield
        except UmiError:
            raise
        except Exception as error:  # the edge of foreign programs, each of which fails in its own way
            raise NoRegistry(f"{self._url} cannot be used: {first_line(error)}") from error


def _numbered(role: Role, generation: int) -> str:
    return f"releases/{role}/{generation:0{_DIGITS}}.json"


def _written(about: dict[str, Any]) -> str:
    """Sorts objects by age; within a filesystem all times are of one kind."""
    at = next((about[name] for name in _TIMES if about.get(name)), "")
    return f"{at.timestamp() if hasattr(at, 'timestamp') else at:020.6f}" if not isinstance(at, str) else at
