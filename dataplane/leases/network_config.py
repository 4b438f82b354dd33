"""The network config: the overlay's whole address space and how it is cut into the nodes' subnets.

The text is flannel's net-conf JSON, with flannel's defaults, bounds and errors (flannel pkg/subnet/config.go):

    {"Network": "10.5.0.0/16", "SubnetLen": 24, "Backend": {"Type": "udp", "Port": 8285}}

Both families follow one set of rules; IPv6's keys begin with `IPv6`. A family's subnets must be large enough
for a tunnel and a bridge (two bits of host part) and the network must hold at least four of them. The
first subnet is left out by default, since its address is the network's own.

| key | default |
| --- | --- |
| `EnableIPv4`, `EnableIPv6`, `EnableNFTables` | true, false, false |
| `Network`, `IPv6Network` | none: must be given for an enabled family |
| `SubnetLen`, `IPv6SubnetLen` | 24 and 64; in a network too small for that, the network's length + 2 |
| `SubnetMin`, `IPv6SubnetMin` | the second subnet |
| `SubnetMax`, `IPv6SubnetMax` | the last subnet |
| `Backend` | `{"Type": "udp"}` |

More forgiving than flannel in two places: `null` is "not given" for every key, and a `Backend` without
`Type` is udp, as no `Backend` at all is for flannel too. Stricter in three: at least one family must be
enabled, SubnetMin must not lie beyond SubnetMax, and a network must not hold what pods cannot have (loopback,
multicast, link-local and so on), where flannel fails later or not at all.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_address
from typing import Any, Generic, TypeVar

from dataplane.addresses import Network, trouble_with_pods
from dataplane.errors import ConfigError
from dataplane.leases import gojson
from dataplane.leases.lease import Subnets

DEFAULT_BACKEND = "udp"
"""The type of a network config that names none."""

_CIDR = re.compile(r"[0-9a-fA-F:.]+/[0-9]{1,3}", re.ASCII)

_Network = TypeVar("_Network", IPv4Network, IPv6Network)


@dataclass(frozen=True, slots=True)
class _Family:
    """What differs between the two families: the keys' prefix, address length, usual subnet length."""

    prefix: str
    bits: int
    usual_len: int


_IPV4 = _Family("", 32, 24)
_IPV6 = _Family("IPv6", 128, 64)


@dataclass(frozen=True, slots=True)
class SubnetPool(Generic[_Network]):
    """The part of a network from which nodes get their subnets, each `subnet_len` bits long.

    `first` and `last` are subnets of that length (flannel's SubnetMin and SubnetMax); both can be given out.
    """

    network: _Network
    subnet_len: int
    first: _Network
    last: _Network

    def holds(self, subnet: _Network) -> bool:
        """True if `subnet` is one of this pool's subnets."""
        return subnet.prefixlen == self.subnet_len and self.first <= subnet <= self.last

    def encloses(self, subnet: Network) -> bool:
        """True if `subnet` is a part of the network, be it one of this pool's subnets or not."""
        network: Network = self.network
        return (
            subnet.version == network.version
            and subnet.prefixlen >= network.prefixlen
            and subnet.network_address in network
        )

    @property
    def size(self) -> int:
        """How many subnets there are."""
        span = int(self.last.network_address) - int(self.first.network_address)
        return span // self.first.num_addresses + 1


@dataclass(frozen=True, slots=True)
class BackendConfig:
    """The `Backend` object: its `Type`, in lower case, and the keys that only that backend reads."""

    type: str
    options: Mapping[str, Any]

    def boolean(self, key: str, default: bool) -> bool:
        """The truth value at `key`; ConfigError if it is something else."""
        return gojson.boolean(dict(self.options), key, default)

    def integer(self, key: str, default: int, minimum: int, maximum: int) -> int:
        """The whole number at `key`; ConfigError if it is something else or out of bounds."""
        return gojson.integer(dict(self.options), key, default, minimum, maximum)


@dataclass(frozen=True, slots=True)
class NetworkConfig:
    """A checked network config. A family that is not enabled is None."""

    ipv4: SubnetPool[IPv4Network] | None
    ipv6: SubnetPool[IPv6Network] | None
    backend: BackendConfig
    enable_nftables: bool = False

    @property
    def pools(self) -> tuple[SubnetPool[IPv4Network] | SubnetPool[IPv6Network], ...]:
        """The pools of the families that are enabled, IPv4 first."""
        return tuple(pool for pool in (self.ipv4, self.ipv6) if pool is not None)

    @classmethod
    def parse(cls, text: str | bytes) -> "NetworkConfig":
        """Read net-conf JSON; ConfigError names the key that is wrong and what it may be."""
        source = gojson.loads(text, "the network config")
        config = cls(
            ipv4=_parse_pool(source, _IPV4, IPv4Network) if gojson.boolean(source, "EnableIPv4", True) else None,
            ipv6=_parse_pool(source, _IPV6, IPv6Network) if gojson.boolean(source, "EnableIPv6", False) else None,
            backend=_parse_backend(source),
            enable_nftables=gojson.boolean(source, "EnableNFTables", False),
        )
        if config.ipv4 is None and config.ipv6 is None:
            raise ConfigError("the network config enables no address family; set EnableIPv4 or EnableIPv6 to true")
        return config

    def accepts(self, subnets: Subnets) -> bool:
        """True if `subnets` are what this config would give to a node: of every enabled family, and no other."""
        return _matches(self.ipv4, subnets.ipv4) and _matches(self.ipv6, subnets.ipv6)

    def contains(self, subnets: Subnets) -> bool:
        """True if `subnets` lie inside of the networks, one of every enabled family, large enough for a bridge."""
        return _within(self.ipv4, subnets.ipv4) and _within(self.ipv6, subnets.ipv6)

    def to_json(self) -> str:
        """The config with every default spelled out; parsing that gives an equal config."""
        document: gojson.Object = {"EnableIPv4": self.ipv4 is not None, "EnableIPv6": self.ipv6 is not None}
        document["EnableNFTables"] = self.enable_nftables
        for pool, prefix in ((self.ipv4, ""), (self.ipv6, "IPv6")):
            if pool is not None:
                document[f"{prefix}Network"] = str(pool.network)
                document[f"{prefix}SubnetLen"] = pool.subnet_len
                document[f"{prefix}SubnetMin"] = str(pool.first.network_address)
                document[f"{prefix}SubnetMax"] = str(pool.last.network_address)
        document["Backend"] = dict(self.backend.options) | {"Type": self.backend.type}
        return gojson.dumps(document)


