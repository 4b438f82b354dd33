"""Network interfaces through rtnetlink: find, make, change, remove (include/uapi/linux/if_link.h).

Every function takes the NetlinkSocket of the namespace to work in. A link is named by its index once it is known,
since names can change hands.
"""

from __future__ import annotations

from struct import Struct

from cni.lib.lean import os
from cni.lib.netlink import (
    NLM_F_CREATE,
    NLM_F_EXCL,
    U32,
    NetlinkError,
    NetlinkSocket,
    attribute,
    attribute_text,
    attribute_u32,
    list_attributes,
    nested,
    parse_attributes,
    text,
)

ENODEV = 19
EINVAL = 22
ERANGE = 34

RTM_NEWLINK = 16
RTM_DELLINK = 17
RTM_GETLINK = 18
RTM_SETLINK = 19

IFF_UP = 0x1
IFF_LOOPBACK = 0x8
IFF_PROMISC = 0x100
IFF_ALLMULTI = 0x200

IFLA_ADDRESS = 1
IFLA_IFNAME = 3
IFLA_MTU = 4
IFLA_LINK = 5
IFLA_MASTER = 10
IFLA_TXQLEN = 13
IFLA_OPERSTATE = 16
IFLA_LINKINFO = 18
IFLA_IFALIAS = 20
IFLA_NET_NS_FD = 28
IFLA_PROMISCUITY = 30
IFLA_LINK_NETNSID = 37
IFLA_GSO_MAX_SIZE = 41
IFLA_PROP_LIST = 52
IFLA_ALT_IFNAME = 53
IFLA_GSO_IPV4_MAX_SIZE = 63
IFLA_INFO_KIND = 1
IFLA_INFO_DATA = 2
IFLA_INFO_SLAVE_KIND = 4
IFLA_INFO_SLAVE_DATA = 5
VETH_INFO_PEER = 1
IFLA_BRPORT_MODE = 4
IFLA_BRPORT_ISOLATED = 33

OPERSTATES = ("unknown", "not-present", "down", "lower-layer-down", "testing", "dormant", "up")

LONGEST_NAME = 15  # bytes
MAC_BYTES = 6
HARDWARE_ADDRESS_BYTES = (MAC_BYTES, 8, 20)  # Ethernet, EUI-64, InfiniBand
HEX_DIGITS = frozenset("0123456789abcdefABCDEF")

IFINFOMSG = Struct("=BxHiII")  # family, device type, index, flags, mask of the flags that count


def ifinfomsg(index: int = 0, flags: int = 0, change: int = 0, family: int = 0) -> bytes:
    """The fixed part of a link message."""
    return IFINFOMSG.pack(family, 0, index, flags, change)


def format_mac(mac: bytes) -> str:
    """aa:bb:cc:dd:ee:ff"""
    return ":".join(f"{byte:02x}" for byte in mac)


def parse_mac(mac: str, lengths: tuple[int, ...] = (MAC_BYTES,)) -> bytes | None:
    """The bytes of a hardware address as Go reads it (c2:00:00:00:00:01, c2-..., c200.0000.0001), or None.

    `lengths` are the numbers of bytes that it may have.
    """
    for separator, n_digits in ((":", 2), ("-", 2), (".", 4)):
        parts = mac.split(separator)
        if len(parts) * n_digits // 2 in lengths and all(len(part) == n_digits for part in parts):
            return bytes.fromhex("".join(parts)) if HEX_DIGITS.issuperset(mac.replace(separator, "")) else None
    return None


def random_mac() -> bytes:
    """A locally administered unicast address, as the kernel would draw it.

    An address that is given when the link is made stays: neither the kernel nor udev's MACAddressPolicy changes it.
    """
    mac = bytearray(os.urandom(6))
    mac[0] = (mac[0] & 0xFE) | 0x02
    return bytes(mac)


class Link:
    """An interface as the kernel described it at one moment."""

    __slots__ = ("attributes", "flags", "index", "info", "name")

    def __init__(self, message: bytes) -> None:
        _, _, self.index, self.flags, _ = IFINFOMSG.unpack_from(message)
        self.attributes = parse_attributes(message[IFINFOMSG.size :])
        self.info = parse_attributes(self.attributes.get(IFLA_LINKINFO, b""))
        self.name = text(self.attributes.get(IFLA_IFNAME, b""))

    def _number(self, kind: int) -> int:
        value = self.attributes.get(kind, b"")
        return int(U32.unpack_from(value)[0]) if len(value) >= 4 else 0

    @property
    def kind(self) -> str:
        """`bridge`, `veth` ..., empty for a physical device."""
        return text(self.info.get(IFLA_INFO_KIND, b""))

    @property
    def data(self) -> dict[int, bytes]:
        """The attributes of its kind alone."""
        return parse_attributes(self.info.get(IFLA_INFO_DATA, b""))

    @property
    def address(self) -> bytes:
        """The hardware address."""
        return self.attributes.get(IFLA_ADDRESS, b"")

    @property
    def mac(self) -> str:
        """The hardware address as text."""
        return format_mac(self.address)

    @property
    def alternative_names(self) -> list[str]:
        """Further names, which can be longer."""
        properties = list_attributes(self.attributes.get(IFLA_PROP_LIST, b""))
        return [text(value) for kind, value in properties if kind == IFLA_ALT_IFNAME]

    @property
    def mtu(self) -> int:
        """The MTU in bytes."""
        return self._number(IFLA_MTU)

    @property
    def master(self) -> int:
        """Index of the bridge that this is a port of, 0 if none."""
        return self._number(IFLA_MASTER)

    @property
    def peer(self) -> int:
        """Of a veth: its partner's index, in the partner's namespace."""
        return self._number(IFLA_LINK)

    @property
    def tx_queue_len(self) -> int:
        """Length of the transmit queue in packets."""
        return self._number(IFLA_TXQLEN)

    @property
    def promiscuous(self) -> bool:
        """Whether the operator's own switch is on; ports of a bridge count as promiscuous besides."""
        return bool(self.flags & IFF_PROMISC)

    @property
    def up(self) -> bool:
        """Whether the administrator has switched it on."""
        return bool(self.flags & IFF_UP)

    @property
    def operstate(self) -> str:
        """Whether packets can pass, as RFC 2863 names it."""
        state = self.attributes.get(IFLA_OPERSTATE, b"\0")[0]
        return OPERSTATES[state] if state < len(OPERSTATES) else "unknown"


