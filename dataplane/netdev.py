"""The node's network devices, through netlink: which interface faces the underlay, and what its own device needs.

All calls block for a few milliseconds, so the node makes them in a thread. Each says what is to be and changes only
what differs: a node that was killed and comes back finds its device as it left it, and pods notice nothing.

What the device gets, be it a TUN or a vxlan device:

- the base address of the node's subnet with a full-length prefix, as flannel does. The node's own packets and its ICMP
  errors into the overlay carry it;
- an MTU that leaves room for the outer headers, and a transmit queue long enough for bursts;
- a TUN: one route for each whole pod network, with that address as source;
- `accept_local`, since the ICMP errors that the node puts into a TUN come from the TUN's own address, and
  `rp_filter` loose, so that a host route which takes a part of the pod network elsewhere does not silence
  peers; no IPv6 link-local address, as nobody on the other side would answer it.
"""

import errno
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_address
from pathlib import Path
from typing import Any

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from dataplane.addresses import Address, Network
from dataplane.errors import NodeError

TX_QUEUE_LEN = 2000
"""Packets that may wait in the TUN while the node is not scheduled; the kernel's default is 500."""

MINIMUM_MTU = {4: 68, 6: 1280}
"""The least that a link must carry, RFC 791 and RFC 8200 section 5."""

_FAMILY = {4: 2, 6: 10}  # AF_INET and AF_INET6
_SCOPE_GLOBAL = 0
_IFA_F_NODAD = 0x02
_IFA_F_UNUSABLE = 0x08 | 0x40  # DADFAILED and TENTATIVE (include/uapi/linux/if_addr.h)
_RTPROT_STATIC = 4
_RT_TABLE_MAIN = 254
_TX_DROPS = 8 + 3  # in /proc/net/dev: eight numbers of what was received, then bytes, packets, errors, drops
_SYSCTL = Path("/proc/sys/net")
_HOST_SYSCTL = Path("/host/proc/sys/net")
"""The same files, where a pod mounts them from its node: a container's own /proc/sys is read-only."""
_FORWARDING = {4: "ipv4/ip_forward", 6: "ipv6/conf/all/forwarding"}


@dataclass(frozen=True, slots=True)
class ExternalInterface:
    """The interface that faces the underlay; `address` is the one that the node's UDP socket is bound to.

    `addresses` are all that other nodes can send to, of both families.
    """

    name: str
    mtu: int
    address: Address
    addresses: tuple[Address, ...] = ()

    def address_of(self, version: int) -> Address | None:
        """The address of a family that the node uses: `address` if it is of that family, else the first there is."""
        return next((a for a in (self.address, *self.addresses) if a.version == version), None)


def external_interface(wanted: str = "", public_ip: Address | None = None) -> ExternalInterface:
    """Find the interface called `wanted` or with the address `wanted`; if that is empty, the default route's.

    The address is `wanted` or `public_ip` if the interface has it, else the interface's first of the family of
    `public_ip`, else its first IPv4 or IPv6 address. NodeError if there is none.
    """
    address = _parse_address(wanted)
    if address is not None and public_ip is not None and address.version != public_ip.version:
        raise NodeError(f"--iface {address} and --public-ip {public_ip} are of two families; the underlay has one")
    versions = [public_ip.version] if public_ip else [address.version] if address else [4, 6]
    with netlink("find the external interface") as ip:
        index = _find_interface(ip, wanted, address, versions)
        link = ip.get_links(index)[0]
        name, mtu = str(link.get_attr("IFLA_IFNAME")), int(link.get_attr("IFLA_MTU"))
        found = [a for version in (4, 6) for a in _addresses(ip, index, version)]
    usable = [a for version in versions for a in found if a.version == version]
    preferred = next((a for a in (address, public_ip) if a in usable), None)
    if preferred is None and not usable:
        kinds = " or ".join(f"IPv{version}" for version in versions)
        raise NodeError(f"interface {name} has no usable {kinds} address; give it one or choose another with --iface")
    return ExternalInterface(name, mtu, preferred or usable[0], tuple(found))


def usable_addresses() -> list[tuple[str, Address]]:
    """Every interface by name with each address that other nodes can send to."""
    with netlink("list the addresses of interfaces") as ip:
        links = [(str(link.get_attr("IFLA_IFNAME")), link["index"]) for link in ip.get_links()]
        return [(name, a) for name, index in links for version in (4, 6) for a in _addresses(ip, index, version)]


