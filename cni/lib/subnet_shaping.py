"""A token bucket for some subnets of a link's traffic alone: which ones, by the address at the pod's other end.

    htb 1:  --- u32 filters, one a subnet ---> the class that is not the default
       1:1  not limited
       1:30 limited, and its queue no longer than a token bucket's alone (see cni.lib.qdisc)

With `shaped` subnets all others are not limited; with `unshaped` ones all others are. What is no IP packet goes as the
others do. Sources: include/uapi/linux/pkt_sched.h, pkt_cls.h; tc-htb(8), tc-u32(8).
"""

from __future__ import annotations

import sys
from struct import Struct

from cni.lib.ip import IPNet, number
from cni.lib.netlink import (
    NLM_F_CREATE,
    NLM_F_EXCL,
    U32,
    NetlinkError,
    NetlinkSocket,
    attribute,
    attribute_text,
    attribute_u32,
    nested,
    parse_attributes,
    text,
)
from cni.lib.qdisc import (
    RATE,
    RATE64,
    RTM_GETQDISC,
    RTM_NEWQDISC,
    RTM_NEWTFILTER,
    TC_H_ROOT,
    TC_U32_TERMINAL,
    TCA_KIND,
    TCA_OPTIONS,
    TCA_U32_CLASSID,
    TCA_U32_SEL,
    TCMSG,
    U32_LIMIT,
    U32_SELECTOR,
    TokenBucket,
    remove_root,
    ticks,
)

RTM_NEWTCLASS = 40
RTM_GETTCLASS = 42
RTM_GETTFILTER = 46
TCA_HTB_PARMS = 1
TCA_HTB_INIT = 2
TCA_HTB_RATE64 = 6
TCA_HTB_CEIL64 = 7
HTB_GLOBAL = Struct("=IIIII")  # version, rate to quantum, default class, debug, packets that no class took
HTB_VERSION = 3
HTB_TAIL = Struct("=IIIII")  # bucket and bucket of the ceiling in ticks, quantum in bytes, level, priority
U32_OFFSET = Struct("=ii")  # what follows a key's mask and value: offset, and the mask of a variable one

