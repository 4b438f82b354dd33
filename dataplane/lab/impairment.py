"""Wires that are slow, late and lossy: `python -m dataplane.lab.impairment SEED MTU PARAMETERS PORT ...`.

Where the kernel has netem, that does it. Many kernels have none, above all small ones; then this program stands between
the wire's bridge and each of its ports, in the namespace of the wire:

    node1 eth0 ---- port node1 === this program === tap3 ---- br0 ---- tap4 === this program === port node2 ---- eth0

1. What a host sends comes in by its port (a packet socket) and goes on to the bridge at once (a TAP device).
2. What the bridge sends towards a host waits in a queue until it is due, and then leaves by the port.

So each packet is treated once, on its last piece of wire. `Fate` decides. It knows no sockets, and the same seed
decides the same. A TAP without offloads gives finished packets, so loss and rate are those of packets as on a wire.
"""

import contextlib
import errno
import fcntl
import heapq
import itertools
import json
import os
import random
import select
import socket
import struct
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

from dataplane.lab.netns import LabError, Namespace, ip
from dataplane.lab.topology_file import Impairment

MODULE = "dataplane.lab.impairment"
READY = "ready"

LONGEST_QUEUE = 1000
"""Packets that wait for one port; netem's default."""

FRAME_OVERHEAD = 24
"""Bytes that a frame takes on an Ethernet beside what a socket shows of it: preamble, check sequence, gap."""

# include/uapi/linux/if_tun.h, if_packet.h, if_ether.h
TUNSETIFF = 0x400454CA
IFF_TAP, IFF_NO_PI, IFF_VNET_HDR = 0x0002, 0x1000, 0x4000
SOL_PACKET, PACKET_VNET_HDR = 263, 15
ETH_P_ALL = 0x0003

VNET_HEADER_LEN = 10
"""sizeof(struct virtio_net_hdr): it keeps what offloads have promised about a frame, unread."""

MAX_FRAME = (1 << 16) + 64

LOSSES = {errno.EAGAIN, errno.ENOBUFS, errno.EMSGSIZE, errno.ENETDOWN, errno.EINVAL, errno.EIO}
"""How the kernel refuses a frame that it has no room or no use for."""


class Fate:
    """What becomes of the packets towards one port, one after the other."""

    def __init__(self, impairment: Impairment, chance: random.Random) -> None:
        self._impairment = impairment
        self._chance = chance
        self._free_at = 0.0

    def departures(self, now: float, n_bytes: int) -> Iterator[float]:
        """When copies of a packet leave that came at `now`: none, one or two times, in seconds of the same clock."""
        what = self._impairment
        copies = 1 - self._happens(what.loss) + self._happens(what.duplicate)
        for _ in range(copies):
            if self._happens(what.reorder):
                yield now
                continue
            seconds = (n_bytes + FRAME_OVERHEAD) * 8 / what.rate if what.rate else 0.0
            self._free_at = max(now, self._free_at) + seconds
            yield self._free_at + what.delay

    def _happens(self, share: float) -> bool:
        return share > 0 and self._chance.random() < share


