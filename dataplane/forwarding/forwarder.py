"""The loop that carries packets between the TUN and the underlay, and nothing else.

A turn is one batch each way, so neither direction starves the other, however much is waiting:

    TUN -> batch -> engine.encapsulate -> underlay, and ICMP errors -> TUN; then the batch is counted
    underlay -> batch -> engine.decapsulate -> TUN; then the batch is counted

Between turns the loop sleeps in poll until one of the two ends has something, or control wakes it by an eventfd. What
control wants changed (new routes, a path MTU) waits in a queue and is done between two turns by the loop's own
thread, one after another: the engine sees every snapshot in order, and no lock is needed anywhere.

An engine that is a `LoopEngine` has all of this inside; then the thread just calls its `run`.
"""

import os
import select
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from functools import partial
from typing import Protocol

from dataplane.engines.contract import Engine, LoopEngine, PatientEngine
from dataplane.errors import NodeError
from dataplane.forwarding.udp import Destination
from dataplane.packets.batch import MAX_PACKET, PacketBatch
from dataplane.packets.counters import Counters
from dataplane.packets.routes import RouteSnapshot
from dataplane.packets.verdicts import Direction, Verdict

DEFAULT_SLOTS = 128
"""Packets in a batch: enough to spread the cost of a turn over, few enough that a turn ends within milliseconds."""


class TunEnd(Protocol):
    """What the loop asks of a TUN; see `tun.TunDevice`."""

    def read_batch(self, batch: PacketBatch) -> int:
        """Read what is waiting until `batch` is full."""

    def write_batch(self, batch: PacketBatch) -> None:
        """Write the packets whose egress is the TUN."""


class UnderlayEnd(Protocol):
    """What the loop asks of an underlay; see `udp.Underlay`."""

    def read_batch(self, batch: PacketBatch) -> int:
        """Read what is waiting until `batch` is full."""

    def write_batch(self, batch: PacketBatch, destinations: Mapping[int, Destination]) -> list[int]:
        """Send the packets whose egress is the underlay; return the indices of those too large for their path."""

    def write(self, batch: PacketBatch, i: int, destination: Destination) -> bool:
        """Send packet `i`; False when it is too large for its path."""

    def path_mtu(self, destination: Destination) -> int:
        """Bytes of the largest inner packet that the path carries."""


class HasDescriptor(Protocol):
    """An end that can be polled."""

    def fileno(self) -> int:
        """The descriptor."""


class TunFile(TunEnd, HasDescriptor, Protocol):
    """A TUN with a descriptor."""

    name: str


class UnderlaySocket(UnderlayEnd, HasDescriptor, Protocol):
    """An underlay with a descriptor."""


class BatchLoop:
    """Carries batches from one end to the other by way of an engine. Used by one thread."""

    def __init__(self, engine: Engine, tun: TunEnd, underlay: UnderlayEnd, slots: int = DEFAULT_SLOTS) -> None:
        self._engine = engine
        self._tun = tun
        self._underlay = underlay
        self._destinations: dict[int, Destination] = {}
        self._batch = PacketBatch(slots, MAX_PACKET)

    def set_routes(self, snapshot: RouteSnapshot) -> None:
        """Use these routes from the next turn on."""
        self._engine.set_routes(snapshot)
        self._destinations = destinations(snapshot)

    def turn(self, now_ns: int) -> int:
        """Move up to one batch each way; returns the packets that were read."""
        return self._encapsulate(now_ns) + self._decapsulate(now_ns)

    def _encapsulate(self, now_ns: int) -> int:
        batch = self._batch
        batch.clear()
        n_read = self._tun.read_batch(batch)
        if n_read:
            self._engine.encapsulate(batch, now_ns)
            for i in self._underlay.write_batch(batch, self._destinations):
                self._send_narrower(batch, i, now_ns)
            self._tun.write_batch(batch)
            self._engine.count(Direction.ENCAP, batch, now_ns)
        return n_read

    def _decapsulate(self, now_ns: int) -> int:
        batch = self._batch
        batch.clear()
        n_read = self._underlay.read_batch(batch)
        if n_read:
            self._engine.decapsulate(batch, now_ns)
            self._tun.write_batch(batch)
            self._engine.count(Direction.DECAP, batch, now_ns)
        return n_read

    def _send_narrower(self, batch: PacketBatch, i: int, now_ns: int) -> None:
        """Learn the path MTU that the kernel held against packet `i`; send it in another way, or tell its source."""
        peer = batch.next_hop[i]
        destination = self._destinations[peer]
        mtu = known_path_mtu(self._underlay, destination)
        if 0 < mtu < (batch.fragment_len[i] or batch.length[i]):
            self._engine.set_path_mtu(peer, mtu, now_ns)
            if self._engine.fit_anew(batch, i, now_ns) and not self._underlay.write(batch, i, destination):
                batch.verdict[i] = Verdict.SEND_FAILED
        else:
            batch.verdict[i] = Verdict.SEND_FAILED


