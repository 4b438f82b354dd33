"""Packets taken from wires of a lab by a click: each capture keeps its last ones, to be looked at or saved as pcapng.

A capture reads its socket when somebody asks for news, and once more by `drain`, which the server calls every so often
so that the socket's buffer does not overflow meanwhile.
"""

import io
from collections import deque
from contextlib import ExitStack
from typing import Any

from dataplane import __version__
from dataplane.capture.pcapng import INBOUND, LINKTYPE_ETHERNET, LINKTYPE_RAW, OUTBOUND, PcapngWriter
from dataplane.lab.netns import LabError
from dataplane.lab.recording import RECORDED, Packet
from dataplane.lab.sniff import Frame, Sniffer
from dataplane.lab.view import LabView

MAX_CAPTURES = 16
MAX_PACKETS = 2000
"""The oldest make room for new ones."""
MAX_KEPT = 8 << 20
"""Bytes of packets that one capture keeps."""

MAX_SHOWN = 2048
"""Bytes of a packet that the page gets to see."""


class Capture:
    """What passes one device of one place, from now on."""

    def __init__(self, number: int, where: str, device: str, sniffer: Sniffer) -> None:
        """Take from `sniffer`, which the caller ends."""
        self.number = number
        self.where = where
        self.device = device
        self.count = 0
        """Packets seen, also those that are not kept any more."""
        self._sniffer = sniffer
        self._kept: deque[tuple[int, Frame]] = deque()
        self._size = 0

    def drain(self) -> None:
        """Take what has come since the last time."""
        for frame in self._sniffer.frames():
            self.count += 1
            self._kept.append((self.count, frame))
            self._size += len(frame.data)
            while len(self._kept) > MAX_PACKETS or self._size > MAX_KEPT:
                self._size -= len(self._kept.popleft()[1].data)

    def summary(self) -> dict[str, Any]:
        """What a list of captures says of it."""
        return {"id": self.number, "where": self.where, "device": self.device, "packets": self.count}

    def packets(self, after: int, limit: int) -> list[dict[str, Any]]:
        """The packets behind number `after`, `limit` at most, as those of a recording."""
        fresh = [(number, frame) for number, frame in self._kept if number > after][:limit]
        return [{"number": number, **packet_document(frame)} for number, frame in fresh]

    def pcapng(self) -> bytes:
        """What is kept, as a capture file."""
        file = io.BytesIO()
        writer = PcapngWriter(file, f"udplane lab {__version__}")
        numbers: dict[bool, int] = {}
        for _, frame in self._kept:
            if frame.ethernet not in numbers:
                link = LINKTYPE_ETHERNET if frame.ethernet else LINKTYPE_RAW
                numbers[frame.ethernet] = writer.add_interface(f"{self.where} {self.device}", link)
            direction = OUTBOUND if frame.outgoing else INBOUND
            writer.write_packet(numbers[frame.ethernet], frame.time_ns, frame.data, direction)
        return file.getvalue()


def packet_document(frame: Frame) -> dict[str, Any]:
    """A captured frame as a recording has packets; of a long one, the beginning."""
    packet = Packet("ethernet" if frame.ethernet else "ip", frame.data, RECORDED)
    packet.data = frame.data[:MAX_SHOWN]
    direction = "out" if frame.outgoing else "in"
    return {"time_ns": str(frame.time_ns), "dir": direction, "packet": packet.document()}


class Captures:
    """The captures that run. A context manager, which ends them all."""

    def __init__(self) -> None:
        self._running: dict[int, tuple[Capture, ExitStack]] = {}
        self._next = 1

    def __enter__(self) -> "Captures":
        return self

    def __exit__(self, *_: object) -> None:
        for number in list(self._running):
            self.stop(number)

    def start(self, view: LabView, where: str, device: str) -> Capture:
        """Capture on that device. Raises LabError when it is not there, or when too many captures run."""
        if len(self._running) >= MAX_CAPTURES:
            raise LabError(f"{MAX_CAPTURES} captures run already; stop one first")
        place = view.find(where)
        try:
            sniffer = Sniffer(place.namespace, device)
        except OSError as error:
            raise LabError(f"cannot capture on {device} of {where}: {error.strerror}") from error
        with ExitStack() as undo:
            undo.enter_context(sniffer)
            capture = Capture(self._next, where, device, sniffer)
            self._running[self._next] = (capture, undo.pop_all())
        self._next += 1
        return capture

    def get(self, number: int) -> Capture:
        """A running capture. Raises LabError."""
        if number not in self._running:
            raise LabError(f"no capture has the number {number}")
        capture = self._running[number][0]
        capture.drain()
        return capture

    def stop(self, number: int) -> None:
        """End a capture, which forgets its packets. Raises LabError."""
        if number not in self._running:
            raise LabError(f"no capture has the number {number}")
        self._running.pop(number)[1].close()

    def all(self) -> list[Capture]:
        """Those that run."""
        return [capture for capture, _ in self._running.values()]

    def drain(self) -> None:
        """Have each take what has come."""
        for capture in self.all():
            capture.drain()
