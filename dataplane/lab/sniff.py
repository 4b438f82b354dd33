"""Packet sockets: copies of all frames that pass a device, with the kernel's time stamps (packet(7)).

With a vnet header in front of each frame the kernel also says what the bytes cannot show: that a frame stands for many
(a super-packet, which is cut later) and that its checksum is a promise (which the last device keeps).
"""

import errno
import socket
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass

from dataplane.lab.netns import Namespace

ETH_P_ALL = 0x0003
"""include/uapi/linux/if_ether.h: every protocol, and both directions."""

SO_TIMESTAMPNS = 35
"""include/uapi/asm-generic/socket.h (older name and value, valid on every kernel): time of day as struct timespec."""

SO_RCVBUFFORCE = 33
RECEIVE_BUFFER = 4 << 20
"""Bytes: a walk's super-packets and what else passes meanwhile."""

SOL_PACKET, PACKET_VNET_HDR = 263, 15
"""include/linux/socket.h, include/uapi/linux/if_packet.h."""

ARPHRD_ETHER = 1
"""include/uapi/linux/if_arp.h: frames of the device start with an Ethernet header. A TUN's start with IP."""

ARPHRD_LOOPBACK = 772

TIMESPEC = struct.Struct("ll")
MAX_FRAME = 1 << 17

VNET_HEADER = struct.Struct("=BBHHHH")
"""struct virtio_net_hdr: flags, gso_type, hdr_len, gso_size, csum_start, csum_offset."""
NEEDS_CHECKSUM = 1
GSO_TYPES = {1: "tcp4", 3: "udp fragments", 4: "tcp6", 5: "udp"}
"""include/uapi/linux/virtio_net.h."""
GSO_ECN = 0x80


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
    gso_type: str = ""
    """What kind of super-packet it is; empty when it is none, or when the sniffer did not ask."""
    gso_size: int = 0
    """Bytes of payload of each packet that it stands for."""
    checksum_promised: bool = False
    """Whether the transport checksum is still to be computed by the last device."""


class Sniffer:
    """Copies every frame that passes `device` of `netns`. A context manager; owns its socket."""

    def __init__(self, netns: Namespace, device: str, *, offloads: bool = False) -> None:
        """Start to copy, with what is known of offloads if asked. Raises OSError when there is no such device."""
        self._offloads = offloads
        self._socket = netns.socket(socket.AF_PACKET, socket.SOCK_RAW)
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
            if offloads:
                self._socket.setsockopt(SOL_PACKET, PACKET_VNET_HDR, 1)
                self._enlarge()
            self._socket.bind((device, ETH_P_ALL))
        except OSError:
            self._socket.close()
            raise

    def __enter__(self) -> "Sniffer":
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def _enlarge(self) -> None:
        """Have room for super-packets: beyond the limit for all programs where this user may, else up to it."""
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, RECEIVE_BUFFER)
        except PermissionError:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)

    def frames(self) -> Iterator[Frame]:
        """What has passed since the last call."""
        while True:
            try:
                data, ancillary, _, address = self._socket.recvmsg(
                    MAX_FRAME, socket.CMSG_SPACE(TIMESPEC.size), socket.MSG_DONTWAIT
                )
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in (errno.EINVAL, errno.ENETDOWN):
                    continue  # a super-packet of a kind that the header has no word for; or the device has gone down
                raise
            (stamp,) = (data for _, kind, data in ancillary if kind == SO_TIMESTAMPNS)
            seconds, nanoseconds = TIMESPEC.unpack(stamp)
            outgoing, hardware = address[2] == socket.PACKET_OUTGOING, address[3]
            ethernet = hardware in (ARPHRD_ETHER, ARPHRD_LOOPBACK)
            yield self._frame(seconds * 10**9 + nanoseconds, outgoing, ethernet, data)

    def _frame(self, time_ns: int, outgoing: bool, ethernet: bool, data: bytes) -> Frame:
        if not self._offloads:
            return Frame(time_ns, outgoing, ethernet, data)
        flags, kind, _, size, _, _ = VNET_HEADER.unpack_from(data)
        gso_type = GSO_TYPES.get(kind & ~GSO_ECN, "")
        promised = bool(flags & NEEDS_CHECKSUM)
        return Frame(time_ns, outgoing, ethernet, data[VNET_HEADER.size :], gso_type, size, promised)


def wait_for_time_stamps(netns: Namespace, timeout: float = 1.0) -> None:
    """Return once the kernel stamps packets as they pass, which it begins to do a moment after the first is asked for.

    Until then a packet gets the time at which it is read. Needs a sniffer that is open, and loopback in `netns`.
    """
    deadline = time.monotonic() + timeout
    with netns.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        probe.bind(("127.0.0.1", 0))
        probe.settimeout(timeout)
        while time.monotonic() < deadline:
            probe.sendto(b"?", probe.getsockname())
            sent = time.time_ns()
            _, ancillary, _, _ = probe.recvmsg(1, socket.CMSG_SPACE(TIMESPEC.size))
            stamps = [TIMESPEC.unpack(data) for _, kind, data in ancillary if kind == SO_TIMESTAMPNS]
            if stamps and stamps[0][0] * 10**9 + stamps[0][1] <= sent:
                return
