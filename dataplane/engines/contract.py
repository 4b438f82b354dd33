"""The Engine protocol: what decides about packets.

An engine gets a batch of packets and says what becomes of each: it fills `verdict`, `egress`, `next_hop` and
`tos`, lowers the TTL in place, and puts ICMP errors in the place of packets that deserve one. It does no I/O. There
are three, with the same answers to the same input:

- `python` takes one packet at a time and reads like the textbook; the others are tested against it
- `numpy` takes each step for the whole batch at once
- `native` does the same in C, and brings its own loop (`LoopEngine`) that runs without the interpreter lock

The rules, in the order in which they are applied:

Encapsulation (a packet read from the TUN):
1. the header is there and true: TRUNCATED, BAD_VERSION, BAD_HEADER, BAD_LENGTH
2. a lease covers the destination: else NO_ROUTE, ICMP net unreachable. Nobody owns an IPv4-mapped IPv6 address
3. TTL or hop limit above 1: else TTL_EXCEEDED, ICMP time exceeded
4. not larger than the path to that peer carries, or IPv4 without DF, which is cut into fragments (`packets.fragment`):
   else TOO_BIG, ICMP fragmentation needed or packet too big
5. TTL lowered by one (RFC 1624), outer TOS from the inner one (RFC 6040), FORWARDED to the UNDERLAY

What a path carries is what is configured or what was learned, but never less than `EngineConfig.least_mtu`: where the
kernel says less, the outer datagram goes without DF and is fragmented on its way (RFC 2473 7.2), so that nobody who
forges an ICMP error stops a pod.

Decapsulation (a datagram read from the underlay):
1. it comes from the address of a known lease: else UNKNOWN_SENDER
2. the header is there and true, as above
3. the inner source is one host's address and lies in the sender's lease: else FOREIGN_SOURCE
4. the inner destination lies in this node's own subnet of its family, and is not that subnet's broadcast address: else
   FOREIGN_DESTINATION
5. congestion marks of the outer header can be carried over (RFC 6040): else ECN_LOST
6. TTL or hop limit above 1: else TTL_EXCEEDED, ICMP time exceeded
7. ECN carried over, TTL lowered by one, FORWARDED to the TUN

A packet that is dropped, or quoted in an ICMP error, keeps the bytes that it came with. ICMP errors (see
`packets.icmp`) leave by the TUN: the host's own routes take them to a pod, or back into the overlay. The verdict stays
the drop's.

An engine's answer is not the last word: the underlay or the TUN may refuse a packet. So the loop counts a batch, by
`count`, when all is known of it.
"""

import ipaddress
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from dataplane.packets.batch import PacketBatch
from dataplane.packets.counters import Counters
from dataplane.packets.routes import RouteSnapshot
from dataplane.packets.verdicts import Direction

OFFLOADS = ("tso", "gso", "gro", "uso", "ports", "realtime")
"""What makes a loop fast, in the order of dp_feature in native/api.cdef.h:

- tso: the TUN hands out TCP super-packets of up to 64 KiB, checksums not computed yet
- gso: the UDP socket cuts one large send into datagrams (UDP_SEGMENT)
- gro: the UDP socket hands out runs of datagrams (UDP_GRO), and packets of a flow go into the TUN as one
- uso: the TUN hands out and takes super-packets of UDP
- ports: flows leave by different source ports, so that queues and routers on the way can spread them
- realtime: busy workers go before other programs, as the kernel's own packet processing does
"""


@dataclass(frozen=True, slots=True)
class LoopOptions:
    """How a LoopEngine works; other engines have no use for this."""

    batch: int = 0
    """Packets that a turn takes each way at most; 0 for the loop's own choice."""
    no_offload: frozenset[str] = frozenset()
    """Members of OFFLOADS that are not to be used."""
    busy_poll_us: int = 0
    """Microseconds that a worker without work looks for more before it sleeps."""