class Port:
    """One port of the wire: its packet socket, its TAP device on the bridge, and what waits."""

    def __init__(self, device: str, tap: str, mtu: int, fate: Fate) -> None:
        """Stand between the port `device` and the bridge. Raises OSError or LabError."""
        self._fate = fate
        self._waiting: list[tuple[float, int, bytes]] = []
        self._number = itertools.count()
        self.tap = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
        flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR
        fcntl.ioctl(self.tap, TUNSETIFF, struct.pack("16sH22x", tap.encode(), flags))
        self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
        self.socket.setsockopt(SOL_PACKET, PACKET_VNET_HDR, 1)
        self.socket.bind((device, ETH_P_ALL))
        self.socket.setblocking(False)
        # The port is a bare wire now: the namespace itself shall not answer what passes by.
        _sysctl(f"ipv4/conf/{device}/arp_ignore", "8")
        _sysctl(f"ipv6/conf/{device}/disable_ipv6", "1")
        ip(f"link set dev {device} nomaster", f"link set dev {tap} mtu {mtu} master br0 up")

    @property
    def due(self) -> float:
        """When the next packet leaves; infinity if none waits."""
        return self._waiting[0][0] if self._waiting else float("inf")

    def take_in(self) -> None:
        """Hand on what the host has sent."""
        with contextlib.suppress(BlockingIOError):
            for _ in range(64):
                frame, address = self.socket.recvfrom(MAX_FRAME)
                if address[2] != socket.PACKET_OUTGOING:
                    _send(self._write, frame)

    def take_out(self, now: float) -> None:
        """Queue what the bridge sends towards the host."""
        with contextlib.suppress(BlockingIOError):
            for _ in range(64):
                frame = os.read(self.tap, MAX_FRAME)
                for due in self._fate.departures(now, len(frame) - VNET_HEADER_LEN):
                    if len(self._waiting) < LONGEST_QUEUE:
                        heapq.heappush(self._waiting, (due, next(self._number), frame))

    def release(self, now: float) -> None:
        """Send what is due."""
        while self.due <= now:
            frame = heapq.heappop(self._waiting)[2]
            _send(self.socket.send, frame)

    def _write(self, frame: bytes) -> int:
        return os.write(self.tap, frame)


def tap_of(port_index: int) -> str:
    """The name of the TAP device that stands on the bridge in the place of the port with that number."""
    return f"tap{port_index}"


def forward(ports: list[Port]) -> None:
    """Do all of that until somebody ends this process."""
    poll = select.poll()
    inward, outward = {}, {}
    for port in ports:
        inward[port.socket.fileno()] = outward[port.tap] = port
        poll.register(port.socket.fileno(), select.POLLIN)
        poll.register(port.tap, select.POLLIN)
    while True:
        due = min(port.due for port in ports)
        patience = None if due == float("inf") else max(0.0, (due - time.monotonic()) * 1e3)
        for descriptor, _ in poll.poll(patience):
            if descriptor in inward:
                inward[descriptor].take_in()
            else:
                outward[descriptor].take_out(time.monotonic())
        for port in ports:
            port.release(time.monotonic())


def netem_arguments(impairment: Impairment) -> list[str]:
    """The same for tc(8), where the kernel has netem."""
    words = ["limit", str(LONGEST_QUEUE)]
    words += ["delay", f"{impairment.delay * 1e6:.0f}us"] if impairment.delay else []
    for key in ("loss", "duplicate", "reorder"):
        share = getattr(impairment, key)
        words += [key, f"{share * 100:g}%"] if share else []
    return words + (["rate", f"{impairment.rate:.0f}bit"] if impairment.rate else [])


def has_netem(netns: Namespace) -> bool:
    """Whether the kernel has netem, tried on a loopback."""
    tried = netns.run(["tc", "qdisc", "add", "dev", "lo", "root", "netem", "limit", "1000"], check=False)
    if tried.returncode == 0:
        netns.run(["tc", "qdisc", "del", "dev", "lo", "root"])
    return tried.returncode == 0


def command(impairment: Impairment, seed: str, mtu: int, ports: list[str]) -> list[str]:
    """The command line of this program; it says READY when it stands between."""
    return [sys.executable, "-I", "-m", MODULE, seed, str(mtu), json.dumps(asdict(impairment)), *ports]


def _send(send: Callable[[bytes], int], frame: bytes) -> None:
    """Send a frame; one that cannot be sent is lost, as it would be on a wire."""
    try:
        send(frame)
    except OSError as error:
        if error.errno not in LOSSES:
            raise


def _sysctl(key: str, value: str) -> None:
    Path("/proc/sys/net", key).write_text(value)


def main() -> int:
    """Entry point, in the namespace of the wire."""
    seed, mtu, parameters, *devices = sys.argv[1:]
    impairment = Impairment(**json.loads(parameters))
    try:
        ports = [
            Port(
                device,
                tap_of(socket.if_nametoindex(device)),
                int(mtu),
                Fate(impairment, random.Random(f"{seed} {device}")),
            )
            for device in devices
        ]
    except (OSError, LabError) as error:
        print(f"the wire cannot be impaired: {error}", flush=True)
        return 1
    print(READY, flush=True)
    forward(ports)
    return 0


if __name__ == "__main__":
    sys.exit(main())
