"""The replicas behind a role's name, and which of them a run asks.

A name such as `planner` may stand for several addresses. A run keeps to one of them while it can, since that one's
prefix cache holds the run's history; different runs are spread over all (rendezvous hashing). One that failed rests.
"""

import asyncio
import hashlib
import socket
from collections.abc import Callable
from urllib.parse import urlsplit, urlunsplit

_KNOWN_FOR, _REST = 1.0, 3.0
"""Seconds: for which a look-up holds, and for which a replica that failed is asked only when there is no other."""


def addresses(url: str) -> list[str]:
    """The URL once for each address of its host, of one family: a replica that has both would be two.

    As it is when the name cannot be resolved, or is checked by TLS.
    """
    parts = urlsplit(url)
    if parts.scheme != "http":
        return [url]
    try:
        found = socket.getaddrinfo(parts.hostname, parts.port or 80, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return [url]
    family = min(entry[0] for entry in found)  # IPv4 before IPv6
    hosts = dict.fromkeys(str(entry[4][0]) for entry in found if entry[0] == family)
    named = (f"[{host}]" if ":" in host else host for host in hosts)
    return [urlunsplit(parts._replace(netloc=f"{host}:{parts.port or 80}")) for host in named]


class Replicas:
    """The replicas of one role. `look` finds them: a base URL for each; it is called in a thread."""

    def __init__(self, url: str, look: Callable[[str], list[str]] = addresses) -> None:
        self.url = url
        self._look = look
        self._found, self._until = list[str](), 0.0
        self._resting: dict[str, float] = {}
        self._looking: asyncio.Task[None] | None = None

    async def all(self) -> list[str]:
        """Every replica, as of a second ago at most."""
        if asyncio.get_running_loop().time() >= self._until:
            # All who ask meanwhile wait for the same look-up, and go on together: a lock would let them on one by one,
            # a turn of the event loop for each, which hundreds of runs never get through.
            self._looking = self._looking or asyncio.create_task(self._look_up(), name="replicas")
            await asyncio.shield(self._looking)
        return self._found

    async def _look_up(self) -> None:
        try:
            self._found = await asyncio.to_thread(self._look, self.url)
            now = asyncio.get_running_loop().time()
            self._until = now + _KNOWN_FOR
            self._resting = {url: until for url, until in self._resting.items() if until > now}
        finally:
            self._looking = None

    async def awake(self, run_id: str) -> str | None:
        """The replica that this run is to ask, of those that do not rest; None when all do."""
        now = asyncio.get_running_loop().time()
        awake = [url for url in await self.all() if self._resting.get(url, 0.0) <= now]
        return _chosen(awake, run_id) if awake else None

    async def any(self, run_id: str) -> str:
        """The replica that this run is to ask: one that rests, when all do."""
        return await self.awake(run_id) or _chosen(await self.all(), run_id)

    def rest(self, url: str, seconds: float = _REST) -> None:
        """Leave a replica alone for a while, if there is another."""
        self._resting[url] = asyncio.get_running_loop().time() + seconds


def _chosen(urls: list[str], run_id: str) -> str:
    return urls[0] if len(urls) == 1 else max(urls, key=lambda url: _rank(url, run_id))


def _rank(url: str, run_id: str) -> bytes:
    return hashlib.sha256(f"{url} {run_id}".encode()).digest()
