"""`udplane capture`: both sides of the tunnel in one pcapng file.

Two packet sockets (packet(7)) in the node's network namespace copy what passes: one on the TUN, where packets are bare
and whole, one on the external interface, where a small kernel filter lets through nothing but the node's own UDP port.
So each packet is in the file twice, before and after encapsulation or the other way round, and the difference is what
the node did to it. The node itself is not involved and not slowed beyond what the kernel's copies cost.

The file is in order of time. A socket gives its packets in order, but of two sockets one is read before the other; so
packets wait in memory (`TimeOrder`) until nothing older can come from either.

Datagrams that cross the external interface in one piece are shown apart (see `superpacket`). Otherwise packets are seen
before what the kernel or the device does at last: TCP packets larger than the MTU on the TUN, and checksums still to be
filled in, as with any capture on the sending host.
"""

import contextlib
import heapq
import itertools
import os
import select
import signal
import socket
import struct
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from dataplane import __version__
from dataplane.addresses import Address, Network
from dataplane.capture import bpf
from dataplane.capture.filter import Filter, Packet, read_packet
from dataplane.capture.pcapng import INBOUND, LINKTYPE_ETHERNET, LINKTYPE_RAW, OUTBOUND, PcapngWriter
from dataplane.capture.superpacket import outer_header_len, wire_frames
from dataplane.errors import NodeError

# include/uapi/linux/if_ether.h, if_arp.h, if_packet.h, asm-generic/socket.h
_ETH_P_ALL = 0x0003
_ARPHRD_ETHER = 1
_SOL_PACKET, _PACKET_STATISTICS = 263, 6
_SO_TIMESTAMPNS = 35
_SO_RCVBUFFORCE = 33
_TIMESPEC = struct.Struct("ll")

_ETHERNET_HEADER_LEN = 14
_MAX_FRAME = 1 << 17
_BUFFER_BYTES = 16 << 20
"""Room for bursts while a frame is being written; what does not fit is counted as dropped."""

_FRAMES_A_TURN = 256

_HOLD_NS = 100_000_000
"""How long a packet waits for older ones: far longer than the kernel takes from its time stamp to the socket."""


@dataclass(frozen=True, slots=True)
class Frame:
    """What passed a device: when (nanoseconds since 1970), which way, and the bytes."""

    time_ns: int
    outgoing: bool
    data: memoryview


@dataclass(frozen=True, slots=True)
class CaptureRequest:
    """Which packets to capture and when to stop: after `count` packets or `seconds`, or None for not by itself."""

    accepts: Filter
    filter_text: str
    count: int | None = None
    seconds: float | None = None


class Tap:
    """Copies every frame that passes `device` of this network namespace, or those that a BPF `program` takes."""

    def __init__(self, device: str, program: bytes = b"") -> None:
        """Start to copy. NodeError if that cannot be."""
        self.device = device
        self.dropped = 0
        try:
            self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
            self._prepare(program)
        except OSError as error:
            if isinstance(error, PermissionError):
                raise NodeError("no permission to capture: run as root or with CAP_NET_RAW") from error
            raise NodeError(f"cannot capture on {device}: {error.strerror}; see `udplane status`") from error
        self.ethernet = self.socket.getsockname()[3] == _ARPHRD_ETHER

    def frames(self) -> Iterator[Frame]:
        """Up to `_FRAMES_A_TURN` frames that have passed since the last call. NodeError when the device is gone."""
        for _ in range(_FRAMES_A_TURN):
            try:
                data, ancillary, _, address = self.socket.recvmsg(
                    _MAX_FRAME, socket.CMSG_SPACE(_TIMESPEC.size), socket.MSG_DONTWAIT
                )
            except BlockingIOError:
                return
            except OSError as error:
                raise NodeError(f"the capture on {self.device} ended: {error.strerror}; is the node gone?") from error
            (stamp,) = (value for _, kind, value in ancillary if kind == _SO_TIMESTAMPNS)
            seconds, nanoseconds = _TIMESPEC.unpack(stamp)
            yield Frame(seconds * 10**9 + nanoseconds, address[2] == socket.PACKET_OUTGOING, memoryview(data))

    def count_drops(self) -> int:
        """Frames that the kernel had no room for, up to now. Asking the kernel sets its count to zero."""
        packets_and_drops = self.socket.getsockopt(_SOL_PACKET, _PACKET_STATISTICS, struct.calcsize("=II"))
        self.dropped += struct.unpack("=II", packets_and_drops)[1]
        return self.dropped

    def _prepare(self, program: bytes) -> None:
        """The filter comes first: nothing foreign may slip in between."""
        if program:
            bpf.attach(self.socket, program)
        self.socket.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
        with contextlib.suppress(PermissionError):
            self.socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER_BYTES)
        self.socket.bind((self.device, _ETH_P_ALL))


