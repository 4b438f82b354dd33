"""One vxlan device: made if it is not there, made anew if it is another than wanted."""

import errno
import os
import secrets
from dataclasses import dataclass
from typing import Any

from pyroute2.netlink.exceptions import NetlinkError

from dataplane.addresses import Address
from dataplane.errors import NodeError
from dataplane.kernel.netdev import link_index, link_kind, netlink

KIND = "vxlan"
_NOT_SUPPORTED = (errno.EOPNOTSUPP, errno.EAFNOSUPPORT)


@dataclass(frozen=True, slots=True)
class VxlanDevice:
    """A device as it should be: `local` is its underlay address on `interface`. Port 0 is the kernel's default."""

    name: str
    vni: int
    port: int
    interface: str
    local: Address
    learning: bool
    gbp: bool


@dataclass(frozen=True, slots=True)
class VxlanLink:
    """A device as it is: interface index, MAC address (6 bytes), UDP port."""

    index: int
    mac: bytes
    port: int


def ensure_vxlan(wish: VxlanDevice, mac: bytes | None = None) -> VxlanLink:
    """Make the device `wish` unless it is there.

    A device that is there keeps its MAC address, by which peers know it, also when it has to be made anew. A new one
    gets `mac`, or a random one: an address that is given, not left to the kernel, is left alone by udev.
    NodeError if it cannot be made.
    """
    with netlink(f"make the device {wish.name}") as ip:
        (outer,) = ip.link_lookup(ifname=wish.interface) or (0,)
        for index in ip.link_lookup(ifname=wish.name):
            link = ip.get_links(index)[0]
            if link_kind(link) != KIND:
                raise NodeError(f"{wish.name} is there but is no vxlan device; remove it or choose another VNI")
            if _is_as_wanted(link, wish, outer):
                return _as_it_is(link)
            mac = _mac(link)
            ip.link("del", index=index)
        _create(ip, wish, outer, mac or _random_mac())
        (index,) = ip.link_lookup(ifname=wish.name)
        return _as_it_is(ip.get_links(index)[0])


def find_vxlan(wish: VxlanDevice) -> VxlanLink | None:
    """The device `wish` if it is there and as wanted."""
    with netlink(f"look at the device {wish.name}") as ip:
        (outer,) = ip.link_lookup(ifname=wish.interface) or (0,)
        links = [ip.get_links(index)[0] for index in ip.link_lookup(ifname=wish.name)]
        found = [link for link in links if link_kind(link) == KIND and _is_as_wanted(link, wish, outer)]
        return _as_it_is(found[0]) if found else None


def forget_renamed(wish: VxlanDevice, known: VxlanLink) -> None:
    """Remove the device `known` if somebody gave it another name than that of `wish`: it has the VNI and the MAC."""
    with netlink(f"look for {wish.name} under another name") as ip:
        for link in ip.get_links(kind=KIND):
            is_ours = int(link["index"]) == known.index and _mac(link) == known.mac
            if is_ours and link.get_attr("IFLA_IFNAME") != wish.name:
                ip.link("del", index=known.index)


def set_mac(wish: VxlanDevice, mac: bytes) -> VxlanLink:
    """Give the device `wish` this MAC address."""
    with netlink(f"set the MAC address of {wish.name}") as ip:
        index = link_index(ip, wish.name)
        ip.link("set", index=index, address=mac.hex(":"))
        return _as_it_is(ip.get_links(index)[0])


def _create(ip: Any, wish: VxlanDevice, outer: int, mac: bytes) -> None:
    attributes: dict[str, Any] = {
        "vxlan_id": wish.vni,
        "vxlan_link": outer,
        "vxlan_local" if wish.local.version == 4 else "vxlan_local6": str(wish.local),
        "vxlan_learning": int(wish.learning),
    }
    if wish.port:
        attributes["vxlan_port"] = wish.port
    if wish.gbp:
        attributes["vxlan_gbp"] = True
    try:
        ip.link("add", ifname=wish.name, kind=KIND, address=mac.hex(":"), **attributes)
    except NetlinkError as error:
        if abs(error.code) in _NOT_SUPPORTED:
            raise NodeError(
                'this kernel has no vxlan; use the udp backend, which needs none: "Backend": {"Type": "udp"} in the '
                "network config"
            ) from error
        if abs(error.code) == errno.EEXIST:
            raise NodeError(
                f"another vxlan device has VNI {wish.vni} and this port; remove it (`ip -d link show type vxlan` lists "
                "them), or set another VNI in the Backend of the network config"
            ) from error
        raise NodeError(f"cannot make the vxlan device {wish.name}: {os.strerror(abs(error.code))}") from error


def _is_as_wanted(link: Any, wish: VxlanDevice, outer: int) -> bool:
    found = link.get_attr("IFLA_LINKINFO").get_attr("IFLA_INFO_DATA")
    local = found.get_attr("IFLA_VXLAN_LOCAL" if wish.local.version == 4 else "IFLA_VXLAN_LOCAL6")
    return (
        found.get_attr("IFLA_VXLAN_ID") == wish.vni
        and found.get_attr("IFLA_VXLAN_LINK") == outer
        and local == str(wish.local)
        and wish.port in (0, found.get_attr("IFLA_VXLAN_PORT"))
        and bool(found.get_attr("IFLA_VXLAN_LEARNING")) == wish.learning
        and (found.get_attr("IFLA_VXLAN_GBP") is not None) == wish.gbp
    )


def _as_it_is(link: Any) -> VxlanLink:
    data = link.get_attr("IFLA_LINKINFO").get_attr("IFLA_INFO_DATA")
    return VxlanLink(int(link["index"]), _mac(link), int(data.get_attr("IFLA_VXLAN_PORT")))


def _mac(link: Any) -> bytes:
    return bytes.fromhex(link.get_attr("IFLA_ADDRESS").replace(":", ""))


def _random_mac() -> bytes:
    """A unicast address of those that anybody may use (IEEE 802: the two low bits of the first byte are 1 and 0)."""
    first, *rest = secrets.token_bytes(6)
    return bytes([first & 0xFC | 0x02, *rest])
