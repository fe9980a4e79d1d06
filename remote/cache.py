"""Versions fetched from afar, in files of this machine, which all replicas on it share."""

import fcntl
import shutil
from collections.abc import Callable, Collection, Generator
from contextlib import contextmanager, suppress
from pathlib import Path

from umi.errors import BadCheckpoint
from umi.manifest import Checkpoint
from umi.roles import Role

_FETCHING = ".fetching"


class Cache:
    """The versions below `root`: <role>/<version>/. A version is there whole or not at all."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def open(self, role: Role, version: str, fetch: Callable[[Path], None]) -> Checkpoint:
        """A verified version; `fetch` fills an empty directory with its files when it is not here, or altered.

        Of several replicas one fetches, the others wait. Raises BadCheckpoint, and whatever `fetch` raises.
        """
        target = self.root / role / version
        with suppress(BadCheckpoint):
            return Checkpoint.open(target)
        with self._locked(role):
            with suppress(BadCheckpoint):  # another replica has fetched it meanwhile
                return Checkpoint.open(target)
            partial = target.with_name(_FETCHING)
            shutil.rmtree(partial, ignore_errors=True)  # what somebody left who was killed
            partial.mkdir()
            try:
                fetch(partial)
                checkpoint = Checkpoint.open(partial)
                shutil.rmtree(target, ignore_errors=True)
                partial.rename(target)
            finally:
                shutil.rmtree(partial, ignore_errors=True)
        return Checkpoint(target, checkpoint.manifest, checkpoint.template)

    def keep(self, role: Role, versions: Collection[str]) -> None:
        """Delete all other versions of the role."""
        if not (self.root / role).is_dir():
            return
        with self._locked(role):
            for entry in (self.root / role).iterdir():
                if entry.is_dir() and entry.name not in versions:
                    shutil.rmtree(entry, ignore_errors=True)

    @contextmanager
    def _locked(self, role: Role) -> Generator[None]:
        folder = self.root / role
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
