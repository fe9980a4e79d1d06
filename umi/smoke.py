"""Smoke cases: turns that a checkpoint must still take rightly when it is loaded, shipped with it as `smoke.json`."""

from typing import Any

from pydantic import TypeAdapter, ValidationError

from umi.errors import BadCheckpoint
from umi.manifest import Checkpoint
from umi.trajectory import Frozen, JsonObject, Trajectory

FILE_NAME = "smoke.json"


class SmokeCase(Frozen):
    """A trajectory at which it is the role's turn, and what its reply must hold: `{"plan": {"turn": "caller"}}`.

    `text` is what the role wrote when the checkpoint was made. Weights that read it without surprise would write it
    again; to read is one pass and to write one a token. Without it the case is written out.
    """

    trajectory: Trajectory
    expected: JsonObject
    text: str | None = None

    def passes(self, reply: JsonObject) -> bool:
        """Whether the reply has everything that is expected; it may have more."""
        return _holds(reply, self.expected)


_CASES = TypeAdapter(tuple[SmokeCase, ...])


def cases(checkpoint: Checkpoint) -> tuple[SmokeCase, ...]:
    """The cases of the file that the manifest lists, if it does. Raises BadCheckpoint when they are unreadable."""
    if FILE_NAME not in checkpoint.manifest.files:
        return ()
    path = checkpoint.directory / FILE_NAME
    try:
        return _CASES.validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise BadCheckpoint(f"{path}: {error}") from error


def _holds(found: Any, expected: Any) -> bool:
    if isinstance(expected, dict):
        return isinstance(found, dict) and all(
            key in found and _holds(found[key], value) for key, value in expected.items()
        )
    return found == expected
