"""Fixtures of several modules."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from training.formats import Form, Reading, read


@pytest.fixture
def reading(tmp_path: Path) -> Callable[..., Reading]:
    """Read entries, written as a JSON list, or a file's own text."""

    def of(content: Any, name: str = "data.json", form: Form | None = None) -> Reading:
        path = tmp_path / name
        path.write_text(content if isinstance(content, str) else json.dumps(content), "utf-8")
        return read(path, form)

    return of