def configure_device(name: str, addresses: Sequence[Address], networks: Sequence[Network], mtu: int) -> None:
    """Give the existing device `name` exactly these addresses and routes for whole `networks`, and bring it up."""
    for address in addresses:
        if mtu < MINIMUM_MTU[address.version]:
            raise NodeError(
                f"only {mtu} bytes of MTU are left for {name}, but IPv{address.version} needs "
                f"{MINIMUM_MTU[address.version]}; raise the MTU of the external interface"
            )
    with netlink(f"configure {name}") as ip:
        (index,) = ip.link_lookup(ifname=name) or _no_device(name)
        _set_device_sysctls(name, {address.version for address in addresses})
        ip.link("set", index=index, mtu=mtu, txqlen=TX_QUEUE_LEN, state="up")
        _set_addresses(ip, index, addresses)
        _set_routes(ip, index, networks, {address.version: address for address in addresses})


def remove_device(name: str, kind: str) -> bool:
    """Delete the device `name` with its addresses and routes. False if there is none, NodeError if it is no `kind`."""
    with netlink(f"remove {name}") as ip:
        for index in ip.link_lookup(ifname=name):
            if link_kind(ip.get_links(index)[0]) != kind:
                raise NodeError(f"{name} is not a {kind} device and stays; it is not the node's own")
            ip.link("del", index=index)
            return True
    return False


def queue_overruns(name: str) -> int:
    """Packets that found the send queue of the device `name` full, since it was made; 0 when there is no such device.

    For a TUN that is its owner being slower than what the host routes into it. Super-packets count once.
    """
    table = Path("/proc/thread-self/net/dev").read_text()  # of this thread's network namespace, unlike /sys
    for line in table.splitlines():
        device, _, numbers = line.partition(":")
        if device.strip() == name:
            return int(numbers.split()[_TX_DROPS])
    return 0


def enable_forwarding(versions: Sequence[int], external: str) -> None:
    """Make the host a router of these IP versions.

    A host that becomes an IPv6 router forgets the default route that it learned from router advertisements, unless
    `accept_ra` is 2; so that is set on the external interface if advertisements were accepted there.
    """
    if 6 in versions and read_sysctl(f"ipv6/conf/{external}/accept_ra") == "1":
        write_sysctl(f"ipv6/conf/{external}/accept_ra", 2)
    for version in versions:
        write_sysctl(_FORWARDING[version], 1)


def forwarding_enabled(version: int) -> bool:
    """Whether the host forwards packets of this IP version."""
    return read_sysctl(_FORWARDING[version]) == "1"


def read_sysctl(key: str) -> str | None:
    """The kernel parameter below /proc/sys/net, or None if this kernel does not have it."""
    try:
        return (_SYSCTL / key).read_text().strip()
    except OSError:
        return None


def write_sysctl(key: str, value: int) -> None:
    """Set a kernel parameter below /proc/sys/net, unless it is so already. NodeError if that is not allowed."""
    if read_sysctl(key) == str(value):
        return
    refusals = []
    for root in (_SYSCTL, _HOST_SYSCTL):
        try:
            (root / key).write_text(str(value))
        except OSError as error:
            refusals.append(error)
        else:
            return
    raise NodeError(
        f"cannot set /proc/sys/net/{key} to {value}: {refusals[0].strerror}; run as root, or set it on the host first"
    ) from refusals[0]


def device_routes(name: str) -> list[Network]:
    """The destinations of the main table's routes through the device `name`."""
    with netlink(f"read the routes of {name}") as ip:
        return [
            _destination(route)
            for index in ip.link_lookup(ifname=name)
            for version in (4, 6)
            for route in _main_routes(ip, index, version)
        ]


def on_link_networks(name: str) -> list[Network]:
    """The networks whose hosts are on the link of the interface `name`: those it has routes to without a gateway."""
    with netlink(f"read the routes of {name}") as ip:
        return [
            _destination(route)
            for index in ip.link_lookup(ifname=name)
            for version in (4, 6)
            for route in _main_routes(ip, index, version)
            if route["dst_len"] and not route.get_attr("RTA_GATEWAY") and not route.get_attr("RTA_VIA")
        ]


def _parse_address(text: str) -> Address | None:
    try:
        return ip_address(text)
    except ValueError:
        return None


