"""The host's network devices, addresses and routes, as netlink tells them: which interface faces the underlay?

All calls block for a few milliseconds, so the node makes them in a thread. What the node sets up is in `device`.
"""

import asyncio
import errno
import os
import socket
import threading
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from dataplane.addresses import Address, Network
from dataplane.errors import NodeError
from dataplane.kernel.rtnetlink import MainRoute, Tables

FAMILY = {4: 2, 6: 10}
"""AF_INET and AF_INET6."""

# include/uapi/linux/if_addr.h
_IFA_F_UNUSABLE = 0x08 | 0x20 | 0x40  # DADFAILED, DEPRECATED and TENTATIVE
_IFA_F_TEMPORARY = 0x01  # of an IPv6 address, RFC 8981; of an IPv4 address: another comes before it
_IFA_F_PERMANENT = 0x80  # it has no end
_SCOPE_GLOBAL = 0
_NETLINK_SECONDS = 15.0
"""So long may a few questions and their answers take, also where there are 100,000 routes."""
_OVERLAY_KINDS = ("tun", "vxlan")
_RT_TABLE_MAIN = 254
_TX_DROPS = 8 + 3  # in /proc/net/dev: eight numbers of what was received, then bytes, packets, errors, drops
_SYSCTL = Path("/proc/sys/net")
_RTM_F_CLONED = 0x200
"""A route that the kernel made for what it learned, include/uapi/linux/rtnetlink.h."""
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


def external_interface(
    wanted: str = "", public_ip: Address | None = None, own: Collection[str] = ()
) -> ExternalInterface:
    """Find the interface called `wanted` or with the address `wanted`; if that is empty, the default route's.

    The address is `wanted` or `public_ip` if the interface has it, else the interface's best of the family of
    `public_ip`, else its best IPv4 or IPv6 address. The devices `own` are the overlay's and never face the underlay,
    even if the default route is by one of them. NodeError if there is none.
    """
    address = _parse_address(wanted)
    if address is not None and public_ip is not None and address.version != public_ip.version:
        raise NodeError(f"--iface {address} and --public-ip {public_ip} are of two families; the underlay has one")
    versions = [public_ip.version] if public_ip else [address.version] if address else [4, 6]
    with netlink("find the external interface") as ip:
        index = _find_interface(ip, wanted, address, versions, own)
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


def remove_device(name: str, kind: str) -> bool:
    """Delete the device `name` with its addresses and routes. False if there is none, NodeError if it is no `kind`."""
    with netlink(f"remove {name}") as ip:
        for index in ip.link_lookup(ifname=name):
            if link_kind(ip.get_links(index)[0]) != kind:
                raise NodeError(f"{name} is not a {kind} device and stays; it is not the node's own")
            ip.link("del", index=index)
            return True
    return False


@dataclass(frozen=True, slots=True)
class TunUse:
    """Which user may attach to a TUN device without CAP_NET_ADMIN (None: all), and how many queues are attached."""

    owner: int | None
    queues: int


def tun_use(name: str) -> TunUse | None:
    """The use of the TUN device `name`; None if there is none, or if the kernel does not tell (before 4.20)."""
    with netlink(f"look at {name}") as ip:
        for index in ip.link_lookup(ifname=name):
            info = ip.get_links(index)[0].get_attr("IFLA_LINKINFO")
            data = info.get_attr("IFLA_INFO_DATA") if info and info.get_attr("IFLA_INFO_KIND") == "tun" else None
            if data is not None and data.get_attr("IFLA_TUN_NUM_QUEUES") is not None:
                return TunUse(data.get_attr("IFLA_TUN_OWNER"), int(data.get_attr("IFLA_TUN_NUM_QUEUES")))
    return None


def tun_holders(name: str) -> list[int]:
    """The processes of this network namespace that have a queue of its TUN device `name`, as far as one may see."""
    found, netns = set(), Path("/proc/thread-self/ns/net").readlink()
    for path in Path("/proc").glob("[0-9]*/fdinfo/*"):
        with suppress(OSError):
            process = path.parent.parent
            if f"iff:\t{name}\n" in path.read_text() and (process / "ns/net").readlink() == netns:
                found.add(int(process.name))
    return sorted(found)


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


def forget_path_mtu(address: Address) -> None:
    """Have the kernel forget what ICMP told it of the path to `address`; of IPv4 it can only forget all paths."""
    if address.version == 4:
        write_sysctl("ipv4/route/flush", 1)
        return
    with netlink(f"forget the path MTU to {address}") as ip:
        try:
            ip.route("del", family=FAMILY[6], dst=f"{address}/128", flags=_RTM_F_CLONED)
        except NetlinkError as error:
            if error.code != errno.ESRCH:  # nothing was learned
                raise


def on_link_networks(name: str) -> list[Network]:
    """The networks whose hosts are on the link of the interface `name`: those it has routes to without a gateway."""
    return [route.destination for version in (4, 6) for route in main_routes(version, device=name) if route.on_link]