@dataclass(frozen=True, slots=True)
class EngineConfig:
    """What an engine needs to know of its node."""

    subnet4: ipaddress.IPv4Network | None
    """The node's own IPv4 subnet: what arrives has to be for it. Its first address is the TUN's, and the source of ICMP
    errors. None: no IPv4 packet is let in, and none is answered."""
    subnet6: ipaddress.IPv6Network | None
    """The same for IPv6."""
    mtu: int
    """Bytes of the largest inner packet, as long as nothing smaller was learned for a peer."""
    carry_tos: bool = True
    """Carry DSCP and ECN between inner and outer header (RFC 6040, normal mode). Off: outer TOS 0, inner untouched."""
    check_sender: bool = True
    """Accept a lease's packets only from its own underlay address. Off for peers behind NAT: any address, but the
    inner source must still lie in some peer's lease."""
    least_mtu: int = 0
    """Bytes of an inner packet that every path has to carry, whatever the kernel says of it."""
    icmp_rate: int = 1000
    """ICMP errors a second at most, in the long run."""
    icmp_burst: int = 50
    """ICMP errors that may go out at once."""
    loop: LoopOptions = LoopOptions()


@dataclass(frozen=True, slots=True)
class LearnedMtu:
    """What the kernel said of the path to a peer."""

    mtu: int
    """Bytes of the largest inner packet, less than is configured, and maybe less than `EngineConfig.least_mtu`."""
    since_ns: int
    """When it said so first, monotonic clock."""


class Engine(Protocol):
    """Decides about batches of packets. Used by one thread; any other may read `config`, the MTUs and `counters`.

    A LoopEngine is in use by its own threads, so there `set_routes` and `set_path_mtu` may be called by any thread too.
    """

    @property
    def config(self) -> EngineConfig:
        """What the engine was made with."""

    def set_routes(self, snapshot: RouteSnapshot) -> None:
        """Use these routes from the next batch on. Forgets path MTUs and counts of peers that are gone."""

    def set_path_mtu(self, peer: int, mtu: int, now_ns: int) -> None:
        """Note that peer id `peer` is reached with inner packets of `mtu` bytes at most; 0: as configured.

        Counts MTU_LEARNED when that is less than what was known.
        """

    def path_mtu(self, peer: int) -> int:
        """Bytes of the largest inner packet to peer id `peer`; not less than `least_mtu`."""

    def learned_mtu(self, peer: int) -> LearnedMtu | None:
        """What the kernel said of the path to peer id `peer`, if that is less than is configured."""

    def encapsulate(self, batch: PacketBatch, now_ns: int) -> None:
        """Decide about packets read from the TUN. `now_ns` is the monotonic clock, for the ICMP rate limit."""

    def decapsulate(self, batch: PacketBatch, now_ns: int) -> None:
        """Decide about datagrams read from the underlay (`source` and `tos` filled in)."""

    def fit_anew(self, batch: PacketBatch, i: int, now_ns: int) -> bool:
        """Decide once more whether and how packet `i`, encapsulated but refused by the underlay for its size, is sent.

        The path MTU of its peer must have been set before. Returns whether it is to be sent again; if not, it is
        TOO_BIG and answered, with the TTL step undone for the quote.
        """

    def count(self, direction: Direction, batch: PacketBatch, now_ns: int) -> None:
        """Count every packet of `batch` under its final verdict."""

    def counters(self) -> Counters:
        """Counts up to now; the caller may read them at any time and must not change them."""


@runtime_checkable
class PatientEngine(Protocol):
    """An engine that may wait for somebody in the middle of a batch."""

    def interrupt(self) -> None:
        """Wait no more, for good: the rest of the batch is decided about at once. Called by another thread."""


@runtime_checkable
class LoopEngine(Protocol):
    """An engine with a packet loop of its own, which works on file descriptors."""

    def run(self, tun_fd: int, udp_fd: int, stop_fd: int) -> None:
        """Move packets between the TUN and the UDP socket until `stop_fd` becomes readable.

        The descriptors are non-blocking and stay the caller's. The TUN may have been opened with a vnet header, which
        is what makes offloads possible. Raises OSError when a device is gone.
        """

    def features(self) -> dict[str, str]:
        """The members of OFFLOADS, each as `on` or `off (why)`, and the variant of the checksum."""