@dataclass(frozen=True, slots=True)
class Record:
    """A packet on its way into the file: of which interface, when, and which way."""

    interface: int
    time_ns: int
    data: memoryview
    direction: int


class TimeOrder:
    """Records of several interfaces, given out in order of time; of equal times, in the order in which they came."""

    def __init__(self) -> None:
        self._heap: list[tuple[int, int, Record]] = []
        self._arrival = itertools.count()

    def __bool__(self) -> bool:
        return bool(self._heap)

    def add(self, record: Record) -> None:
        """Take a record, whenever it is of."""
        heapq.heappush(self._heap, (record.time_ns, next(self._arrival), record))

    def take(self, until_ns: float = float("inf")) -> Iterator[Record]:
        """Give out the records up to that time, oldest first."""
        while self._heap and self._heap[0][0] <= until_ns:
            yield heapq.heappop(self._heap)[2]


@dataclass(frozen=True, slots=True)
class Tunnel:
    """Where a node's packets go by: its device inside, its interface, address and UDP port outside.

    `owners` are the peers: each of their subnets with the address at which it is.
    """

    device: str
    interface: str
    address: Address
    port: int
    owners: Sequence[tuple[Network, Address]]


class Recorder:
    """Writes what passes some devices of this network namespace into one file, each device an interface of it."""

    def __init__(self, taps: Mapping[Tap, str], request: CaptureRequest) -> None:
        """Record from `taps`, each with what to say of it in the file. The filter is a subclass's matter."""
        self._taps = taps
        self._request = request
        self._waiting = TimeOrder()
        self.captured = 0

    def describe(self) -> str:
        """What is being captured, for people."""
        return ", ".join(tap.device for tap in self._taps)

    @property
    def dropped(self) -> int:
        """Packets that passed but were lost to the capture."""
        return sum(tap.count_drops() for tap in self._taps)

    def run(self, file: BinaryIO, stop_fd: int) -> None:
        """Write packets to `file` until `stop_fd` is readable or the request is fulfilled. OSError from the file."""
        writer = PcapngWriter(file, f"udplane {__version__}")
        numbers = {tap: self._describe(writer, tap, text) for tap, text in self._taps.items()}
        writer.flush()
        deadline = None if self._request.seconds is None else time.monotonic() + self._request.seconds
        poll = select.poll()
        for fd in (*(tap.socket.fileno() for tap in self._taps), stop_fd):
            poll.register(fd, select.POLLIN)
        while not self._finished(deadline):
            ready = {fd for fd, _ in poll.poll(self._patience(deadline))}
            settled_ns = time.time_ns() - _HOLD_NS  # before frames are taken apart, which may last longer than that
            readable = [(tap, number) for tap, number in numbers.items() if tap.socket.fileno() in ready]
            complete_ns = [self._collect(tap, number) for tap, number in readable]
            self._write(writer, self._waiting.take(min([settled_ns, *complete_ns])))
            writer.flush()
            if stop_fd in ready:
                break
        self._write(writer, self._waiting.take())
        for tap, number in numbers.items():
            writer.write_statistics(number, time.time_ns(), tap.count_drops())
        writer.flush()

    def _describe(self, writer: PcapngWriter, tap: Tap, text: str) -> int:
        link_type = LINKTYPE_ETHERNET if tap.ethernet else LINKTYPE_RAW
        return writer.add_interface(tap.device, link_type, text, self._request.filter_text)

    def _finished(self, deadline: float | None) -> bool:
        count = self._request.count
        return (count is not None and self.captured >= count) or (deadline is not None and time.monotonic() >= deadline)

    def _patience(self, deadline: float | None) -> float | None:
        """Milliseconds until there is something to do even if no packet comes; None: nothing before one does."""
        ends = [] if deadline is None else [max(0.0, deadline - time.monotonic()) * 1e3]
        return min([*ends, _HOLD_NS / 1e6] if self._waiting else ends, default=None)

    def _collect(self, tap: Tap, number: int) -> float:
        """Take what a tap has. Returns the time up to which that is all: it may have more than is taken in a turn."""
        frames = list(tap.frames())
        for frame in frames:
            direction = OUTBOUND if frame.outgoing else INBOUND
            for data in self._wanted(tap, frame.data):
                self._waiting.add(Record(number, frame.time_ns, data, direction))
        return frames[-1].time_ns if len(frames) == _FRAMES_A_TURN else float("inf")

    def _write(self, writer: PcapngWriter, records: Iterator[Record]) -> None:
        """Write records, but not more than were asked for."""
        for record in records:
            if self._request.count is not None and self.captured >= self._request.count:
                return
            writer.write_packet(record.interface, record.time_ns, record.data, record.direction)
            self.captured += 1

    def _wanted(self, _tap: Tap, frame: memoryview) -> Iterator[memoryview]:
        """What of a frame goes into the file: the frame."""
        yield frame


