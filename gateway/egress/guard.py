"""What is dialled: every socket of a guarded client is opened here, to an address that was checked before.

A name is resolved once, its addresses are checked, and exactly those are handed on: there is no second look-up that
could give another answer. An address that stands in the URL itself is checked when its socket is made.
"""

import socket
from collections.abc import Iterable
from typing import Any

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from gateway.egress.addresses import Address, is_public, parse_address
from gateway.egress.permission import Rule, admits, canonical
from umi.errors import Forbidden

_MESSAGE = "is at an address that is not public; whoever registers its toolset can allow it by name"


class Guard(AbstractResolver):
    """Resolves with `inner` and opens sockets, both within `rules`. Raises Forbidden."""

    def __init__(self, rules: Iterable[Rule], inner: AbstractResolver) -> None:
        self._rules, self._inner = frozenset(rules), inner
        self._granted: set[tuple[Address, int]] = set()
        """Addresses that are not public and were found for a name that may have them."""

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Those of the name's addresses that may be dialled."""
        name = canonical(host.rstrip(".").lower())
        allowed: list[ResolveResult] = []
        for found in await self._inner.resolve(host, port, family):
            address = parse_address(found["host"])
            if address is not None and admits(self._rules, name, port, address):
                allowed.append(found)
                if not is_public(address):
                    self._granted.add((address, port))
        if not allowed:
            raise Forbidden(_MESSAGE)
        return allowed

    async def close(self) -> None:
        """Release what `inner` holds."""
        await self._inner.close()

    def open_socket(self, info: tuple[Any, ...]) -> socket.socket:
        """A socket for one address to be dialled (aiohappyeyeballs' AddrInfoType)."""
        family, kind, protocol, _, (host, port, *_rest) = info
        address = parse_address(host)
        if address is None:
            raise Forbidden(_MESSAGE)
        if (address, port) not in self._granted and not admits(self._rules, str(address), port, address):
            raise Forbidden(_MESSAGE)
        return socket.socket(family, kind, protocol)


def guarded_session(
    rules: Iterable[Rule], connections: int, resolver: AbstractResolver, header_bytes: int = 8190
) -> aiohttp.ClientSession:
    """A client that can reach public addresses and what `rules` admit, and nothing else: no proxy, no cookies.

    `resolver` asks the DNS. Every header line may have `header_bytes`, and there may be 128 of them. Bodies come as
    they were sent: whoever reads one decompresses it within limits (gateway/egress/body.py).
    """
    guard = Guard(rules, resolver)
    connector = aiohttp.TCPConnector(
        limit=connections,
        keepalive_timeout=2.0,
        resolver=guard,
        socket_factory=guard.open_socket,
        use_dns_cache=False,  # it is asked through the guard, each time
    )
    return aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=None),
        auto_decompress=False,
        max_line_size=header_bytes,
        max_field_size=header_bytes,
        max_headers=128,
    )