ROOT = 1 << 16  # 1:
UNLIMITED, LIMITED = ROOT | 0x1, ROOT | 0x30
LEAF = 0x30 << 16
UNLIMITED_RATE = 100_000_000_000 // 8  # bytes a second
UNLIMITED_BURST_SECONDS = 0.01
QUANTUM = 60_000
PROTOCOLS = {4: 0x0800, 16: 0x86DD}
"""Ethernet types by the length of an address."""
OFFSETS = {(4, "source"): 12, (4, "destination"): 16, (16, "source"): 8, (16, "destination"): 24}
"""Where an address begins in its IP header."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Literal

    End = Literal["source", "destination"]
    Filter = tuple[int, int, tuple[tuple[bytes, bytes, int], ...]]


class Subnets:
    """Which subnets are limited, or all but which; none of either limits everything."""

    def __init__(self, shaped: list[IPNet], unshaped: list[IPNet]) -> None:
        self.nets = [net.network for net in shaped or unshaped]
        self.default, self.listed = (UNLIMITED, LIMITED) if shaped else (LIMITED, UNLIMITED)

    def __bool__(self) -> bool:
        return bool(self.nets)


def add(netlink: NetlinkSocket, index: int, bucket: TokenBucket, subnets: Subnets, end: End) -> None:
    """Limit what leaves a link and has its `end` in the subnets, or outside of them.

    Raises NetlinkError, and has changed nothing then.
    """
    flags = NLM_F_CREATE | NLM_F_EXCL
    init = attribute(TCA_HTB_INIT, HTB_GLOBAL.pack(HTB_VERSION, 10, subnets.default & 0xFFFF, 0, 0))
    header = TCMSG.pack(0, index, ROOT, TC_H_ROOT, 0) + attribute_text(TCA_KIND, "htb")
    netlink.request(RTM_NEWQDISC, header + nested(TCA_OPTIONS, init), flags)
    try:
        _add_classes(netlink, index, bucket)
        for net in subnets.nets:
            netlink.request(RTM_NEWTFILTER, _filter(index, net, subnets.listed, end), flags)
    except NetlinkError:
        remove_root(netlink, index)
        raise


def _add_classes(netlink: NetlinkSocket, index: int, bucket: TokenBucket) -> None:
    flags = NLM_F_CREATE | NLM_F_EXCL
    unlimited_burst = ticks(UNLIMITED_BURST_SECONDS)
    for handle, rate, burst in ((UNLIMITED, UNLIMITED_RATE, unlimited_burst), (LIMITED, bucket.rate, bucket.buffer)):
        header = TCMSG.pack(0, index, handle, ROOT, 0) + attribute_text(TCA_KIND, "htb")
        netlink.request(RTM_NEWTCLASS, header + nested(TCA_OPTIONS, _class_options(rate, burst)), flags)
    header = TCMSG.pack(0, index, LEAF, LIMITED, 0) + attribute_text(TCA_KIND, "bfifo")
    netlink.request(RTM_NEWQDISC, header + attribute_u32(TCA_OPTIONS, bucket.limit), flags)


def _class_options(rate: int, burst: int) -> bytes:
    spec = RATE.pack(0, 0, 0, 0, 0, min(rate, U32_LIMIT))
    options = attribute(TCA_HTB_PARMS, spec + spec + HTB_TAIL.pack(burst, burst, QUANTUM, 0, 0))
    if rate > U32_LIMIT:
        options += attribute(TCA_HTB_RATE64, RATE64.pack(rate)) + attribute(TCA_HTB_CEIL64, RATE64.pack(rate))
    return options


def _keys(net: IPNet, end: End) -> list[tuple[bytes, bytes, int]]:
    """Mask, value and offset of each 32-bit word that counts, the first of a default route's too."""
    length = len(net.ip)
    bits = length * 8
    mask = ((1 << bits) - (1 << net.host_bits)).to_bytes(length, "big")
    value = number(net.ip).to_bytes(length, "big")
    words = max(1, -(-net.prefix_len // 32))
    offset = OFFSETS[length, end]
    return [(mask[4 * i : 4 * i + 4], value[4 * i : 4 * i + 4], offset + 4 * i) for i in range(words)]


def _filter(index: int, net: IPNet, target: int, end: End) -> bytes:
    keys = _keys(net, end)
    selector = U32_SELECTOR.pack(TC_U32_TERMINAL, 0, len(keys), 0, 0, 0, 0, 0)
    for mask, value, offset in keys:
        selector += mask + value + U32_OFFSET.pack(offset, 0)
    options = nested(TCA_OPTIONS, attribute_u32(TCA_U32_CLASSID, target), attribute(TCA_U32_SEL, selector))
    return TCMSG.pack(0, index, 0, ROOT, _priority(net)) + attribute_text(TCA_KIND, "u32") + options


def _priority(net: IPNet) -> int:
    """A priority for each family, since one takes filters of one protocol alone, and the protocol in network order."""
    protocol = PROTOCOLS[len(net.ip)]
    return (1 if len(net.ip) == 4 else 2) << 16 | int.from_bytes(protocol.to_bytes(2, "big"), sys.byteorder)


def problem(netlink: NetlinkSocket, index: int, bucket: TokenBucket, subnets: Subnets, end: End) -> str:
    """What is not as `add` has made it, empty if everything is."""
    ask = TCMSG.pack(0, index, 0, 0, 0)
    qdiscs = [parse_attributes(m[TCMSG.size :]) for m in netlink.dump(RTM_GETQDISC, ask) if _index(m) == index]
    roots = [found for found in qdiscs if text(found.get(TCA_KIND, b"")) == "htb"]
    if len(roots) != 1:
        return "Failed to find qdisc"
    init = parse_attributes(roots[0][TCA_OPTIONS]).get(TCA_HTB_INIT, b"")
    if HTB_GLOBAL.unpack_from(init)[2] != subnets.default & 0xFFFF:
        return "Default class does not match"
    classes = {TCMSG.unpack_from(m)[2]: m for m in netlink.dump(RTM_GETTCLASS, ask)}
    if LIMITED not in classes or UNLIMITED not in classes:
        return "Number of htb classes does not match"
    rate, buffer = _read_class(classes[LIMITED])
    if rate != bucket.rate:
        return "Rate doesn't match"
    if buffer != bucket.buffer:
        return "Buffer doesn't match"
    present = set(filter(None, map(_read_filter, netlink.dump(RTM_GETTFILTER, TCMSG.pack(0, index, 0, ROOT, 0)))))
    wanted = {(_priority(net), subnets.listed, tuple(_keys(net, end))) for net in subnets.nets}
    return "" if present == wanted else "Subnets don't match"


def _index(message: bytes) -> int:
    return int(TCMSG.unpack_from(message)[1])


def _read_class(message: bytes) -> tuple[int, int]:
    """The rate in bytes a second and the bucket in ticks."""
    options = parse_attributes(parse_attributes(message[TCMSG.size :])[TCA_OPTIONS])
    parameters = options[TCA_HTB_PARMS]
    rate = RATE.unpack_from(parameters)[-1]
    if TCA_HTB_RATE64 in options:
        rate = RATE64.unpack(options[TCA_HTB_RATE64])[0]
    return rate, HTB_TAIL.unpack_from(parameters, 2 * RATE.size)[0]


def _read_filter(message: bytes) -> Filter | None:
    """Priority and protocol, target, and keys; None for a filter's hash table."""
    attributes = parse_attributes(message[TCMSG.size :])
    options = parse_attributes(attributes.get(TCA_OPTIONS, b""))
    if TCA_U32_SEL not in options or TCA_U32_CLASSID not in options:
        return None
    selector = options[TCA_U32_SEL]
    count = U32_SELECTOR.unpack_from(selector)[2]
    keys = [selector[U32_SELECTOR.size + 16 * i :][:16] for i in range(count)]
    read = tuple((key[:4], key[4:8], U32_OFFSET.unpack_from(key, 8)[0]) for key in keys)
    return TCMSG.unpack_from(message)[4], U32.unpack(options[TCA_U32_CLASSID])[0], read
