"""What the commands about weights share: the registry's options, who decides, and changes that end in one line."""

import getpass
from collections.abc import Callable
from typing import Annotated, TypeVar

import typer

from gateway.cli.api import Failed
from gateway.weights.desk import Decision, Desk
from remote import open_registry
from umi.errors import BadInput
from umi.release import Release

Place = Annotated[
    str, typer.Option("--registry", envvar="UMI_REGISTRY", help="The registry: a directory, or a URL such as s3://….")
]
DEFAULT = "var/registry"
Who = Annotated[str, typer.Option(help="Who decides this; kept in the history.")]
Why = Annotated[str, typer.Option(help="Why; kept in the history.")]
Expected = Annotated[
    int | None, typer.Option("--generation", min=0, help="Refuse unless the release is at this generation.")
]
T = TypeVar("T")


def desk(place: str) -> Desk:
    """The registry there. Raises Failed."""
    return done(lambda: Desk(open_registry(place)))


def decided(who: str, why: str, generation: int | None) -> Decision:
    """Without a name, the user decides."""
    return Decision(who or getpass.getuser(), why, generation)


def say(shelf: Desk, change: Callable[[Desk], Release]) -> None:
    """Change a release, and say what is served then, and whether that needs a restart. Raises Failed."""
    release = done(lambda: change(shelf))
    trial = f", {release.canary.version} on {release.canary.share:.0%} of the runs" if release.canary else ""
    after = f"; {release.shadow.version} shadows {release.shadow.share:.0%}" if release.shadow else ""
    print(f"{release.role}: generation {release.generation} serves {release.stable}{trial}{after}")
    if notice := shelf.restart(release):
        print(notice)


def done(work: Callable[[], T]) -> T:
    """The result of `work`. Raises Failed where it raises what a user can mend."""
    try:
        return work()
    except BadInput as error:
        raise Failed(str(error)) from error
    except OSError as error:
        raise Failed(f"{error.filename}: {error.strerror}") from error
