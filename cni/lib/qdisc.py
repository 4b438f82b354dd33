"""Traffic control through rtnetlink: a token bucket on a link, and a link's incoming traffic sent through another.

Linux shapes what leaves an interface. What arrives is shaped by sending it through an ifb device first (an
intermediate functional block): the ingress qdisc takes it, a filter that matches everything redirects it, and the
token bucket is on the ifb. Sources: include/uapi/linux/pkt_sched.h, pkt_cls.h, tc_act/tc_mirred.h; tc-tbf(8).
"""

from __future__ import annotations

from struct import Struct

from cni.lib.netlink import (
    NLM_F_CREATE,
    NLM_F_EXCL,
    NetlinkError,
    NetlinkSocket,
    attribute,
    attribute_text,
    attribute_u32,
    nested,
    parse_attributes,
    text,
)
from cni.lib.store import read_file

RTM_NEWQDISC = 36
RTM_DELQDISC = 37
RTM_GETQDISC = 38
RTM_NEWTFILTER = 44

TC_H_ROOT = 0xFFFFFFFF
TC_H_INGRESS = 0xFFFFFFF1
INGRESS_HANDLE = 0xFFFF0000
ROOT_HANDLE = 1 << 16  # 1:
ALL_PROTOCOLS_FIRST = 1 << 16 | 0x0300  # priority 1, and ETH_P_ALL in network order

TCA_KIND = 1
TCA_OPTIONS = 2
TCA_TBF_PARMS = 1
TCA_TBF_RATE64 = 4
TCA_U32_CLASSID = 1
TCA_U32_SEL = 5
TCA_U32_ACT = 7
TCA_ACT_KIND = 1
TCA_ACT_OPTIONS = 2
TCA_MIRRED_PARMS = 2
TC_U32_TERMINAL = 1
TC_ACT_STOLEN = 4
TCA_EGRESS_REDIR = 1
ENOENT = 2
EINVAL = 22

TCMSG = Struct("=BxxxiIII")  # family, interface index, handle, parent, info
RATE = Struct("=BBHhHI")  # cell log, link layer, overhead, cell alignment, mpu, bytes a second
TBF_TAIL = Struct("=III")  # limit in bytes, bucket in ticks, mtu
RATE64 = Struct("=Q")
U32_SELECTOR = Struct("=BBBxHHhhI")  # flags, shifts, number of keys, offsets, hash mask
U32_KEY = Struct("=IIii")  # mask, value, offset, offset mask
MIRRED = Struct("=IIiiiiI")  # index, capabilities, action, two counts, what to do, interface

MICROSECONDS = 1_000_000
LATENCY_MICROSECONDS = 25_000  # how long a packet may wait in the bucket's queue
U32_LIMIT = (1 << 32) - 1


class TokenBucket:
    """A token bucket filter: `rate` and `limit` in bytes (a second), `buffer` in the kernel's ticks."""

    def __init__(self, rate: int, limit: int, buffer: int) -> None:
        self.rate = rate
        self.limit = limit
        self.buffer = buffer

    @classmethod
    def of(cls, rate_bits: int, burst_bits: int) -> TokenBucket:
        """The bucket for a rate in bits a second and a burst in bits, by the official plugin's arithmetic."""
        rate, burst = rate_bits // 8, burst_bits // 8
        buffer = int(int(burst * MICROSECONDS / rate) * _ticks_per_microsecond())
        limit = int(rate * LATENCY_MICROSECONDS / MICROSECONDS) + burst
        return cls(rate, min(limit, U32_LIMIT), min(buffer, U32_LIMIT))

    @classmethod
    def read(cls, options: bytes) -> TokenBucket:
        """A bucket as the kernel describes it."""
        found = parse_attributes(options)
        parameters = found[TCA_TBF_PARMS]
        rate = RATE.unpack_from(parameters)[-1]
        if TCA_TBF_RATE64 in found:
            rate = RATE64.unpack(found[TCA_TBF_RATE64])[0]
        limit, buffer, _ = TBF_TAIL.unpack_from(parameters, 2 * RATE.size)
        return cls(rate, limit, buffer)

    def options(self) -> bytes:
        """The bucket as the kernel takes it."""
        rate = RATE.pack(0, 0, 0, 0, 0, min(self.rate, U32_LIMIT))
        parameters = attribute(TCA_TBF_PARMS, rate + bytes(RATE.size) + TBF_TAIL.pack(self.limit, self.buffer, 0))
        return parameters + (attribute(TCA_TBF_RATE64, RATE64.pack(self.rate)) if self.rate > U32_LIMIT else b"")


