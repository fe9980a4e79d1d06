"""What an evaluation can serve: the shipped checkpoints, or the systems that were trained to be compared."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from training.report import ROLES, SINGLE
from training.systems import SYSTEMS
from umi.errors import BadInput
from umi.manifest import Checkpoint
from umi.roles import Role


@dataclass(frozen=True)
class Served:
    """A system: the options of `umi up` that serve it, and the checkpoints that are served then."""

    options: Sequence[str]
    checkpoints: Sequence[Path]

    def weights(self) -> str:
        """The versions, by name. Raises BadCheckpoint."""
        return ", ".join(Checkpoint.open(folder).manifest.version for folder in self.checkpoints)


SHIPPED = {
    ROLES: Served(["--checkpoints", "checkpoints"], [Path("checkpoints") / role for role in Role]),
    SINGLE: Served(["--single", "checkpoints/global"], [Path("checkpoints/global")]),
}
NAMES = (*SHIPPED, *SYSTEMS)
"""Every name that a system can have, in the order of tables."""


def trained(folder: Path) -> dict[str, Served]:
    """The systems that `python -m training system` has finished in a folder. Raises BadInput when there is none."""
    found = {
        name: Served(system.options(folder), system.checkpoints(folder))
        for name, system in SYSTEMS.items()
        if all(checkpoint.is_dir() for checkpoint in system.checkpoints(folder))
    }
    if not found:
        raise BadInput(f"{folder} holds no system whose stages are all done: python -m training system NAME")
    return found
