"""Leases: which node owns which pod subnet, and where on the underlay it can be reached.

A lease binds one IPv4 subnet, one IPv6 subnet, or one of each, to a node's public addresses for a limited
time. A node publishes its own lease in a store and follows everybody else's; each peer's lease becomes a
route in the engine. The life of a lease:

1. `allocation.allocate` picks the subnets: those the node had before if they are still its own, else free ones.
2. The store writes the lease, and refuses if somebody was faster (`stores.base`).
3. `keeper.LeaseKeeper` says when to renew and what to do when that fails.
4. `gate.LeaseGate` says which of the leases that the store reports may be believed.
5. `table.LeaseTable` turns what the store reports about others into changes of routes.

Keys and values are flannel's, to the byte: a key such as `10.5.52.0-24` or `10.5.52.0-24&fd00:34::-64`, and
a value such as `{"PublicIP":"192.168.64.3","PublicIPv6":null}` (flannel pkg/subnet, pkg/lease). flannel's udp
backend leaves the backend type out, so a lease without one is a udp lease.
"""

import enum
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import cast

from dataplane.addresses import Address, Network, OneFamily
from dataplane.errors import ConfigError
from dataplane.leases import gojson

_KEY = re.compile(r"([0-9.]+)-([0-9]+)(?:&([0-9a-f:.]+)-([0-9]+))?", re.ASCII)
_ABSENT_IPV4 = "0.0.0.0-0"  # what Go prints for the subnet of a node without IPv4


@dataclass(frozen=True, slots=True)
class Subnets:
    """The pod subnets of one node: at most one of each family, at least one in all."""

    ipv4: IPv4Network | None = None
    ipv6: IPv6Network | None = None

    def __post_init__(self) -> None:
        if self.ipv4 is None and self.ipv6 is None:
            raise ValueError("a lease needs at least one subnet")

    def __iter__(self) -> Iterator[Network]:
        if self.ipv4 is not None:
            yield self.ipv4
        if self.ipv6 is not None:
            yield self.ipv6

    def __str__(self) -> str:
        return " and ".join(map(str, self))

    def overlaps(self, other: "Subnets") -> bool:
        """True if any address belongs to both."""
        return bool(
            (self.ipv4 and other.ipv4 and self.ipv4.overlaps(other.ipv4))
            or (self.ipv6 and other.ipv6 and self.ipv6.overlaps(other.ipv6))
        )

    @classmethod
    def of(cls, networks: Iterable[Network]) -> "Subnets":
        """Sort `networks` by family; ValueError if a family comes twice or none at all."""
        by_version: dict[int, Network] = {}
        for network in networks:
            if network.version in by_version:
                raise ValueError(f"there are two IPv{network.version} subnets")
            by_version[network.version] = network
        return cls(cast(IPv4Network | None, by_version.get(4)), cast(IPv6Network | None, by_version.get(6)))

    @property
    def key(self) -> str:
        """The name under which flannel stores the lease of these subnets, such as `10.5.52.0-24`."""
        key = f"{self.ipv4.network_address}-{self.ipv4.prefixlen}" if self.ipv4 else _ABSENT_IPV4
        return f"{key}&{self.ipv6.network_address}-{self.ipv6.prefixlen}" if self.ipv6 else key

    @classmethod
    def from_key(cls, key: str) -> "Subnets":
        """Parse a key; ConfigError if `key` is not the key of a lease, or is not as Go and `key` write it.

        Were a second spelling of a key another lease, there could be two leases of one key.
        """
        match = _KEY.fullmatch(key)
        if match is None:
            raise ConfigError(f"{key!r} is not the key of a lease, such as 10.5.52.0-24 or 10.5.52.0-24&fd00:34::-64")
        ipv4, ipv4_len, ipv6, ipv6_len = match.groups()
        try:
            subnets = cls(
                IPv4Network(f"{ipv4}/{ipv4_len}") if f"{ipv4}-{ipv4_len}" != _ABSENT_IPV4 else None,
                IPv6Network(f"{ipv6}/{ipv6_len}") if ipv6 else None,
            )
        except ValueError as error:
            raise ConfigError(f"{key!r} is not the key of a lease: {error}") from error
        if subnets.key != key:
            raise ConfigError(f"{key!r} is not the key of a lease: it has to be written {subnets.key}")
        return subnets


