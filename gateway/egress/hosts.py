"""How each host is doing: how many requests are on their way to it, and whether it is left alone for a while."""

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from gateway.egress.permission import Origin
from umi.errors import NotReached, Resting, TimedOut


@dataclass
class _Host:
    slots: asyncio.Semaphore
    users: int = 0
    failures: int = 0
    rests_until: float = 0.0


class Hosts:
    """At most `concurrency` requests at once to each; after `failures` in a row it rests for `rest` seconds.

    The first request after a rest is a trial: the others wait for the next one until it has succeeded.
    """

    def __init__(self, concurrency: int, failures: int, rest: float) -> None:
        self._concurrency, self._failures, self._rest = concurrency, failures, rest
        self._hosts: dict[Origin, _Host] = {}

    @asynccontextmanager
    async def slot(self, origin: Origin, deadline: float, late: TimedOut) -> AsyncGenerator[None]:
        """Around one request, which ends at `deadline` (a time of the event loop's clock) by raising `late`.

        That, and NotReached inside, count as failures. Raises Resting; TimedOut when no slot becomes free in time.
        """
        host = self._hosts.setdefault(origin, _Host(asyncio.Semaphore(self._concurrency)))
        host.users += 1
        started = False
        try:
            async with asyncio.timeout_at(deadline), host.slots:
                self._admit(host)
                started = True
                yield
                host.failures = 0
        except TimeoutError as error:
            if not started:
                raise TimedOut("is busy with other calls") from error
            self._failed(host)
            raise late from error
        except Resting:
            raise
        except (NotReached, TimedOut):
            self._failed(host)
            raise
        finally:
            host.users -= 1
            if not host.users and not host.failures:
                self._hosts.pop(origin, None)

    def _admit(self, host: _Host) -> None:
        if host.failures < self._failures:
            return
        now = time.monotonic()
        if now < host.rests_until:
            left = host.rests_until - now
            raise Resting(f"has failed {host.failures} times in a row; it is not asked again for {left:.0f} s")
        host.rests_until = now + self._rest

    def _failed(self, host: _Host) -> None:
        host.failures += 1
        host.rests_until = time.monotonic() + self._rest
