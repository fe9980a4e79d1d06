"""Whose run is next when more want to go on than may."""

import asyncio
from collections import Counter, deque


class Turns:
    """Lets `most` runs go on at once. When one ends, the tenant with the fewest going on is next, however many of its
    runs wait; of equals, the one whose last turn is longest ago; within a tenant, whoever came first."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._going: Counter[str] = Counter()
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}
        self._last: dict[str, int] = {}
        self._taken = 0

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
        self._admit()
        if not self._going[tenant] and tenant not in self._waiting:
            del self._going[tenant]
            self._last.pop(tenant, None)

    def _admit(self) -> None:
        while self._waiting and self._going.total() < self._most:
            tenant = min(self._waiting, key=lambda name: (self._going[name], self._last.get(name, 0)))
            turn = self._waiting[tenant].popleft()
            if not self._waiting[tenant]:
                del self._waiting[tenant]
            if not turn.done():
                self._taken += 1
                self._going[tenant] += 1
                self._last[tenant] = self._taken
                turn.set_result(None)
