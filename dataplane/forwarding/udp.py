"""The underlay end: a UDP socket bound to the node's address, whose datagrams each carry one inner packet.

Path MTU: the socket sets DF on what it sends (IP_MTU_DISCOVER, ip(7)), so a datagram that does not fit the path is
not cut in pieces by routers. When a router complains, the kernel notes the path's MTU by destination for ten minutes
(net.ipv4.route.mtu_expires), and from then on refuses larger datagrams with EMSGSIZE. A second socket, connected to
that destination for the purpose, tells the number (IP_MTU). A packet that an engine marks `no_df` is sent without DF:
the kernel fragments the datagram for the path that it knows of.

DSCP and ECN of the outer header are set and read for each datagram by control messages (IP_TOS, IPV6_TCLASS).
"""

import errno
import socket
import struct
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from functools import lru_cache
from ipaddress import ip_address
from types import TracebackType
from typing import Self

from dataplane.addresses import Address
from dataplane.errors import NodeError
from dataplane.packets.batch import PacketBatch
from dataplane.packets.fragment import pieces
from dataplane.packets.packet import V4_MAPPED
from dataplane.packets.verdicts import Egress, Verdict

Destination = tuple[str, int]
"""Address and port of a peer, as the socket module takes them."""

DEFAULT_PORT = 8285
"""flannel's port for its udp backend."""

ENCAP_OVERHEAD = {4: 28, 6: 48}
"""Bytes that the outer IP and UDP headers add to an inner packet, by IP version of the underlay."""

BUFFER_BYTES = 7 << 20
"""Socket buffer asked for, each way: a burst of some 5,000 full packets. With the default of 208 KiB, TCP through the
tunnel loses a third of its rate to overruns."""

MAX_SEND_BYTES = 65487
"""Payload of the largest send that the kernel cuts into datagrams: 65535 less the outer headers."""

MAX_TCP_HEADER = 192
"""What TCP takes off an interface's gso_max_size for headers (include/net/tcp.h), at the least."""

LONGEST_HEADERS = 72
"""Bytes of IPv6 and of TCP with timestamps: the headers that leave the smallest segments."""

# include/uapi/linux/in.h, in6.h, asm-generic/socket.h: not in the socket module
IP_MTU_DISCOVER, IPV6_MTU_DISCOVER, PMTUDISC_DONT, PMTUDISC_DO = 10, 23, 0, 2
IP_MTU, IPV6_MTU = 14, 24
SO_SNDBUFFORCE, SO_RCVBUFFORCE = 32, 33
SO_MEMINFO, SK_MEMINFO_DROPS, SK_MEMINFO_VARS = 55, 8, 9

CONTROL_LEN = socket.CMSG_SPACE(struct.calcsize("i"))
"""Room for one control message of one int."""


class Underlay:
    """A non-blocking UDP socket on the node's underlay address, IPv4 or IPv6.

    One thread reads, writes and asks for path MTUs; any may ask for the rest.
    """

    def __init__(self, sock: socket.socket, probe: socket.socket) -> None:
        """Take over a bound socket, and one on the same address that only asks for path MTUs."""
        self._socket = sock
        self._probe = probe
        self._v6 = sock.family == socket.AF_INET6
        self.address = ip_address(sock.getsockname()[0])
        self.port: int = sock.getsockname()[1]
        self.overhead = ENCAP_OVERHEAD[self.address.version]
        """Bytes that the outer headers take."""

    @classmethod
    def open(cls, address: Address, port: int = DEFAULT_PORT, *, shared: bool = False) -> "Underlay":
        """Bind to `address` and `port` in this network namespace; `shared` lets several workers bind to the same.

        Raises NodeError when that cannot be.
        """
        family = socket.AF_INET6 if address.version == 6 else socket.AF_INET
        with ExitStack() as undo:
            try:
                sock = undo.enter_context(socket.socket(family, socket.SOCK_DGRAM))
                probe = undo.enter_context(socket.socket(family, socket.SOCK_DGRAM))
                _prepare(sock)
                if shared:
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
                sock.bind((str(address), port))
                probe.bind((str(address), 0))
            except OSError as error:
                raise NodeError(_bind_message(address, port, error)) from error
            undo.pop_all()
        return cls(sock, probe)

    def fileno(self) -> int:
        """The descriptor, for poll and for engines with a loop of their own."""
        return self._socket.fileno()

    def read_batch(self, batch: PacketBatch) -> int:
        """Read what is waiting until `batch` is full; returns the datagrams read."""
        before = batch.count
        while not batch.full:
            try:
                length, control, _, sender = self._socket.recvmsg_into([batch.free_slot()], CONTROL_LEN)
            except BlockingIOError:
                break
            batch.commit(length, _sender_key(sender[0]), _tos(control))
        return batch.count - before

    def write_batch(self, batch: PacketBatch, destinations: Mapping[int, Destination]) -> list[int]:
        """Send all packets whose egress is the underlay to the destination of their next hop.

        Returns the indices of those that are too large for their path; what is refused for another reason
        becomes SEND_FAILED.
        """
        return [
            i
            for i in range(batch.count)
            if batch.egress[i] == Egress.UNDERLAY and not self.write(batch, i, destinations[batch.next_hop[i]])
        ]

    def write(self, batch: PacketBatch, i: int, destination: Destination) -> bool:
        """Send packet `i`, whole or in fragments; False when it is too large for its path.

        What is refused for another reason becomes SEND_FAILED.
        """
        control = self._control(batch.tos[i])
        if batch.no_df[i]:
            _set_path_discovery(self._socket, PMTUDISC_DONT)
        try:
            for piece in pieces(batch, i):
                self._socket.sendmsg([piece], control, 0, destination)
        except OSError as error:
            if error.errno == errno.EMSGSIZE:
                return False
            batch.verdict[i] = Verdict.SEND_FAILED
        finally:
            if batch.no_df[i]:
                _set_path_discovery(self._socket, PMTUDISC_DO)
        return True

    def path_mtu(self, destination: Destination) -> int:
        """Bytes of the largest inner packet that the path to `destination` is known to carry.

        Raises OSError when there is no way there.
        """
        self._probe.connect(destination)
        if self._v6:
            outer_mtu = self._probe.getsockopt(socket.IPPROTO_IPV6, IPV6_MTU)
        else:
            outer_mtu = self._probe.getsockopt(socket.IPPROTO_IP, IP_MTU)
        return outer_mtu - self.overhead

    def overruns(self) -> int:
        """Datagrams that the kernel dropped because the receive buffer was full."""
        info = self._socket.getsockopt(socket.SOL_SOCKET, SO_MEMINFO, 4 * SK_MEMINFO_VARS)
        return int(struct.unpack(f"={SK_MEMINFO_VARS}I", info)[SK_MEMINFO_DROPS])

    def buffer_bytes(self) -> tuple[int, int]:
        """Receive and send buffer that the kernel granted; it counts its own bookkeeping, about half, in."""
        receive = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
        return receive, self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)

    def close(self) -> None:
        """Close both sockets."""
        self._socket.close()
        self._probe.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _control(self, tos: int) -> Sequence[tuple[int, int, bytes]]:
        """The control messages that set the TOS byte; none for 0, which is the socket's own."""
        if tos == 0:
            return ()
        value = struct.pack("=i", tos)
        return (
            (socket.IPPROTO_IPV6, socket.IPV6_TCLASS, value) if self._v6 else (socket.IPPROTO_IP, socket.IP_TOS, value),
        )