@dataclass(frozen=True, slots=True)
class LeaseAttrs:
    """What a node tells the others about itself, flannel's `LeaseAttrs`.

    `backend_data` and `backend_v6_data` hold JSON text which only the backend understands (the vxlan
    backend's MAC address, for instance), or None.
    """

    public_ip: IPv4Address | None = None
    public_ipv6: IPv6Address | None = None
    backend_type: str = ""
    backend_data: str | None = None
    backend_v6_data: str | None = None

    @property
    def addresses(self) -> tuple[Address, ...]:
        """The public addresses that are set, IPv4 first."""
        return tuple(address for address in (self.public_ip, self.public_ipv6) if address is not None)

    def same_node(self, other: "LeaseAttrs") -> bool:
        """True if both are published by one node, which is known by its public addresses."""
        return not set(self.addresses).isdisjoint(other.addresses)

    def to_json(self) -> str:
        """The value of the lease in a store, byte for byte what flannel's Go writes."""
        ipv6 = "null" if self.public_ipv6 is None else f'"{self.public_ipv6}"'
        members = [f'"PublicIP":"{self.public_ip or IPv4Address(0)}"', f'"PublicIPv6":{ipv6}']
        if self.backend_type:
            members.append(f'"BackendType":{gojson.dumps(self.backend_type)}')
        if self.backend_data is not None:
            members.append(f'"BackendData":{self.backend_data}')
        if self.backend_v6_data is not None:
            members.append(f'"BackendV6Data":{self.backend_v6_data}')
        return "{" + ",".join(members) + "}"

    @classmethod
    def from_json(cls, document: str | bytes) -> "LeaseAttrs":
        """Read what flannel of any version or udplane wrote; ConfigError for anything else."""
        source = gojson.loads(document, "the value of the lease")
        attrs = cls(
            public_ip=_address(source, "PublicIP", IPv4Address),
            public_ipv6=_address(source, "PublicIPv6", IPv6Address),
            backend_type=gojson.string(source, "BackendType", ""),
            backend_data=_raw(source, "BackendData"),
            backend_v6_data=_raw(source, "BackendV6Data"),
        )
        if not attrs.addresses:
            raise ConfigError("the value of the lease names no public IP; its node cannot be reached")
        return attrs


def _address(source: gojson.Object, key: str, family: type[OneFamily]) -> OneFamily | None:
    text = gojson.string(source, key, "")
    try:
        address = family(text) if text else family(0)
    except ValueError as error:
        raise ConfigError(f"{key}: {error}") from error
    return None if address == family(0) else address


def _raw(source: gojson.Object, key: str) -> str | None:
    value = gojson.lookup(source, key)
    return None if value is None else gojson.dumps(value)


@dataclass(frozen=True, slots=True)
class Lease:
    """Subnets that belong to a node until `expires` (see `clock`), or, if that is None, until somebody deletes it.

    A lease without expiry is a reservation: an operator made it, or the store knows no expiry; its node uses
    it and does not renew it. A peer's lease may expire at `math.inf`: the store takes it away when it is time.
    `since` grows with the order in which the store got its leases, and is 0 where it does not tell. `mark` is another
    one each time that somebody writes the lease, and empty where the store does not tell. `rewritten` is True for the
    own lease of a node if somebody else wrote it last.
    """

    subnets: Subnets
    attrs: LeaseAttrs
    expires: float | None = None
    node: str = ""  # the node's name, where the store knows one
    since: int = field(default=0, compare=False)
    mark: str = field(default="", compare=False)
    rewritten: bool = field(default=False, compare=False)

    @property
    def key(self) -> str:
        """What makes a lease the same lease over time, whoever holds it: its subnets, as flannel's key."""
        return self.subnets.key

    def __str__(self) -> str:
        return f"{self.subnets} of {self.node or 'node'} {' '.join(map(str, self.attrs.addresses))}".rstrip()


class Change(enum.Enum):
    """What happened to a lease."""

    ADDED = "added"
    CHANGED = "changed"
    REMOVED = "removed"
    REFUSED = "refused"  # it cannot be believed, or overlaps another; only a LeaseTable reports this


@dataclass(frozen=True, slots=True)
class LeaseEvent:
    """One change. `lease` is the new one; for REMOVED the one that is gone (a store may know its subnets only)."""

    change: Change
    lease: Lease