def _matches(pool: SubnetPool[_Network] | None, subnet: _Network | None) -> bool:
    if pool is None or subnet is None:
        return pool is None and subnet is None
    return pool.holds(subnet)


def _within(pool: SubnetPool[_Network] | None, subnet: _Network | None) -> bool:
    if pool is None or subnet is None:
        return pool is None and subnet is None
    return pool.encloses(subnet) and subnet.prefixlen <= subnet.max_prefixlen - 2


def _parse_backend(source: gojson.Object) -> BackendConfig:
    options = gojson.subobject(source, "Backend")
    name = gojson.string(options, "Type", DEFAULT_BACKEND).lower()
    others = {key: value for key, value in options.items() if key.casefold() != "type"}
    return BackendConfig(name or DEFAULT_BACKEND, others)


def _parse_pool(source: gojson.Object, family: _Family, kind: type[_Network]) -> SubnetPool[_Network]:
    """Apply flannel's defaults and bounds to the keys of one family."""
    network = _parse_network(source, family, kind)
    subnet_len = _subnet_len(source, family, network.prefixlen)
    size = 1 << (family.bits - subnet_len)
    start = int(network.network_address)
    first = _boundary(source, f"{family.prefix}SubnetMin", network, subnet_len, start + size)
    last = _boundary(source, f"{family.prefix}SubnetMax", network, subnet_len, start + network.num_addresses - size)
    if first > last:
        raise ConfigError(
            f"{family.prefix}SubnetMin {first.network_address} lies beyond {family.prefix}SubnetMax "
            f"{last.network_address}, which leaves no subnet; swap them"
        )
    return SubnetPool(network, subnet_len, first, last)


def _parse_network(source: gojson.Object, family: _Family, kind: type[_Network]) -> _Network:
    key = f"{family.prefix}Network"
    example = "10.5.0.0/16" if family.bits == 32 else "fd00:5::/48"
    text = gojson.string(source, key, "")
    if not text:
        raise ConfigError(f'the network config has no {key}; give the whole pod network, as in "{key}": "{example}"')
    try:
        if not _CIDR.fullmatch(text):
            raise ValueError("not of the form ADDRESS/LENGTH")
        network = kind(text, strict=False)
    except ValueError as error:
        raise ConfigError(f"{key} {text!r} is not a network such as {example}: {error}") from error
    if trouble := trouble_with_pods(network):
        raise ConfigError(f"{key} {text!r} {trouble}, which pods cannot have; give the pod network, such as {example}")
    return network


def _subnet_len(source: gojson.Object, family: _Family, network_len: int) -> int:
    """The length of every node's subnet: as given and within flannel's bounds, else flannel's default."""
    key = f"{family.prefix}SubnetLen"
    longest = family.bits - 2
    if network_len + 2 > longest:
        raise ConfigError(
            f"{family.prefix}Network is a /{network_len}, too small for four subnets; give a /{longest - 2} or shorter"
        )
    # 0 counts as not given, in Go's reading of an unsigned member.
    given = gojson.integer(source, key, 0, 0, (1 << 32) - 1)
    if given == 0:
        return max(family.usual_len, network_len + 2)
    if given > longest:
        raise ConfigError(f"{key} {given} leaves no room for a tunnel and a bridge; it must be {longest} or less")
    if given < network_len + 2:
        raise ConfigError(f"{key} {given} leaves fewer than four subnets; it must be {network_len + 2} or more")
    return given


def _boundary(source: gojson.Object, key: str, network: _Network, subnet_len: int, default: int) -> _Network:
    """SubnetMin or SubnetMax: an address of `network` at which a subnet begins."""
    kind = type(network)
    text = gojson.string(source, key, "")
    try:
        address = ip_address(text) if text else None
    except ValueError as error:
        raise ConfigError(f"{key}: {error}; give an address of {network}, or leave {key} out") from error
    if address is None or int(address) == 0:
        return kind((default, subnet_len))
    if address not in network:
        raise ConfigError(f"{key} {address} lies outside of the network {network}")
    subnet = kind((int(address), subnet_len), strict=False)
    if subnet.network_address != address:
        raise ConfigError(f"{key} {address} is not where a /{subnet_len} begins; {subnet.network_address} would be")
    return subnet
