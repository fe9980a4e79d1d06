"""What several modules use: a gateway with scripted roles and misbehaving tools, and two stores on one database."""

from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, ExitStack

import pytest

from gateway.store import Store
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


@pytest.fixture
async def stores(database: str) -> AsyncIterator[tuple[Store, Store]]:
    """Two gateways' stores on one database, opened at the same time."""
    async with AsyncExitStack() as stack:
        first = await stack.enter_async_context(Store(database))
        yield first, await stack.enter_async_context(Store(database))
