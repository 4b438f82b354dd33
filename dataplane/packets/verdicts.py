"""The outcomes of a packet and the other things that are counted: the one list of them.

Everything that names an outcome is made from this file: the Python engines use the enums, the build of the
C extension writes them out as a C header (see native/build_ffi.py), the counters, `udplane status` and the
documentation take names and descriptions from here. To add an outcome, add one line.

A packet that was read from the TUN or from the underlay ends in exactly one verdict, so for each direction
the packets read equal the sum over all verdicts.
"""

from enum import IntEnum
from typing import Self


class _Described(IntEnum):
    """An IntEnum whose members carry a sentence for people: `MEMBER = number, "sentence"`."""

    description: str

    def __new__(cls, number: int, description: str = "") -> Self:
        member = int.__new__(cls, number)
        member._value_ = number
        member.description = description
        return member


class Direction(_Described):
    """The way a packet takes through the node."""

    ENCAP = 0, "from the TUN into the underlay"
    DECAP = 1, "from the underlay into the TUN"


class Verdict(_Described):
    """What became of a packet. All but FORWARDED are drops."""

    FORWARDED = 0, "sent on its way"
    TRUNCATED = 1, "shorter than the header that it starts with"
    BAD_VERSION = 2, "neither IPv4 nor IPv6"
    BAD_HEADER = 3, "IPv4 header length below 20 bytes, or a vnet header that does not fit the packet"
    BAD_LENGTH = 4, "the length in the header is not the length of the packet"
    NO_ROUTE = 5, "no lease covers the destination"
    TTL_EXCEEDED = 6, "TTL or hop limit ran out here"
    TOO_BIG = 7, "larger than the path to the peer carries"
    UNKNOWN_SENDER = 8, "datagram from an address that holds no lease"
    FOREIGN_SOURCE = 9, "inner source address outside the sender's lease"
    FOREIGN_DESTINATION = 10, "inner destination outside this node's own lease"
    ECN_LOST = 11, "congestion marked on the way, but the inner packet cannot say so (RFC 6040)"
    SEND_FAILED = 12, "the underlay socket refused the datagram"
    WRITE_FAILED = 13, "the TUN device refused the packet"


class Event(_Described):
    """Things counted beside the verdicts."""

    ICMP_SENT = 0, "ICMP errors sent"
    ICMP_UNFIT = 1, "ICMP errors not sent because nothing may or can be said to the source"
    ICMP_LIMITED = 2, "ICMP errors held back by the rate limit"
    MTU_LEARNED = 3, "path MTUs learned from the kernel"
    FRAGMENTED = 4, "IPv4 packets cut into fragments, since their path is narrower and they allow it"
    SENT_WITHOUT_DF = 5, "packets sent for the underlay to fragment, since their path carries less than it has to"


class Egress(IntEnum):
    """Where the bytes of a batch slot go after an engine has seen them."""

    NONE = 0
    UNDERLAY = 1
    TUN = 2
