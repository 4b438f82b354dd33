"""What the node's own device needs, a TUN or a vxlan device, as wishes (see `wishes`).

In this order, since each needs the ones before it:

- an MTU that leaves room for the outer headers, and a transmit queue long enough for bursts. The MTU is first: a
  device of less than 1280 bytes has no IPv6, not even parameters for it
- `accept_local`, since the ICMP errors that the node puts into a TUN come from the TUN's own address; `rp_filter`
  loose, so that a host route which takes a part of the pod network elsewhere does not silence peers; no IPv6
  link-local address, as nobody on the other side would answer it; forwarding, as the host's own switch sets it
- to be up
- the base address of the node's subnet with a full-length prefix, as flannel does. The node's own packets and its ICMP
  errors into the overlay carry it
- a TUN: one route for each whole pod network, with that address as source
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any

from dataplane.addresses import Address, Network
from dataplane.errors import NodeError
from dataplane.kernel.leftovers import NOTHING, Leftovers
from dataplane.kernel.netdev import (
    FAMILY,
    link_index,
    local_address,
    main_routes,
    netlink,
    read_sysctl,
    write_sysctl,
)
from dataplane.kernel.rtnetlink import MainRoute
from dataplane.kernel.wishes import Wish

TX_QUEUE_LEN = 2000
"""Packets that may wait in the TUN while the node is not scheduled; the kernel's default is 500."""

MINIMUM_MTU = {4: 68, 6: 1280}
"""The least that a link must carry, RFC 791 and RFC 8200 section 5."""

_IFF_UP = 1
_IFA_F_NODAD = 0x02
_RTPROT_STATIC = 4


def device_wishes(name: str, addresses: Sequence[Address], networks: Sequence[Network], mtu: int) -> list[Wish]:
    """All of the module's text for the existing device `name`: exactly these addresses, routes for `networks`."""
    versions = {address.version for address in addresses}
    return [
        LinkSize(name, mtu, TX_QUEUE_LEN, max((MINIMUM_MTU[version] for version in versions), default=0)),
        *_parameters(name, versions),
        LinkUp(name),
        Addresses(name, tuple(addresses)),
        *([NetworkRoutes(name, routes)] if (routes := _sources(networks, addresses)) else []),
    ]


@dataclass(frozen=True, slots=True)
class _HostWish:
    """What the wishes here share: pods are cut off without them, and they go with the device."""

    @property
    def vital(self) -> bool:
        """Pods are cut off without it."""
        return True

    @property
    def leftovers(self) -> Leftovers:
        """It goes with its device, or stays for others who came to rely on it (a parameter of the host)."""
        return NOTHING


@dataclass(frozen=True, slots=True)
class LinkSize(_HostWish):
    """MTU in bytes and length of the transmit queue in packets of a device; `least` is what its families need."""

    device: str
    mtu: int
    queue_len: int
    least: int

    @property
    def what(self) -> str:
        """Its name."""
        return f"the MTU of {self.device}"

    def difference(self) -> str:
        """The MTU or queue that the device has instead."""
        link = _link(self.device)
        if link is None:
            return "was gone with the device"
        mtu, queue_len = int(link.get_attr("IFLA_MTU")), int(link.get_attr("IFLA_TXQLEN"))
        if mtu != self.mtu:
            return f"was {mtu}, not {self.mtu}"
        return "" if queue_len == self.queue_len else f"was right, its queue {queue_len} packets, not {self.queue_len}"

    def fulfil(self) -> None:
        """Set both."""
        if self.mtu < self.least:
            version = 6 if self.least == MINIMUM_MTU[6] else 4
            raise NodeError(
                f"only {self.mtu} bytes of MTU are left for {self.device}, but IPv{version} needs "
                f"{self.least}; raise the MTU of the external interface"
            )
        with netlink(f"configure {self.device}") as ip:
            ip.link("set", index=link_index(ip, self.device), mtu=self.mtu, txqlen=self.queue_len)


@dataclass(frozen=True, slots=True)
class LinkUp(_HostWish):
    """A device that is up."""

    device: str

    @property
    def what(self) -> str:
        """Its name."""
        return f"the device {self.device}"

    def difference(self) -> str:
        """Whether it is down or gone."""
        link = _link(self.device)
        return "was gone" if link is None else "" if link["flags"] & _IFF_UP else "was down"

    def fulfil(self) -> None:
        """Bring it up."""
        with netlink(f"bring {self.device} up") as ip:
            ip.link("set", index=link_index(ip, self.device), state="up")


@dataclass(frozen=True, slots=True)
class Addresses(_HostWish):
    """A device's addresses, each with a full-length prefix, and no others."""

    device: str
    addresses: tuple[Address, ...]

    @property
    def what(self) -> str:
        """Its name."""
        return f"the address of {self.device}"

    def difference(self) -> str:
        """The addresses that are missing, or those that are too many."""
        with netlink(f"read the addresses of {self.device}") as ip:
            present = _present(ip, self.device)
        missing = [str(address) for address, length in self._desired() - present]
        foreign = [f"{address}/{length}" for address, length in present - self._desired()]
        return f"{' and '.join(missing)} was gone" if missing else f"had {foreign[0]} beside it" if foreign else ""

    def fulfil(self) -> None:
        """Give the device these addresses."""
        with netlink(f"set the addresses of {self.device}") as ip:
            index, present = link_index(ip, self.device), _present(ip, self.device)
            for address, length in present - self._desired():
                ip.addr("del", index=index, address=str(address), prefixlen=length)
            for address, length in self._desired() - present:
                # No duplicate detection: a tentative IPv6 address cannot be a source, and a TUN has no neighbours.
                ip.addr("add", index=index, address=str(address), prefixlen=length, flags=_IFA_F_NODAD)

    def _desired(self) -> set[tuple[Address, int]]:
        return {(address, address.max_prefixlen) for address in self.addresses}


