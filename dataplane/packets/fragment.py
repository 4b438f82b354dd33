"""Cutting an IPv4 packet into fragments, as a router does when the next network is too narrow (RFC 791 3.2).

Only the IPv4 packets whose sender did not forbid it by DF are cut; an IPv6 packet is cut by its sender or not at all.

    packet      header (with options)   data
    fragments   header                  data[0:n]      MF
                header, options copied  data[n:2n]     MF
                header, options copied  data[2n:]      MF if the packet had it, being a fragment itself

The identification stays, and the offset counts from the packet's own. Options whose copied flag is not set belong
into the first fragment alone; in the others they become no-operations, so that all headers have one length and all
fragments but the last one size. The header checksum is moved along with the words that change (RFC 1624): one that was
wrong stays wrong.
"""

from collections.abc import Sequence

from dataplane.packets.batch import PacketBatch
from dataplane.packets.packet import IPV4, family_of, set_byte, set_word, v4_header_len, word

V4_TOTAL_LENGTH, V4_FRAGMENT = 2, 6
"""Where these words of the header lie."""

DONT_FRAGMENT, MORE_FRAGMENTS, OFFSET = 0x4000, 0x2000, 0x1FFF
"""What the second has: two flags, and the offset in units of eight bytes."""

UNIT = 8
MAX_DATA = 65535
"""Bytes of data that offsets can tell apart."""

END_OF_OPTIONS, NO_OPERATION, COPIED = 0, 1, 0x80


def may_fragment(packet: memoryview, mtu: int) -> bool:
    """Whether a packet with a good header may and can be cut into fragments of at most `mtu` bytes."""
    if family_of(packet) is not IPV4:
        return False
    flags, header_len = word(packet, V4_FRAGMENT), v4_header_len(packet)
    end = (flags & OFFSET) * UNIT + len(packet) - header_len
    return not flags & DONT_FRAGMENT and mtu >= header_len + UNIT and end <= MAX_DATA


def fragments(packet: memoryview, mtu: int) -> list[bytes]:
    """The fragments of a packet that `may_fragment`, none larger than `mtu` bytes."""
    header_len = v4_header_len(packet)
    header, data = packet[:header_len], packet[header_len:]
    step = (mtu - header_len) // UNIT * UNIT
    return [
        bytes(_fragment_header(header, at, min(step, len(data) - at), at + step < len(data))) + data[at : at + step]
        for at in range(0, len(data), step)
    ]


def pieces(batch: PacketBatch, i: int) -> Sequence[bytes | memoryview]:
    """What packet `i` is sent as: one datagram's payload each."""
    packet = batch.packet(i)
    return fragments(packet, batch.fragment_len[i]) if batch.fragment_len[i] else [packet]


def _fragment_header(header: memoryview, at: int, data_len: int, more: bool) -> bytearray:
    """The header of the fragment with the `data_len` bytes from `at` on."""
    own = bytearray(header)
    view = memoryview(own)
    flags = word(view, V4_FRAGMENT) + at // UNIT
    set_word(view, V4_TOTAL_LENGTH, len(own) + data_len)
    set_word(view, V4_FRAGMENT, flags | MORE_FRAGMENTS if more else flags)
    if at > 0:
        _blank_options(view)
    return own


def _blank_options(header: memoryview) -> None:
    """Make no-operations of the options that are not for later fragments; behind one that is cut short, all stays."""
    at = IPV4.header_len
    while at < len(header) and header[at] != END_OF_OPTIONS:
        if header[at] == NO_OPERATION:
            at += 1
            continue
        option_len = header[at + 1] if at + 1 < len(header) else 0
        if option_len < 2 or at + option_len > len(header):
            return
        if not header[at] & COPIED:
            for place in range(at, at + option_len):
                set_byte(header, place, NO_OPERATION)
        at += option_len
