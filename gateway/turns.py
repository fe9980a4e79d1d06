"""Whose run is next when more want to go on than may."""

import asyncio
from collections import Counter, deque


class Turns:
    """Lets `most` runs go on at once. When one ends, the tenant with the fewest going on is next, however many of
    its runs wait; within a tenant, whoever came first."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._going: Counter[str] = Counter()
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}

    async def take(self, tenant: str) -> None:
        """Returns when it is the caller's turn. Whoever is cancelled meanwhile has none."""
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(tenant, deque()).append(turn)
        self._admit()
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.give_back(tenant)
            raise

    def give_back(self, tenant: str) -> None:
        """A run that had its turn has ended."""
        self._going[tenant] -= 1
        if not self._going[tenant]:
            del self._going[tenant]
        self._admit()

    def _admit(self) -> None:
        while self._waiting and self._going.total() < self._most:
            tenant = min(self._waiting, key=lambda name: self._going[name])  # of equals, who has waited longest
            queue = self._waiting.pop(tenant)
            turn = queue.popleft()
            if queue:
                self._waiting[tenant] = queue  # now behind its equals
            if not turn.done():
                self._going[tenant] += 1
                turn.set_result(None)