@dataclass(frozen=True, slots=True)
class NetworkRoutes(_HostWish):
    """The main table's routes for whole pod networks through a device, each with the device's address as source."""

    device: str
    sources: Mapping[Network, Address]

    @property
    def what(self) -> str:
        """Its name."""
        return f"the way into {self.device}"

    def difference(self) -> str:
        """The route that is missing or has another source, or one of an earlier network config."""
        present = self._present()
        for network, source in self.sources.items():
            if network not in present:
                return f"(the route to {network}) was gone"
            if present[network].source != source:
                return f"(the route to {network}) had another source"
        stale = self._stale(present)
        return f"led to {stale[0]} as well" if stale else ""

    def fulfil(self) -> None:
        """Put the routes there. NodeError if somebody else's is in the place of one."""
        with netlink(f"set the routes of {self.device}") as ip:
            index = link_index(ip, self.device)
            for network in self._stale(self._present()):
                ip.route("del", dst=str(network), oif=index, family=FAMILY[network.version])
            for network, source in self.sources.items():
                for route in main_routes(network.version):
                    if route.length == network.prefixlen and route.device != index and route.destination == network:
                        raise NodeError(
                            f"{route} is in the place of the pod network's own by {self.device}; "
                            "remove it, or choose a Network that is used for nothing else"
                        )
                ip.route("replace", dst=str(network), oif=index, prefsrc=str(source), proto=_RTPROT_STATIC)

    def _present(self) -> dict[Network, MainRoute]:
        routes = [route for version in (4, 6) for route in main_routes(version, device=self.device)]
        return {route.destination: route for route in routes}

    def _stale(self, present: Mapping[Network, MainRoute]) -> list[Network]:
        return [n for n, r in present.items() if n not in self.sources and r.protocol == _RTPROT_STATIC]


@dataclass(frozen=True, slots=True)
class Parameter(_HostWish):
    """A kernel parameter below /proc/sys/net. With `only_if`, only where it has that value."""

    key: str
    value: int
    only_if: str = ""

    @property
    def what(self) -> str:
        """Its name as sysctl(8) takes it."""
        return "net/" + self.key

    def difference(self) -> str:
        """The value that it has instead."""
        value = read_sysctl(self.key)
        if value is None:
            return "was gone"
        return "" if value == str(self.value) or (self.only_if and value != self.only_if) else f"was {value}"

    def fulfil(self) -> None:
        """Set it."""
        write_sysctl(self.key, self.value)


def _sources(networks: Iterable[Network], addresses: Iterable[Address]) -> dict[Network, Address]:
    """The source for each network: the address of its family."""
    return {network: a for network in networks for a in addresses if a.version == network.version}


def forwarding_wishes(versions: Iterable[int], external: str) -> list[Wish]:
    """The host as a router of these IP versions.

    A host that becomes an IPv6 router forgets the default route that it learned from router advertisements, unless
    `accept_ra` is 2; so that is set first on the external interface, if advertisements are accepted there.
    """
    switches = {4: "ipv4/ip_forward", 6: "ipv6/conf/all/forwarding"}
    first = [Parameter(f"ipv6/conf/{external}/accept_ra", 2, only_if="1")] if 6 in versions else []
    return [*first, *(Parameter(switches[version], 1) for version in sorted(set(versions)))]


def _parameters(device: str, versions: Collection[int]) -> list[Wish]:
    wishes: list[Wish] = []
    if 4 in versions:
        own = {"accept_local": 1, "rp_filter": 2, "forwarding": 1}
        wishes += [Parameter(f"ipv4/conf/{device}/{key}", value) for key, value in own.items()]
    wishes.append(QuietIpv6(device, needed=6 in versions))
    if 6 in versions:
        wishes.append(Parameter(f"ipv6/conf/{device}/disable_ipv6", 0))
    return wishes


@dataclass(frozen=True, slots=True)
class QuietIpv6(_HostWish):
    """A device that makes no link-local address by itself (addr_gen_mode none), where the kernel has IPv6.

    `needed` says that the pods have IPv6, and so the kernel must.
    """

    device: str
    needed: bool

    @property
    def what(self) -> str:
        """Its name as sysctl(8) takes it."""
        return f"net/{self._key}"

    @property
    def _key(self) -> str:
        return f"ipv6/conf/{self.device}/addr_gen_mode"

    def difference(self) -> str:
        """The value that it has instead of 1, for none."""
        value = read_sysctl(self._key)
        if value is None:
            return "is not there" if self.needed else ""
        return "" if value == "1" else f"was {value}"

    def fulfil(self) -> None:
        """Set it. NodeError if the kernel has no IPv6 and pods do."""
        if read_sysctl(self._key) is None:
            raise NodeError("the network config has IPv6, but this kernel has not; boot without ipv6.disable=1")
        write_sysctl(self._key, 1)


def _link(name: str) -> Any:
    """The link of that name, or None."""
    with netlink(f"look at {name}") as ip:
        return next((ip.get_links(index)[0] for index in ip.link_lookup(ifname=name)), None)


def _present(ip: Any, name: str) -> set[tuple[Address, int]]:
    found = [a for index in ip.link_lookup(ifname=name) for a in ip.get_addr(index=index)]
    return {(ip_address(local_address(a)), int(a["prefixlen"])) for a in found}