def _ticks_per_microsecond() -> float:
    """The kernel's clock for traffic control, from /proc/net/psched."""
    numerator, denominator, resolution = (int(word, 16) for word in (read_file("/proc/net/psched") or b"").split()[:3])
    return numerator / denominator * (resolution / MICROSECONDS)


def ticks(seconds: float) -> int:
    """A time in ticks of the kernel's clock for traffic control."""
    return int(seconds * MICROSECONDS * _ticks_per_microsecond())


def add_token_bucket(netlink: NetlinkSocket, index: int, bucket: TokenBucket) -> None:
    """Shape what leaves a link. Raises NetlinkError (EEXIST: it is shaped already)."""
    body = TCMSG.pack(0, index, ROOT_HANDLE, TC_H_ROOT, 0) + attribute_text(TCA_KIND, "tbf")
    netlink.request(RTM_NEWQDISC, body + nested(TCA_OPTIONS, bucket.options()), NLM_F_CREATE | NLM_F_EXCL)


def token_buckets(netlink: NetlinkSocket, index: int) -> list[TokenBucket] | None:
    """The token buckets of a link, None if it has no qdisc at all."""
    messages = [
        m for m in netlink.dump(RTM_GETQDISC, TCMSG.pack(0, index, 0, 0, 0)) if TCMSG.unpack_from(m)[1] == index
    ]
    found = [parse_attributes(message[TCMSG.size :]) for message in messages]
    kinds = [(text(attributes.get(TCA_KIND, b"")), attributes) for attributes in found]
    if not any(kind for kind, _ in kinds):
        return None
    return [TokenBucket.read(attributes[TCA_OPTIONS]) for kind, attributes in kinds if kind == "tbf"]


def remove_root(netlink: NetlinkSocket, index: int) -> None:
    """Shape a link no more. It may not have been shaped."""
    _delete(netlink, TCMSG.pack(0, index, ROOT_HANDLE, TC_H_ROOT, 0))


def redirect_ingress(netlink: NetlinkSocket, index: int, target: int) -> None:
    """Send everything that arrives at one link out of another, the `target`. Raises NetlinkError."""
    qdisc = TCMSG.pack(0, index, INGRESS_HANDLE, TC_H_INGRESS, 0) + attribute_text(TCA_KIND, "ingress")
    netlink.request(RTM_NEWQDISC, qdisc, NLM_F_CREATE | NLM_F_EXCL)
    everything = U32_SELECTOR.pack(TC_U32_TERMINAL, 0, 1, 0, 0, 0, 0, 0) + U32_KEY.pack(0, 0, 0, 0)
    redirect = MIRRED.pack(0, 0, TC_ACT_STOLEN, 0, 0, TCA_EGRESS_REDIR, target)
    action = attribute_text(TCA_ACT_KIND, "mirred") + nested(TCA_ACT_OPTIONS, attribute(TCA_MIRRED_PARMS, redirect))
    options = nested(
        TCA_OPTIONS,
        attribute_u32(TCA_U32_CLASSID, 1 << 16 | 1),
        attribute(TCA_U32_SEL, everything),
        nested(TCA_U32_ACT, nested(1, action)),
    )
    header = TCMSG.pack(0, index, 0, INGRESS_HANDLE, ALL_PROTOCOLS_FIRST)
    body = header + attribute_text(TCA_KIND, "u32") + options
    netlink.request(RTM_NEWTFILTER, body, NLM_F_CREATE | NLM_F_EXCL)


def remove_ingress(netlink: NetlinkSocket, index: int) -> None:
    """Take arriving traffic as usual again. It may not have been redirected."""
    _delete(netlink, TCMSG.pack(0, index, INGRESS_HANDLE, TC_H_INGRESS, 0))


def _delete(netlink: NetlinkSocket, body: bytes) -> None:
    try:
        netlink.request(RTM_DELQDISC, body)
    except NetlinkError as error:
        if error.errno not in (ENOENT, EINVAL):
            raise
