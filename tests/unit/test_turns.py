"""Whose run is next when more want to go on than may."""

import asyncio

import pytest

from gateway.turns import Turns


class Crowd:
    """Runs of tenants that wait for their turn, and the order in which they had it."""

    def __init__(self, most: int) -> None:
        self.turns, self.order = Turns(most), list[str]()

    async def arrive(self, *runs: str) -> list[asyncio.Task[None]]:
        """A run is named by its tenant and a number, such as a1."""
        tasks = [asyncio.create_task(self._go(run)) for run in runs]
        await asyncio.sleep(0)
        return tasks

    async def end(self, *runs: str) -> None:
        for run in runs:
            self.turns.give_back(run[0])
            await asyncio.sleep(0)
            await asyncio.sleep(0)

    async def _go(self, run: str) -> None:
        await self.turns.take(run[0])
        self.order.append(run)


async def test_a_tenant_with_one_run_does_not_wait_for_all_runs_of_another() -> None:
    crowd = Crowd(2)
    await crowd.arrive("a1", "a2", "a3", "a4", "a5", "b1", "c1")
    await asyncio.sleep(0)
    assert crowd.order == ["a1", "a2"]
    await crowd.end("a1", "a2")
    assert crowd.order[2:] == ["b1", "c1"]
    await crowd.end("b1", "c1")
    assert crowd.order[4:] == ["a3", "a4"]


async def test_tenants_that_both_have_many_runs_share_alike() -> None:
    crowd = Crowd(2)
    await crowd.arrive(*(f"a{n}" for n in range(6)), *(f"b{n}" for n in range(6)))
    for _ in range(10):
        await crowd.end(crowd.order[len(crowd.order) - 2])
    assert [run[0] for run in crowd.order[2:]].count("b") == 6


async def test_whoever_leaves_the_queue_or_leaves_as_the_turn_comes_blocks_nobody() -> None:
    crowd = Crowd(1)
    (first,) = await crowd.arrive("a1")
    await first
    waiting = await crowd.arrive("a2", "b1", "b2")
    waiting[0].cancel()
    crowd.turns.give_back("a")  # the turn is b1's, which is cancelled before it learns of it
    waiting[1].cancel()
    async with asyncio.timeout(5):
        await waiting[2]
    assert crowd.order == ["a1", "b2"]
    for task in waiting[:2]:
        with pytest.raises(asyncio.CancelledError):
            await task
