"""Forget connections that the kernel tracks (include/uapi/linux/netfilter/nfnetlink_conntrack.h).

A UDP flow that began before its port mapping was made or removed is remembered without it, and the client's further
datagrams go where the memory says, into the void. So the entries of a mapped port are deleted when its mapping changes.
"""

from __future__ import annotations

from struct import Struct

from cni.lib.netlink import (
    NETLINK_NETFILTER,
    NFGENMSG,
    NetlinkError,
    NetlinkSocket,
    attribute,
    attribute_u32,
    nested,
    parse_attributes,
)

SUBSYSTEM_CTNETLINK = 1 << 8
IPCTNL_MSG_CT_GET = SUBSYSTEM_CTNETLINK | 1
IPCTNL_MSG_CT_DELETE = SUBSYSTEM_CTNETLINK | 2
CTA_TUPLE_ORIG = 1
CTA_FILTER = 25
CTA_TUPLE_PROTO = 2
CTA_PROTO_NUM = 1
CTA_PROTO_DST_PORT = 3
CTA_FILTER_ORIG_FLAGS = 1
# Which fields of the tuple count (net/netfilter/nf_internals.h): the protocol number and the destination port.
FILTER_BY_PORT = 1 << 3 | 1 << 5
IPPROTO_UDP = 17
ENOENT = 2

PORT = Struct("!H")


def forget_udp(of_family: int, ports: set[int]) -> None:
    """Delete the UDP entries whose original destination port is one of `ports`. Raises NetlinkError."""
    if not ports:
        return
    header = NFGENMSG.pack(of_family, 0, 0)
    with NetlinkSocket(NETLINK_NETFILTER) as netlink:
        for port in sorted(ports):
            for entry in netlink.dump(IPCTNL_MSG_CT_GET, header + _filter(port)):
                original = parse_attributes(entry[NFGENMSG.size :]).get(CTA_TUPLE_ORIG, b"")
                if _is_udp_to(original, port):
                    _delete(netlink, header + nested(CTA_TUPLE_ORIG, original))


def _filter(port: int) -> bytes:
    """Let the kernel pick the entries; one older than 5.8 sends them all."""
    protocol = attribute(CTA_PROTO_NUM, bytes([IPPROTO_UDP])) + attribute(CTA_PROTO_DST_PORT, PORT.pack(port))
    flags = attribute_u32(CTA_FILTER_ORIG_FLAGS, FILTER_BY_PORT)
    return nested(CTA_TUPLE_ORIG, nested(CTA_TUPLE_PROTO, protocol)) + nested(CTA_FILTER, flags)


def _is_udp_to(tuple_attributes: bytes, port: int) -> bool:
    protocol = parse_attributes(parse_attributes(tuple_attributes).get(CTA_TUPLE_PROTO, b""))
    return protocol.get(CTA_PROTO_NUM) == bytes([IPPROTO_UDP]) and protocol.get(CTA_PROTO_DST_PORT) == PORT.pack(port)


def _delete(netlink: NetlinkSocket, body: bytes) -> None:
    try:
        netlink.request(IPCTNL_MSG_CT_DELETE, body)
    except NetlinkError as error:
        if error.errno != ENOENT:  # it ran out in the meantime
            raise