def find_link(netlink: NetlinkSocket, name: str = "", index: int = 0) -> Link | None:
    """The link with this name or this index, or None. What is too long for a name may be an alternative one."""
    kind = IFLA_IFNAME if len(name.encode("utf-8", "replace")) <= LONGEST_NAME else IFLA_ALT_IFNAME
    body = ifinfomsg(index) + (attribute_text(kind, name) if name else b"")
    try:
        return Link(netlink.request(RTM_GETLINK, body)[0])
    except NetlinkError as error:
        if error.errno in (ENODEV, ERANGE):  # ERANGE: longer than any name can be
            return None
        if error.errno == EINVAL and kind == IFLA_ALT_IFNAME:  # a kernel that knows no alternative names
            return None
        raise


def get_link(netlink: NetlinkSocket, name: str) -> Link:
    """The link with this name. Raises LookupError in the words of Go's netlink library."""
    link = find_link(netlink, name)
    if link is None:
        raise LookupError("Link not found")
    return link


def list_links(netlink: NetlinkSocket, kind: str = "", master: int = 0) -> list[Link]:
    """The links of this kind and with this master; the kernel does the filtering where it can."""
    body = ifinfomsg()
    if kind:
        body += nested(IFLA_LINKINFO, attribute_text(IFLA_INFO_KIND, kind))
    if master:
        body += attribute_u32(IFLA_MASTER, master)
    links = [Link(message) for message in netlink.dump(RTM_GETLINK, body)]
    return [link for link in links if (not kind or link.kind == kind) and (not master or link.master == master)]


def add_link(
    netlink: NetlinkSocket, name: str, link_kind: str, *attributes: bytes, up: bool = False, data: bytes = b""
) -> None:
    """Make a link; `data` are the attributes of its kind alone. Raises NetlinkError (EEXIST: the name is taken)."""
    flags = IFF_UP if up else 0
    info = [attribute_text(IFLA_INFO_KIND, link_kind)]
    if data:
        info.append(nested(IFLA_INFO_DATA, data))
    body = ifinfomsg(0, flags, flags) + attribute_text(IFLA_IFNAME, name) + b"".join(attributes)
    netlink.request(RTM_NEWLINK, body + nested(IFLA_LINKINFO, *info), NLM_F_CREATE | NLM_F_EXCL)


def add_veth(
    netlink: NetlinkSocket,
    name: str,
    *attributes: bytes,
    peer: str,
    peer_netns: int | None = None,
    peer_attributes: bytes = b"",
) -> None:
    """Make a veth pair, both ends down, the other (`peer`) born inside the namespace of the descriptor `peer_netns`.

    Without a descriptor both ends are in the socket's namespace.
    """
    other = ifinfomsg() + attribute_text(IFLA_IFNAME, peer)
    if peer_netns is not None:
        other += attribute_u32(IFLA_NET_NS_FD, peer_netns)
    add_link(netlink, name, "veth", *attributes, data=nested(VETH_INFO_PEER, other + peer_attributes))


def set_link(netlink: NetlinkSocket, index: int, *attributes: bytes, flags: int = 0, change: int = 0) -> None:
    """Change attributes of a link, and of its flags those in `change`."""
    netlink.request(RTM_SETLINK, ifinfomsg(index, flags, change) + b"".join(attributes))


def set_up(netlink: NetlinkSocket, index: int) -> None:
    """ip link set dev X up"""
    set_link(netlink, index, flags=IFF_UP, change=IFF_UP)


def set_down(netlink: NetlinkSocket, index: int) -> None:
    """ip link set dev X down"""
    set_link(netlink, index, change=IFF_UP)


def delete_link(netlink: NetlinkSocket, name: str = "", index: int = 0) -> bool:
    """Remove a link, its veth partner with it. Gives False when there was none."""
    body = ifinfomsg(index) + (attribute_text(IFLA_IFNAME, name) if name else b"")
    try:
        netlink.request(RTM_DELLINK, body)
    except NetlinkError as error:
        if error.errno == ENODEV:
            return False
        raise
    return True


def set_bridge_port(netlink: NetlinkSocket, index: int, hairpin: bool, isolated: bool) -> None:
    """Set the switches of a bridge's port."""
    switches = attribute(IFLA_BRPORT_MODE, bytes([hairpin])) + attribute(IFLA_BRPORT_ISOLATED, bytes([isolated]))
    info = nested(IFLA_LINKINFO, attribute_text(IFLA_INFO_SLAVE_KIND, "bridge"), nested(IFLA_INFO_SLAVE_DATA, switches))
    netlink.request(RTM_NEWLINK, ifinfomsg(index) + info)
