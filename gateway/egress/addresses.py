"""Which IP addresses belong to the public internet.

`ipaddress.is_global` depends on the version of Python and calls several ranges global that lead inside, so that the
tables stand here (IANA's special-purpose registries). Of IPv6 only what is given out counts as public.
"""

from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

_INSIDE_4 = [
    IPv4Network(network)
    for network in (
        "0.0.0.0/8 10.0.0.0/8 100.64.0.0/10 127.0.0.0/8 169.254.0.0/16 172.16.0.0/12 192.0.0.0/24 192.0.2.0/24 "
        "192.31.196.0/24 192.52.193.0/24 192.88.99.0/24 192.168.0.0/16 192.175.48.0/24 198.18.0.0/15 198.51.100.0/24 "
        "203.0.113.0/24 224.0.0.0/3"
    ).split()
]
_GIVEN_OUT_6 = IPv6Network("2000::/3")
_INSIDE_6 = [IPv6Network(network) for network in ("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20")]
_TRANSLATED_6 = IPv6Network("64:ff9b::/96")
METADATA = frozenset(
    ip_address(address)
    for address in (
        "169.254.169.254 169.254.169.253 169.254.170.2 169.254.170.23 169.254.0.23 168.63.129.16 100.100.100.200 "
        "192.0.0.192 fd00:ec2::254 fd00:ec2::23 fd20:ce::254"
    ).split()
)
"""Where clouds hand out a machine's credentials."""


@lru_cache(4096)
def parse_address(text: str) -> Address | None:
    """An address written in its usual form, or None. One of IPv4 inside IPv6 is what it stands for."""
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return address.ipv4_mapped
        if address in _TRANSLATED_6:  # NAT64 (RFC 6052)
            return IPv4Address(int(address) & 0xFFFFFFFF)
    return address


def parse_network(text: str) -> Network | None:
    """A network such as `10.0.0.0/8`, or one address; None when it is neither."""
    try:
        return ip_network(text)
    except ValueError:
        return None


@lru_cache(4096)
def is_public(address: Address) -> bool:
    """Whether anybody on the internet means the same host by it."""
    if address in METADATA:
        return False
    if isinstance(address, IPv4Address):
        return not any(address in network for network in _INSIDE_4)
    return address in _GIVEN_OUT_6 and not any(address in network for network in _INSIDE_6)
