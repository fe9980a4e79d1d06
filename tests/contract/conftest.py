"""The gateway with scripted roles and misbehaving tools that most contract tests ask; a module may have another."""

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.world import World


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """One for a module."""
    with ExitStack() as stack:
        yield World(tmp_path_factory.mktemp("gateway"), stack)


@pytest.fixture
def world(shared: World) -> World:
    """The same, as it was at the beginning."""
    shared.reset()
    return shared
