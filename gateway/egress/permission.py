"""Where the requests of one toolset may go."""

import contextlib
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

import httpx
import yarl

from gateway.egress.addresses import METADATA, Address, Network, is_public, parse_address, parse_network
from umi.errors import BadInput, Forbidden

_PORTS = {"http": 80, "https": 443}
_HOST = re.compile(r"[a-z0-9_]([a-z0-9_.-]{0,252}[a-z0-9_])?")


class Origin(NamedTuple):
    """Scheme, host and port of a URL, written in one way."""

    scheme: str
    host: str
    port: int


class Rule(NamedTuple):
    """Admits addresses that are not public: those of `network`, of `host`, on `port`; None stands for any."""

    network: Network | None
    host: str | None = None
    port: int | None = None

    def admits(self, host: str, port: int, address: Address) -> bool:
        """Whether a connection to `address` may be opened for `host`."""
        if self.host not in (None, host) or self.port not in (None, port):
            return False
        if address in METADATA:  # only by itself: neither a wide network nor whoever answers for a name may mean it
            return self.network is not None and self.network.num_addresses == 1 and address in self.network
        return self.network is None or address in self.network


@dataclass(frozen=True)
class Permission:
    """`origins` may be asked, and every port of `hosts`; `rules` say which addresses may be dialled besides public."""

    origins: frozenset[Origin]
    hosts: frozenset[str] = frozenset()
    rules: frozenset[Rule] = field(default_factory=frozenset[Rule])

    def check(self, url: httpx.URL) -> Origin:
        """The origin that `url` would be sent to. Raises Forbidden."""
        origin = origin_of(url)
        secure = origin._replace(scheme="http", port=80) if origin[::2] == ("https", 443) else origin
        if origin.host in self.hosts or self.origins & {origin, secure}:
            return origin
        raise Forbidden(f"leads to {shown(origin)}, which is not among the hosts of its toolset")


def origin_of(url: httpx.URL) -> Origin:
    """Raises Forbidden for a URL that must not be sent whatever its host is."""
    host = url.raw_host.decode("ascii").rstrip(".").lower()
    if url.scheme not in _PORTS or not host:
        raise Forbidden("leads to an address that is not http or https")
    if url.userinfo:
        raise Forbidden("leads to an address that holds a user name or password")
    try:
        dialled = yarl.URL(str(url)).raw_host or ""  # aiohttp reads the URL once more; both must mean the same host
    except ValueError:
        dialled = ""
    if canonical(dialled.rstrip(".").lower()) != canonical(host):
        raise Forbidden("leads to an address whose host is not clear")
    return Origin(url.scheme, canonical(host), url.port or _PORTS[url.scheme])


def canonical(host: str) -> str:
    """A host as it is compared."""
    address = parse_address(host)
    return host if address is None else str(address)


def shown(origin: Origin) -> str:
    """An origin for people: the host, and the port when it is not the usual one."""
    host = f"[{origin.host}]" if ":" in origin.host else origin.host
    return host if origin.port == _PORTS[origin.scheme] else f"{host}:{origin.port}"


def permission(
    servers: Iterable[str], named: Iterable[str], allow: Iterable[str], trusted: Iterable[str] = ()
) -> Permission:
    """What a toolset may do whose document lists `servers`, registered by somebody who named the URLs `named`.

    `allow` holds host names, addresses and networks that the registration admits though they are not public; `trusted`
    the same for every toolset, but only where its URL was named by whoever registered it: a document from anywhere
    must not lead inside by itself. Raises BadInput for an entry that is none of these.
    """
    hosts: set[str] = set()
    rules: set[Rule] = set()
    for entry in allow:
        host, network = parse_entry(entry)
        rules.add(Rule(network) if network is not None else Rule(None, host))
        if host is not None:
            hosts.add(host)
    origins = _origins(named)
    for entry in trusted:
        host, network = parse_entry(entry)
        rules |= {Rule(network, o.host, o.port) for o in origins if network is not None or o.host == host}
    return Permission(frozenset(origins | _origins(servers)), frozenset(hosts), frozenset(rules))


def _origins(urls: Iterable[str]) -> set[Origin]:
    """Of those that can be asked at all; a call of another one is refused when it is made."""
    found: set[Origin] = set()
    for url in urls:
        with contextlib.suppress(Forbidden, httpx.InvalidURL):
            found.add(origin_of(httpx.URL(url)))
    return found


def parse_entry(entry: str) -> tuple[str | None, Network | None]:
    """The host and the network that an entry of an allow list stands for. Raises BadInput."""
    text = entry.strip().lower().rstrip(".")
    network = parse_network(text)
    if network is not None:
        return (canonical(str(network.network_address)) if network.num_addresses == 1 else None), network
    if not _HOST.fullmatch(text) or "/" in entry:
        raise BadInput(f"{entry[:100]!r} is neither a host name nor an address nor a network", "allow")
    return text, None


def may_be_reached(origin: Origin, allowed: Permission) -> bool:
    """Whether something can be at an origin; False only when its host says by itself that it is not public."""
    address = parse_address("127.0.0.1" if origin.host == "localhost" else origin.host)
    return address is None or admits(allowed.rules, origin.host, origin.port, address)


def admits(rules: Iterable[Rule], host: str, port: int, address: Address) -> bool:
    """Whether a connection to `address` may be opened for `host`."""
    return is_public(address) or any(rule.admits(host, port, address) for rule in rules)
