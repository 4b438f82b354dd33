"""Packet sockets: copies of all frames that pass a device, with the kernel's time stamps (packet(7))."""

import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from dataplane.lab.netns import Namespace

ETH_P_ALL = 0x0003
"""include/uapi/linux/if_ether.h: every protocol, and both directions."""

SO_TIMESTAMPNS = 35
"""include/uapi/asm-generic/socket.h (older name and value, valid on every kernel): time of day as struct timespec."""

ARPHRD_ETHER = 1
"""include/uapi/linux/if_arp.h: frames of the device start with an Ethernet header. A TUN's start with IP."""

TIMESPEC = struct.Struct("ll")
MAX_FRAME = 1 << 16


@dataclass(frozen=True, slots=True)
class Frame:
    """A frame that passed a device."""

    time_ns: int
    """Time of day, nanoseconds since 1970."""
    outgoing: bool
    """Whether the host sent it by this device; else it came in."""
    ethernet: bool
    """Whether `data` starts with an Ethernet header; else it is a bare IP packet."""
    data: bytes


class Sniffer:
    """Copies every frame that passes `device` of `netns`. A context manager; owns its socket."""

    def __init__(self, netns: Namespace, device: str) -> None:
        """Start to copy. Raises OSError when there is no such device."""
        self._socket = netns.socket(socket.AF_PACKET, socket.SOCK_RAW)
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
            self._socket.bind((device, ETH_P_ALL))
        except OSError:
            self._socket.close()
            raise

    def __enter__(self) -> "Sniffer":
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def frames(self) -> Iterator[Frame]:
        """What has passed since the last call."""
        while True:
            try:
                data, ancillary, _, address = self._socket.recvmsg(
                    MAX_FRAME, socket.CMSG_SPACE(TIMESPEC.size), socket.MSG_DONTWAIT
                )
            except BlockingIOError:
                return
            (stamp,) = (data for _, kind, data in ancillary if kind == SO_TIMESTAMPNS)
            seconds, nanoseconds = TIMESPEC.unpack(stamp)
            outgoing, hardware = address[2] == socket.PACKET_OUTGOING, address[3]
            yield Frame(seconds * 10**9 + nanoseconds, outgoing, hardware == ARPHRD_ETHER, data)
