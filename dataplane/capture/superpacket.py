"""Datagrams that the kernel carries in one piece, cut into those that go on the wire.

With UDP_SEGMENT and UDP_GRO a row of datagrams with equal headers crosses a device as one frame, and a capture sees
that: one outer header, then the payloads of all (Linux Documentation/networking/segmentation-offloads.rst). Since the
payload of each of our datagrams is exactly one IP packet, whose header states its length, the seams can be found again.
"""

from collections.abc import Iterator

from dataplane.packets.packet import FAMILIES, IPV4, IPV6, V4_CHECKSUM, checksum, family_of, v4_header_len

_UDP_HEADER_LEN = 8
_TOTAL_LEN = {4: 2, 6: 4}
"""Where the IP header states the packet's length (IPv4) or the payload's (IPv6)."""


def outer_header_len(packet: memoryview) -> int:
    """Bytes of the outer headers of `packet`, which is UDP in IPv4 or in IPv6 without extension headers."""
    ip_header_len = v4_header_len(packet) if family_of(packet) is IPV4 else IPV6.header_len
    return ip_header_len + _UDP_HEADER_LEN


def wire_frames(frame: memoryview, link_len: int) -> Iterator[memoryview]:
    """Cut `frame`, whose outer IP header begins at `link_len`, into frames of one datagram each.

    A frame that holds one datagram already is passed on as it is; so are bytes that make no sense.
    """
    version = frame[link_len] >> 4
    header_len = link_len + (outer_header_len(frame[link_len:]) if version in FAMILIES else 0)
    inner_len = _stated_length(frame[header_len:])
    if version not in FAMILIES or not 0 < inner_len < len(frame) - header_len:
        yield frame
        return
    header = frame[:header_len]
    for number, at in enumerate(range(header_len, len(frame), inner_len)):
        yield _datagram(header, link_len, frame[at : at + inner_len], number)


def _datagram(header: memoryview, link_len: int, payload: memoryview, number: int) -> memoryview:
    """The frame of datagram `number`: lengths, and for IPv4 identification and checksum, as segmentation sets them."""
    frame = bytearray(header) + payload
    packet = memoryview(frame)[link_len:]
    family = family_of(packet)
    ip_header_len = outer_header_len(packet) - _UDP_HEADER_LEN
    udp_len = len(packet) - ip_header_len
    _put(packet, _TOTAL_LEN[family.version], len(packet) if family is IPV4 else udp_len)
    _put(packet, ip_header_len + 4, udp_len)
    if family is IPV4:
        identification = packet[4] << 8 | packet[5]
        _put(packet, 4, identification + number & 0xFFFF)
        _put(packet, V4_CHECKSUM, 0)
        _put(packet, V4_CHECKSUM, checksum(packet[:ip_header_len]))
    return memoryview(frame)


def _stated_length(inner: memoryview) -> int:
    """The length that an IP header states for its packet; 0 if there is no header."""
    if len(inner) >= IPV4.header_len and inner[0] >> 4 == 4:
        return inner[2] << 8 | inner[3]
    if len(inner) >= IPV6.header_len and inner[0] >> 4 == 6:
        return IPV6.header_len + (inner[4] << 8 | inner[5])
    return 0


def _put(packet: memoryview, at: int, value: int) -> None:
    packet[at : at + 2] = value.to_bytes(2)