def _parse_address(text: str) -> Address | None:
    try:
        return ip_address(text)
    except ValueError:
        return None


def _find_interface(
    ip: Any, wanted: str, address: Address | None, versions: Sequence[int], own: Collection[str]
) -> int:
    if address is not None:
        for found in ip.get_addr(family=FAMILY[address.version]):
            if ip_address(local_address(found)) == address:
                return int(found["index"])
        raise NodeError(f"no interface has the address {address}; see `ip address` and choose another --iface")
    if wanted:
        for index in ip.link_lookup(ifname=wanted):
            return int(index)
        raise NodeError(f"there is no interface {wanted}; see `ip link` and choose another --iface")
    own_links = [ip.get_links(index)[0] for name in own for index in ip.link_lookup(ifname=name)]
    excluded = {int(link["index"]) for link in own_links if link_kind(link) in _OVERLAY_KINDS}
    for version in versions:
        routes = sorted(
            ip.get_default_routes(family=FAMILY[version]), key=lambda route: route.get_attr("RTA_PRIORITY") or 0
        )
        for route in routes:
            for index in _outgoing(route):
                if index not in excluded:
                    return index
    raise NodeError("there is no default route to tell the external interface; name it with --iface")


def _outgoing(route: Any) -> list[int]:
    """The interfaces by which a route leads: one, or that of each next hop of a multipath route."""
    if route.get_attr("RTA_OIF"):
        return [int(route.get_attr("RTA_OIF"))]
    return [int(hop["oif"]) for hop in route.get_attr("RTA_MULTIPATH") or ()]


def _addresses(ip: Any, index: int, version: int) -> list[Address]:
    """The addresses of an interface that other nodes can send to, those that stay longest first."""
    found = [
        a
        for a in ip.get_addr(family=FAMILY[version], index=index)
        if a["scope"] == _SCOPE_GLOBAL and not _flags(a) & _IFA_F_UNUSABLE
    ]
    found.sort(key=lambda a: (bool(_flags(a) & _IFA_F_TEMPORARY), not _flags(a) & _IFA_F_PERMANENT))
    return [ip_address(local_address(a)) for a in found]


def local_address(address: Any) -> str:
    """The interface's own address; on a point-to-point link IFA_ADDRESS is the other end's."""
    return str(address.get_attr("IFA_LOCAL") or address.get_attr("IFA_ADDRESS"))


def _flags(address: Any) -> int:
    return int(address.get_attr("IFA_FLAGS") or address["flags"])


def link_index(ip: Any, name: str) -> int:
    """The index of the device `name`; NodeError if there is none."""
    for index in ip.link_lookup(ifname=name):
        return int(index)
    raise NodeError(f"the device {name} has vanished")


def link_kind(link: Any) -> str:
    """What a link is, in the words of ip(8): `tun`, `vxlan`, ...; empty for a physical one."""
    info = link.get_attr("IFLA_LINKINFO")
    return str(info.get_attr("IFLA_INFO_KIND")) if info else ""


def main_routes(version: int, *, protocol: int = 0, device: str = "") -> list[MainRoute]:
    """The routes of the main table, all or those of a protocol, all or those through the interface `device`."""
    try:
        index = socket.if_nametoindex(device) if device else 0
    except OSError:
        return []
    try:
        with Tables() as tables:
            return list(tables.main_routes(version, protocol=protocol, device=index))
    except OSError as error:
        raise NodeError(f"cannot read the routes: {error.strerror}") from error


@contextmanager
def netlink(attempt: str) -> Iterator[Any]:
    """A netlink socket; what goes wrong with it becomes one line about `attempt`."""
    try:
        with _BoundedRoute() as ip, ip.bounded():
            yield ip
    except NetlinkError as error:
        if error.code == errno.EPERM:
            raise NodeError(f"may not {attempt}: run as root or with CAP_NET_ADMIN") from error
        raise NodeError(f"cannot {attempt}: {os.strerror(abs(error.code))}; see `ip link` and `ip route`") from error
    except OSError as error:
        raise NodeError(f"cannot {attempt}: {error.strerror or error}") from error
    except RuntimeError as error:  # asyncio's, when its loop is stopped
        raise NodeError(f"cannot {attempt}: the kernel's answer did not come through; trying again") from error


class _BoundedRoute(IPRoute):  # type: ignore[misc]
    """An IPRoute whose calls end. One that cannot take in an answer, as memory is short, waits for it for ever."""

    def __init__(self) -> None:
        self._running: asyncio.AbstractEventLoop | None = None
        super().__init__()

    def _setup_transport(self) -> None:
        super()._setup_transport()
        self._running = self.asyncore.event_loop  # which is the calling thread's, and another for each call

    @contextmanager
    def bounded(self) -> Iterator[None]:
        """Interrupt what goes on for too long in a `with` block."""
        timer = threading.Timer(_NETLINK_SECONDS, self._interrupt)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()

    def _interrupt(self) -> None:
        if self._running is not None and not self._running.is_closed():
            self._running.call_soon_threadsafe(self._running.stop)
