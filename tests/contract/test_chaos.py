"""`make chaos` in small: what it measures holds, and the command itself does not rot."""

import asyncio
import random
from pathlib import Path

from benchmarks.chaos import measure


def test_no_run_is_lost_stuck_or_done_twice_when_its_gateway_is_killed(tmp_path: Path, database: str) -> None:
    result = asyncio.run(measure("small", database, 1, tmp_path / "log", 8, 2, 4, random.Random(3)))
    assert result.is_good
    assert result.kills >= 2
    assert sum(stream.texts for stream in result.streams) >= 8
    assert len(result.logs) >= 8
