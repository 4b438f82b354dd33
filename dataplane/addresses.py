"""Names for "either family": most of udplane does the same with IPv4 and IPv6, so its annotations say so once.

And what no overlay can use: addresses at which no other node can be reached, networks that pods cannot have.
"""

from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network
from typing import TypeVar

Address = IPv4Address | IPv6Address
Interface = IPv4Interface | IPv6Interface
Network = IPv4Network | IPv6Network

OneFamily = TypeVar("OneFamily", IPv4Address, IPv6Address)
"""For what is said of an address of one family and gives one of the same."""

# RFC 1122 3.2.1.3, RFC 6890, RFC 4291. IPv4-mapped addresses would be the routes' own keys of IPv4 addresses.
_NO_HOSTS: tuple[tuple[Network, str], ...] = (
    (IPv4Network("0.0.0.0/8"), "this host"),
    (IPv4Network("127.0.0.0/8"), "loopback"),
    (IPv4Network("224.0.0.0/4"), "multicast"),
    (IPv4Network("255.255.255.255/32"), "broadcast"),
    (IPv6Network("::/96"), "loopback and unspecified"),
    (IPv6Network("::ffff:0:0/96"), "IPv4 written as IPv6"),
    (IPv6Network("fe80::/10"), "link-local"),
    (IPv6Network("ff00::/8"), "multicast"),
)
# A LAN without DHCP may be an underlay, but addresses that every host gives itself are no pods' network.
_NO_PODS: tuple[tuple[Network, str], ...] = (*_NO_HOSTS, (IPv4Network("169.254.0.0/16"), "link-local"))


def address_of(packed: bytes) -> Address:
    """The address in 4 or 16 bytes, network order."""
    return IPv4Address(packed) if len(packed) == 4 else IPv6Address(packed)


def network_of(packed: bytes, length: int) -> Network:
    """The network of the address in 4 or 16 bytes, with a prefix of `length` bits."""
    return IPv4Network((packed, length)) if len(packed) == 4 else IPv6Network((packed, length))


def trouble_with_host(address: Address) -> str:
    """Why no other node can be reached at `address`, such as `lies in 127.0.0.0/8 (loopback)`; empty if one can."""
    inside = (f"lies in {network} ({kind})" for network, kind in _NO_HOSTS if address in network)
    return next(inside, "")


def trouble_with_pods(network: Network) -> str:
    """Why pods cannot have addresses of `network`, such as `overlaps 224.0.0.0/4 (multicast)`; empty if they can."""
    shared = (f"overlaps {other} ({kind})" for other, kind in _NO_PODS if _overlap(network, other))
    return next(shared, "")


def _overlap(one: Network, other: Network) -> bool:
    return one.version == other.version and (one.network_address in other or other.network_address in one)
