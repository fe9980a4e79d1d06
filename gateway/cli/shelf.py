"""What the commands about weights share: the registry's options, and changes that end in one line."""

import getpass
from collections.abc import Callable
from contextlib import suppress
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

    shelf = Registry(registry)
    say(shelf, done(lambda: shelf.change(role, from_release, generation)))


def say(shelf: Registry, release: Release) -> None:
    """What is served, in a line; and in another, that it needs a restart when no replica can load it as it runs."""
    trial = f", {release.canary.version} on {release.canary.share:.0%} of the runs" if release.canary else ""
    after = f"; {release.shadow.version} shadows {release.shadow.share:.0%}" if release.shadow else ""
    print(f"{release.role}: generation {release.generation} serves {release.stable}{trial}{after}")

    with suppress(BadInput, IndexError):
        old, new = (shelf.open(release.role, one.stable).manifest for one in (release.history[-1], release))
        if (old.kind, old.backbone) != (new.kind, new.backbone):
            print(
                f"{new.version} ({new.kind}, {new.backbone}) needs an engine of its own: restart every {release.role}; "
                f"until then they serve {old.version} ({old.kind}, {old.backbone})"
            )


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
