"""Datagrams between pods in lockstep: a run leaves when all of the one before has arrived.

No queue on the way ever holds more than one run, so nothing overflows, however busy the machine is. What is missing was
lost by the node.
"""

import socket
import struct
from collections.abc import Iterable
from contextlib import ExitStack

from bench.integrity import PATTERN, PERIOD, UDP_SEGMENT
from dataplane.lab.ping import FAMILIES
from dataplane.lab.topology import Pod

TOS = {4: (socket.IPPROTO_IP, socket.IP_TOS), 6: (socket.IPPROTO_IPV6, socket.IPV6_TCLASS)}
RECEIVE_TOS = {4: socket.IP_RECVTOS, 6: socket.IPV6_RECVTCLASS}

MTU_DISCOVER, PMTUDISC_DONT = {4: 10, 6: 23}, 0
"""IP_MTU_DISCOVER and IPV6_MTU_DISCOVER, and the value that sets no DF (include/uapi/linux/in.h, in6.h)."""

RUNS = ((1400, 45), (1400, 2), (64, 45), (1000, 1), (1424, 30), (9, 60), (333, 45))
"""Size and number of datagrams, in lengths that exercise one send, several, and none that is segmented."""

PATIENCE = 10.0


def lockstep(
    sender: Pod,
    receiver: Pod,
    version: int,
    runs: Iterable[tuple[int, int]] = RUNS,
    *,
    tos: int = 0,
    may_fragment: bool = False,
) -> None:
    """Send each run as one super-packet; fail unless its datagrams arrive whole, in order and with that TOS byte.

    Those that `may_fragment` are sent without DF.
    """
    level, set_tos = TOS[version]
    with ExitStack() as stack:
        source = stack.enter_context(sender.netns.socket(FAMILIES[version].family, socket.SOCK_DGRAM))
        sink = stack.enter_context(receiver.netns.socket(FAMILIES[version].family, socket.SOCK_DGRAM))
        sink.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        sink.setsockopt(level, RECEIVE_TOS[version], 1)
        sink.bind((str(receiver.address(version)), 0))
        sink.settimeout(PATIENCE)
        source.setsockopt(level, set_tos, tos)
        if may_fragment:
            source.setsockopt(level, MTU_DISCOVER[version], PMTUDISC_DONT)
        source.connect(sink.getsockname()[:2])
        for number, (size, count) in enumerate(runs):
            datagrams = [_datagram(number * 100 + i, size) for i in range(count)]
            source.sendmsg(datagrams, [(socket.SOL_UDP, UDP_SEGMENT, struct.pack("H", size))] if count > 1 else [])
            for expected in datagrams:
                data, control, _, _ = sink.recvmsg(65535, 100)
                assert data == expected
                assert control[0][2][0] == tos


def _datagram(number: int, size: int) -> bytes:
    start = number * 7919 % PERIOD
    return bytes(PATTERN[start : start + size])
