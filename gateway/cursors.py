"""Where a page of a list ended, as text: lists go from the newest run to the oldest."""

import contextlib
import re

from umi.errors import BadInput
from umi.wire import RUN_ID


def cursor_of(created_at: float, run_id: str) -> str:
    """The cursor of whatever comes after that run."""
    return f"{created_at!r}~{run_id}"


def position(cursor: str) -> tuple[float, str]:
    """The run's time and id. Raises BadInput."""
    at, _, run_id = cursor.partition("~")
    with contextlib.suppress(ValueError):
        if re.match(RUN_ID, run_id):
            return float(at), run_id
    raise BadInput("not a cursor of this list", "cursor")