def gso_max_size(mtu: int) -> int:
    """The gso_max_size of pods' interfaces with which a super-packet of TCP fits one send, for inner packets of `mtu`.

    A send takes n packets of `mtu` bytes; TCP puts as many segments into a super-packet as fit what is left of
    gso_max_size, so that must be less than n + 1 segments of the smallest size.
    """
    n_packets = MAX_SEND_BYTES // mtu
    return min(65536, (n_packets + 1) * (mtu - LONGEST_HEADERS) + MAX_TCP_HEADER)


def _set_path_discovery(sock: socket.socket, value: int) -> None:
    """PMTUDISC_DO: set DF, refuse what is too large. PMTUDISC_DONT: no DF, fragment what is larger than the path."""
    if sock.family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, IPV6_MTU_DISCOVER, value)
    else:
        sock.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, value)


def _prepare(sock: socket.socket) -> None:
    sock.setblocking(False)
    _set_path_discovery(sock, PMTUDISC_DO)
    if sock.family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVTCLASS, 1)
    else:
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_RECVTOS, 1)
    for plain, beyond_the_limit in ((socket.SO_RCVBUF, SO_RCVBUFFORCE), (socket.SO_SNDBUF, SO_SNDBUFFORCE)):
        sock.setsockopt(socket.SOL_SOCKET, plain, BUFFER_BYTES)
        with suppress(PermissionError):  # only with CAP_NET_ADMIN in the first user namespace
            sock.setsockopt(socket.SOL_SOCKET, beyond_the_limit, BUFFER_BYTES)


def _tos(control: list[tuple[int, int, bytes]]) -> int:
    """The outer TOS byte out of the control messages: one byte for IPv4, an int for IPv6."""
    return int.from_bytes(control[0][2], sys.byteorder) if control else 0


@lru_cache(maxsize=65536)
def _sender_key(host: str) -> bytes:
    """The 16 bytes of a sender's address as the socket module writes it, `%eth0` behind link-local ones."""
    address = host.partition("%")[0]
    if ":" in address:
        return socket.inet_pton(socket.AF_INET6, address)
    return V4_MAPPED + socket.inet_aton(address)


def _bind_message(address: Address, port: int, error: OSError) -> str:
    match error.errno:
        case errno.EADDRINUSE:
            return (
                f"UDP port {port} of {address} is in use by another program; "
                f"find it with `ss -ulnp sport = :{port}`, or set another Port in the Backend of the network config"
            )
        case errno.EADDRNOTAVAIL:
            return f"no interface of this host has the address {address}; set the right one with --public-ip or --iface"
        case errno.EACCES:
            return f"no permission to use UDP port {port}; run as root, or set a Port above 1023 in the Backend config"
        case errno.EAFNOSUPPORT:
            return (
                f"this host has IPv{address.version} switched off; choose an address of the other kind with --public-ip"
            )
        case _:
            return f"cannot bind UDP port {port} of {address}: {error.strerror}"