def _find_interface(ip: Any, wanted: str, address: Address | None, versions: Sequence[int]) -> int:
    if address is not None:
        for found in ip.get_addr(family=_FAMILY[address.version]):
            if ip_address(_local(found)) == address:
                return int(found["index"])
        raise NodeError(f"no interface has the address {address}; see `ip address` and choose another --iface")
    if wanted:
        for index in ip.link_lookup(ifname=wanted):
            return int(index)
        raise NodeError(f"there is no interface {wanted}; see `ip link` and choose another --iface")
    for version in versions:
        routes = [r for r in ip.get_default_routes(family=_FAMILY[version]) if r.get_attr("RTA_OIF")]
        if routes:
            best = min(routes, key=lambda route: route.get_attr("RTA_PRIORITY") or 0)
            return int(best.get_attr("RTA_OIF"))
    raise NodeError("there is no default route to tell the external interface; name it with --iface")


def _addresses(ip: Any, index: int, version: int) -> list[Address]:
    """The addresses of an interface that other nodes can send to."""
    found = ip.get_addr(family=_FAMILY[version], index=index)
    return [ip_address(_local(a)) for a in found if a["scope"] == _SCOPE_GLOBAL and not _flags(a) & _IFA_F_UNUSABLE]


def _local(address: Any) -> str:
    """The interface's own address; on a point-to-point link IFA_ADDRESS is the other end's."""
    return str(address.get_attr("IFA_LOCAL") or address.get_attr("IFA_ADDRESS"))


def _flags(address: Any) -> int:
    return int(address.get_attr("IFA_FLAGS") or address["flags"])


def _no_device(name: str) -> Sequence[int]:
    raise NodeError(f"the device {name} has vanished; start the node again")


def link_kind(link: Any) -> str:
    """What a link is, in the words of ip(8): `tun`, `vxlan`, ...; empty for a physical one."""
    info = link.get_attr("IFLA_LINKINFO")
    return str(info.get_attr("IFLA_INFO_KIND")) if info else ""


def _set_device_sysctls(name: str, versions: set[int]) -> None:
    if 4 in versions:
        write_sysctl(f"ipv4/conf/{name}/accept_local", 1)
        write_sysctl(f"ipv4/conf/{name}/rp_filter", 2)
    if 6 in versions:
        if read_sysctl(f"ipv6/conf/{name}/disable_ipv6") is None:
            raise NodeError("the network config has IPv6, but this kernel has not; boot without ipv6.disable=1")
        write_sysctl(f"ipv6/conf/{name}/disable_ipv6", 0)
    if read_sysctl(f"ipv6/conf/{name}/addr_gen_mode") is not None:
        write_sysctl(f"ipv6/conf/{name}/addr_gen_mode", 1)  # none


def _set_addresses(ip: Any, index: int, wanted: Sequence[Address]) -> None:
    present = {(ip_address(_local(found)), int(found["prefixlen"])) for found in ip.get_addr(index=index)}
    desired = {(address, address.max_prefixlen) for address in wanted}
    for address, length in present - desired:
        ip.addr("del", index=index, address=str(address), prefixlen=length)
    for address, length in desired - present:
        # No duplicate detection: a tentative IPv6 address cannot be a source of routes, and a TUN has no neighbours.
        ip.addr("add", index=index, address=str(address), prefixlen=length, flags=_IFA_F_NODAD)


def _set_routes(ip: Any, index: int, networks: Sequence[Network], sources: dict[int, Address]) -> None:
    for version in (4, 6):
        for route in _main_routes(ip, index, version):
            if _destination(route) not in networks and route["proto"] == _RTPROT_STATIC:
                ip.route("del", dst=str(_destination(route)), oif=index, family=_FAMILY[version])
    for network in networks:
        ip.route("replace", dst=str(network), oif=index, prefsrc=str(sources[network.version]), proto=_RTPROT_STATIC)


def _main_routes(ip: Any, index: int, version: int) -> list[Any]:
    return list(ip.get_routes(family=_FAMILY[version], oif=index, table=_RT_TABLE_MAIN))


def _destination(route: Any) -> Network:
    kind = IPv4Network if route["family"] == _FAMILY[4] else IPv6Network
    return kind((route.get_attr("RTA_DST") or 0, route["dst_len"]))


@contextmanager
def netlink(attempt: str) -> Iterator[Any]:
    """A netlink socket; what goes wrong with it becomes one line about `attempt`."""
    try:
        with IPRoute() as ip:
            yield ip
    except NetlinkError as error:
        if error.code == errno.EPERM:
            raise NodeError(f"may not {attempt}: run as root or with CAP_NET_ADMIN") from error
        raise NodeError(f"cannot {attempt}: {os.strerror(abs(error.code))}; see `ip link` and `ip route`") from error
