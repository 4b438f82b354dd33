"""A TCP transfer between two namespaces, with its rate.

Both ends run in this process, one thread each: the sockets live in their namespaces, and the interpreter lock is free
while the kernel copies.
"""

import socket
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from dataplane.addresses import Address
from dataplane.lab.netns import LabError, Namespace
from dataplane.lab.ping import FAMILIES

CHUNK = 1 << 20
"""Bytes handed to the kernel in one call."""

TCPI_TOTAL_RETRANS_OFFSET = 100
"""Byte offset of tcpi_total_retrans, uint32, in struct tcp_info (include/uapi/linux/tcp.h)."""


@dataclass(frozen=True, slots=True)
class Transfer:
    """What a transfer came to."""

    n_bytes: int
    """Bytes that arrived."""
    seconds: float
    """From the first byte sent to the last one received."""
    longest_stall: float
    """Seconds without a byte arriving, at worst."""
    n_retransmits: int
    """Segments that TCP sent more than once."""

    @property
    def gbits_per_second(self) -> float:
        """The rate in 10^9 bits a second."""
        return self.n_bytes * 8 / self.seconds / 1e9


def transfer(
    sender: Namespace, receiver: Namespace, address: Address, *, seconds: float = 2.0, timeout: float = 10.0
) -> Transfer:
    """Send over TCP from `sender` to `address`, which `receiver` owns, for `seconds`.

    Raises LabError when no connection comes about, or nothing moves for `timeout` seconds.
    """
    family = FAMILIES[address.version].family
    with (
        receiver.socket(family, socket.SOCK_STREAM) as listener,
        sender.socket(family, socket.SOCK_STREAM) as source,
    ):
        listener.bind((str(address), 0))
        listener.listen(1)
        listener.settimeout(timeout)
        source.settimeout(timeout)
        try:
            source.connect(listener.getsockname()[:2])
            sink, _ = listener.accept()
            with sink:
                sink.settimeout(timeout)
                return _move(source, sink, seconds)
        except OSError as error:
            raise LabError(f"TCP from {sender.name} to {address}: {error.strerror or 'timed out'}") from error


def _move(source: socket.socket, sink: socket.socket, seconds: float) -> Transfer:
    """Send for `seconds` in a thread and receive all of it in this one."""
    with ThreadPoolExecutor(max_workers=1) as pool:
        start = last = time.monotonic()
        sending = pool.submit(_send, source, start + seconds)
        received, stall, buffer = 0, 0.0, bytearray(CHUNK)
        while n := sink.recv_into(buffer):
            received += n
            now = time.monotonic()
            stall, last = max(stall, now - last), now
        sent = sending.result()
    if sent != received:
        raise LabError(f"TCP lost data: {sent} bytes sent, {received} received")
    return Transfer(received, last - start, stall, _retransmits(source))


def _send(source: socket.socket, end: float) -> int:
    """Send until the monotonic clock shows `end`, then close that direction; returns the bytes sent."""
    chunk, sent = bytes(CHUNK), 0
    while time.monotonic() < end:
        source.sendall(chunk)
        sent += len(chunk)
    source.shutdown(socket.SHUT_WR)
    return sent


def _retransmits(connection: socket.socket) -> int:
    info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, TCPI_TOTAL_RETRANS_OFFSET + 4)
    return int.from_bytes(info[TCPI_TOTAL_RETRANS_OFFSET:], sys.byteorder)
