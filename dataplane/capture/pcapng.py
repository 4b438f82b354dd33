"""Writing pcapng files (draft-ietf-opsawg-pcapng), which keep several interfaces with their names in one file.

A file is one section: a header block, a description of each interface, one block for each packet, and at the end
statistics of each interface. Numbers are in this machine's byte order; the section header tells readers which that is.
"""

import struct
from collections.abc import Sequence
from typing import BinaryIO

LINKTYPE_ETHERNET = 1
LINKTYPE_RAW = 101
"""tcpdump.org/linktypes.html: bare IPv4 or IPv6, as the version in the first byte tells."""

INBOUND, OUTBOUND = 1, 2
"""Direction of a packet, the lower two bits of epb_flags."""

_SECTION_HEADER, _INTERFACE, _STATISTICS, _PACKET = 0x0A0D0D0A, 1, 5, 6
_BYTE_ORDER_MAGIC = 0x1A2B3C4D
_LENGTH_UNKNOWN = -1

_OPT_END, _OPT_COMMENT, _SHB_USERAPPL = 0, 1, 4
_IF_NAME, _IF_DESCRIPTION, _IF_TSRESOL, _IF_FILTER = 2, 3, 9, 11
_EPB_FLAGS = 2
_ISB_IFDROP = 5
_MAX_OPTION = 0xFFFF
_NANOSECONDS = bytes([9])  # if_tsresol: units of 10^-9 s

Option = tuple[int, bytes]


class PcapngWriter:
    """Writes one section to `file`, which stays the caller's. OSError when the file cannot be written."""

    def __init__(self, file: BinaryIO, application: str) -> None:
        """Write the section header, with the name of the program that captures."""
        self._file = file
        self._n_interfaces = 0
        body = struct.pack("=IHHq", _BYTE_ORDER_MAGIC, 1, 0, _LENGTH_UNKNOWN)
        self._write(_SECTION_HEADER, body, [(_SHB_USERAPPL, application.encode())])

    def add_interface(self, name: str, link_type: int, description: str = "", capture_filter: str = "") -> int:
        """Describe an interface; returns its number for `write_packet`."""
        options: list[Option] = [(_IF_NAME, name.encode()), (_IF_TSRESOL, _NANOSECONDS)]
        if description:
            options.append((_IF_DESCRIPTION, description.encode()))
        if capture_filter:
            # The first byte says that text follows, and not a compiled program.
            options.append((_IF_FILTER, b"\0" + capture_filter.encode()))
        self._write(_INTERFACE, struct.pack("=HHI", link_type, 0, 0), options)
        self._n_interfaces += 1
        return self._n_interfaces - 1

    def write_packet(
        self,
        interface: int,
        time_ns: int,
        data: bytes | memoryview,
        direction: int,
        *,
        original_len: int | None = None,
        comment: str = "",
    ) -> None:
        """Write one packet; `time_ns` counts from 1970, `direction` is INBOUND, OUTBOUND or 0 for neither.

        `original_len` is the packet's length where `data` is only its beginning. Readers show the comment beside it.
        """
        whole_len = len(data) if original_len is None else original_len
        head = struct.pack("=IIIII", interface, time_ns >> 32, time_ns & 0xFFFFFFFF, len(data), whole_len)
        options: list[Option] = [(_EPB_FLAGS, struct.pack("=I", direction))]
        if comment:
            options.append((_OPT_COMMENT, comment.encode()[:_MAX_OPTION]))
        self._write(_PACKET, head + _padded(bytes(data)), options)

    def write_statistics(self, interface: int, time_ns: int, dropped: int) -> None:
        """Say how many packets of an interface the kernel had no room for."""
        body = struct.pack("=III", interface, time_ns >> 32, time_ns & 0xFFFFFFFF)
        self._write(_STATISTICS, body, [(_ISB_IFDROP, struct.pack("=Q", dropped))])

    def flush(self) -> None:
        """Let readers see what was written so far."""
        self._file.flush()

    def _write(self, kind: int, body: bytes, options: Sequence[Option]) -> None:
        """One block: its length stands before and after what it holds, so that a file can be read from both ends."""
        for code, value in (*options, (_OPT_END, b"")):
            body += struct.pack("=HH", code, len(value)) + _padded(value)
        length = struct.pack("=I", len(body) + 12)
        self._file.write(struct.pack("=I", kind) + length + body + length)


def _padded(data: bytes) -> bytes:
    """`data` filled up with zeros to a multiple of 4 bytes."""
    return data + bytes(-len(data) % 4)
