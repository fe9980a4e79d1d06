"""What the commands about weights share: the registry's options, and changes that end in one line."""

import getpass
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from gateway.cli.api import Failed
from umi.errors import BadInput
from umi.registry import Registry
from umi.release import Action, Change, Release
from umi.roles import Role

Folder = Annotated[Path, typer.Option("--registry", envvar="UMI_REGISTRY", help="Directory of the registry.")]
DEFAULT = Path("var/registry")
T = TypeVar("T")


def change(registry: Path, role: Role, generation: int | None, make: Callable[[Release], Release]) -> None:
    """Change a release that is there, and say what is served now. Raises Failed."""

    def from_release(before: Release | None) -> Release:
        if before is None:
            raise BadInput(f"the {role} has no release yet; make one with: umi weights release {role} VERSION", "role")
        return make(before)

    say(done(lambda: Registry(registry).change(role, from_release, generation)))


def say(release: Release) -> None:
    """What is served, in a line."""
    trial = f", {release.canary.version} on {release.canary.share:.0%} of the runs" if release.canary else ""
    after = f"; {release.shadow.version} shadows {release.shadow.share:.0%}" if release.shadow else ""
    print(f"{release.role}: generation {release.generation} serves {release.stable}{trial}{after}")


def decided(action: Action, who: str, why: str) -> Change:
    """The entry in the history; without a name, the user's."""
    return Change(action=action, who=who or getpass.getuser(), why=why)


def done(work: Callable[[], T]) -> T:
    """The result of `work`. Raises Failed where it raises what a user can mend."""
    try:
        return work()
    except BadInput as error:
        raise Failed(str(error)) from error
    except OSError as error:
        raise Failed(f"{error.filename}: {error.strerror}") from error