class Capture(Recorder):
    """One run of `udplane capture` at `tunnel`, in whose network namespace the caller is."""

    def __init__(self, tunnel: Tunnel, request: CaptureRequest) -> None:
        self._here = tunnel.address
        self._owners = tunnel.owners
        self._inner = Tap(tunnel.device)
        self._outer = Tap(tunnel.interface, bpf.udp_port_program(tunnel.port))
        self._port = tunnel.port
        texts = {self._inner: "inner packets", self._outer: "outer packets, UDP payload is the inner packet"}
        super().__init__(texts, request)

    def describe(self) -> str:
        """What is being captured, for people."""
        return f"{self._inner.device} (inner) and UDP port {self._port} of {self._outer.device} (outer)"

    def _wanted(self, tap: Tap, frame: memoryview) -> Iterator[memoryview]:
        """The packets in a frame that the filter lets through."""
        for data, packet in self._packets(tap, frame):
            if not self._request.filter_text or (packet is not None and self._request.accepts(packet)):
                yield data

    def _packets(self, tap: Tap, frame: memoryview) -> Iterator[tuple[memoryview, Packet | None]]:
        """What a frame holds, as it goes on the wire, each with its inner packet if that can be read."""
        if tap is self._inner:
            yield frame, self._with_owner(read_packet(frame))
            return
        link_len = _ETHERNET_HEADER_LEN if tap.ethernet else 0
        for data in wire_frames(frame, link_len):
            outer = data[link_len:]
            ends = read_packet(outer)
            inner = read_packet(outer[outer_header_len(outer) :]) if ends is not None else None
            if ends is not None and inner is not None:
                inner = replace(inner, peer=ends.destination if ends.source == self._here else ends.source)
            yield data, inner

    def _with_owner(self, packet: Packet | None) -> Packet | None:
        """The packet with the peer in whose lease one of its ends lies."""
        if packet is not None:
            for network, peer in self._owners:
                if packet.source in network or packet.destination in network:
                    return replace(packet, peer=peer)
        return packet


def capture_to(output: str, capture: Recorder) -> None:
    """Run `capture` until SIGINT or SIGTERM, into the file `output` or, for `-`, to stdout. NodeError if that fails."""
    try:
        with contextlib.ExitStack() as stack:
            file = sys.stdout.buffer if output == "-" else stack.enter_context(Path(output).open("wb"))
            stop_fd = stack.enter_context(_stop_signals())
            print(f"capturing {capture.describe()}; Ctrl-C ends it", file=sys.stderr, flush=True)
            capture.run(file, stop_fd)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise NodeError(
            f"cannot write the capture to {output}: {error.strerror}; choose another file with -w"
        ) from error


@contextlib.contextmanager
def _stop_signals() -> Iterator[int]:
    """A descriptor that becomes readable when somebody asks this process to stop."""
    reader, writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    before = signal.set_wakeup_fd(writer)
    handlers = {number: signal.signal(number, lambda *_: None) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield reader
    finally:
        signal.set_wakeup_fd(before)
        for number, handler in handlers.items():
            signal.signal(number, handler)
        os.close(reader)
        os.close(writer)