class Forwarder:
    """One worker: a thread that moves packets between one TUN queue and one underlay socket.

    The ends stay the caller's, who closes them after `stop`. With a LoopEngine several forwarders may share one engine;
    then one of them is told of routes and paths.
    """

    def __init__(
        self,
        engine: Engine,
        tun: TunFile,
        underlay: UnderlaySocket,
        *,
        slots: int = DEFAULT_SLOTS,
        on_error: Callable[[Exception], None] | None = None,
    ) -> None:
        """`on_error` is called by the worker's thread when it has to give up; `error` then says why."""
        self._engine = engine
        self._tun = tun
        self._underlay = underlay
        self._loop = None if isinstance(engine, LoopEngine) else BatchLoop(engine, tun, underlay, slots)
        self._on_error = on_error
        self._destinations: dict[int, Destination] = {}
        self._requests: deque[Callable[[], None]] = deque()
        self._stopping = False
        self._wake_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._thread = threading.Thread(target=self._run, name=f"forwarder-{tun.name}", daemon=True)
        self.error: Exception | None = None
        """What made the worker give up, if it did."""

    def start(self) -> None:
        """Start moving packets. A forwarder is started once."""
        self._thread.start()

    def stop(self) -> None:
        """Stop, and wait until the worker has let go of the two ends."""
        self._stopping = True
        if isinstance(self._engine, PatientEngine):
            self._engine.interrupt()
        os.eventfd_write(self._wake_fd, 1)
        if self._thread.is_alive():
            self._thread.join()
        os.close(self._wake_fd)

    @property
    def running(self) -> bool:
        """Whether the worker is at work."""
        return self._thread.is_alive()

    def set_routes(self, snapshot: RouteSnapshot) -> None:
        """Forward by these routes from the next turn on."""
        self._destinations = destinations(snapshot)
        if self._loop is None:
            self._engine.set_routes(snapshot)
        else:
            self._request(partial(self._loop.set_routes, snapshot))

    def refresh_path_mtus(self) -> None:
        """Ask the kernel again about each path that was found narrow. Call it every minute or so.

        The kernel forgets a path MTU after ten minutes, in case the path has become wider; so do we, by asking.
        """
        self._request(partial(_refresh_path_mtus, self._engine, self._underlay, self._destinations))

    def forget_path_mtu(self, peer: int) -> None:
        """Take the path to peer id `peer` for as wide as is configured."""
        self._request(lambda: self._engine.set_path_mtu(peer, 0, time.monotonic_ns()))

    def counters(self) -> Counters:
        """The engine's counts up to now, to be read and not changed."""
        return self._engine.counters()

    def _request(self, action: Callable[[], None]) -> None:
        """Have something done between two turns; at once where the engine has no turns of ours."""
        if self._loop is None:
            action()
        else:
            self._requests.append(action)
            os.eventfd_write(self._wake_fd, 1)

    def _run(self) -> None:
        try:
            if self._loop is None:
                assert isinstance(self._engine, LoopEngine)
                self._engine.run(self._tun.fileno(), self._underlay.fileno(), self._wake_fd)
            else:
                self._run_batches(self._loop)
        except Exception as error:  # noqa: BLE001
            # Whatever it was, the thread ends here, and somebody has to hear of it.
            self.error = _explain(error, self._tun.name)
            if self._on_error:
                self._on_error(self.error)

    def _run_batches(self, loop: BatchLoop) -> None:
        poll = select.poll()
        for fd in (self._tun.fileno(), self._underlay.fileno(), self._wake_fd):
            poll.register(fd, select.POLLIN)
        while True:
            if any(fd == self._wake_fd for fd, _ in poll.poll()):
                os.eventfd_read(self._wake_fd)
            while self._requests:
                self._requests.popleft()()
            if self._stopping:
                return
            loop.turn(time.monotonic_ns())


def destinations(snapshot: RouteSnapshot) -> dict[int, Destination]:
    """Where to send the packets for each peer id."""
    return {peer.id: (str(peer.address), peer.port) for peer in snapshot.peers.values()}


def known_path_mtu(underlay: UnderlayEnd, destination: Destination) -> int:
    """Bytes of the largest inner packet to `destination`; 0 when the kernel knows no way there."""
    try:
        return underlay.path_mtu(destination)
    except OSError:
        return 0


def _refresh_path_mtus(engine: Engine, underlay: UnderlayEnd, peers: Mapping[int, Destination]) -> None:
    for peer, destination in peers.items():
        if engine.learned_mtu(peer) is not None:
            engine.set_path_mtu(peer, known_path_mtu(underlay, destination), time.monotonic_ns())


def _explain(error: Exception, tun_name: str) -> Exception:
    """An error of the system as a line for people; anything else is a defect and stays what it is."""
    if not isinstance(error, OSError):
        return error
    explained = NodeError(f"forwarding through {tun_name} has stopped: {error.strerror}")
    explained.__cause__ = error
    return explained
