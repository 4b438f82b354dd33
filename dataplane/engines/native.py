"""The native engine: the packet rules in C, and a loop in C that runs without the interpreter lock.

This module is the control side: it hands routes and path MTUs to the engine in C, and reads its counters while its
workers are busy. What happens to packets is in native/: decide.c has the rules, loop.c the loop. The two sides
share no locks; native/engine.h says how routes get across.
"""

import logging
import os
import struct
import threading
from typing import Any

from dataplane._native import ffi, lib
from dataplane.engines.contract import OFFLOADS, EngineConfig, LearnedMtu
from dataplane.packets.batch import PacketBatch
from dataplane.packets.counters import Counters, PeerCounters
from dataplane.packets.routes import RouteSnapshot, address_key, prefix_length
from dataplane.packets.verdicts import Direction, Event, Verdict

PEER = struct.Struct("=16siII")
"""struct dp_peer"""

PREFIX = struct.Struct("=16sIi")
"""struct dp_prefix"""

_log = logging.getLogger(__name__)

_WHY_OFF = {
    lib.DP_FEATURE_STATE_UNKNOWN: "no worker has started",
    lib.DP_FEATURE_STATE_BY_HAND: "switched off by hand",
    lib.DP_FEATURE_STATE_NO_HEADER: "the TUN device was opened without vnet header",
    lib.DP_FEATURE_STATE_REFUSED: "the system refuses it",
    lib.DP_FEATURE_STATE_FAILED: "it failed",
    lib.DP_FEATURE_STATE_DEFECT: "this kernel spoils packets with it",
}

_UINT8_ARRAYS = ("arena", "verdict", "egress", "no_df", "tos", "source")
_UINT32_ARRAYS = ("offset", "length", "received", "fragment_len")


class NativeEngine:
    """Decides about batches like any engine; see `contract.Engine` for the contract of each method."""

    def __init__(self, config: EngineConfig) -> None:
        self.config = config
        self._engine = ffi.gc(lib.dp_engine_new(_config(config)), lib.dp_engine_free)
        if self._engine == ffi.NULL:
            raise MemoryError
        self._control = threading.Lock()
        """Held while one thread changes what the engine shares with its workers."""
        self._generations: dict[int, int] = {}
        """By peer id; a peer that takes over the id of one that is gone gets a new number."""
        self._last_generation = 0
        self._batch: tuple[PacketBatch, Any] | None = None
        self._idle_workers: list[Any] = []
        self._told: set[str] = set()
        """Features whose failure is in the log."""

    def run(self, tun_fd: int, udp_fd: int, stop_fd: int) -> None:
        """Move packets until `stop_fd` becomes readable. Each caller's thread is a worker of its own."""
        worker = self._take_worker()
        try:
            while _check(lib.dp_worker_run(worker, tun_fd, udp_fd, stop_fd)):
                self._tell_of_failures()
        finally:
            with self._control:
                self._idle_workers.append(worker)

    def features(self) -> dict[str, str]:
        """The offloads, each as `on` or `off (why)`, and the variant of the checksum."""
        features = {name: self._feature(number) for number, name in enumerate(OFFLOADS)}
        return features | {"checksum": ffi.string(lib.dp_checksum_variant()).decode()}

    def set_routes(self, snapshot: RouteSnapshot) -> None:
        """Use these routes from the next batch, or the next turn of a worker, on."""
        with self._control:
            generations = {peer: self._generation(peer) for peer in snapshot.peers}
            peers = [
                PEER.pack(address_key(peer.address), peer.id, generations[peer.id], peer.port)
                for peer in snapshot.peers.values()
            ]
            prefixes = [
                PREFIX.pack(key, length, peer)
                for length, table in snapshot.prefixes.items()
                for key, peer in table.items()
            ]
            _check(
                lib.dp_engine_set_routes(
                    self._engine,
                    ffi.from_buffer("struct dp_peer[]", b"".join(peers)),
                    len(peers),
                    ffi.from_buffer("struct dp_prefix[]", b"".join(prefixes)),
                    len(prefixes),
                )
            )
            self._generations = generations

    def set_path_mtu(self, peer: int, mtu: int, now_ns: int) -> None:
        """Note what the path to `peer` carries."""
        with self._control:
            lib.dp_engine_set_path_mtu(self._engine, peer, mtu, now_ns)

    def path_mtu(self, peer: int) -> int:
        """Bytes of the largest inner packet to `peer`."""
        with self._control:
            return int(lib.dp_engine_path_mtu(self._engine, peer))

    def learned_mtu(self, peer: int) -> LearnedMtu | None:
        """What the kernel said of the path to `peer`."""
        since_ns = ffi.new("uint64_t *")
        with self._control:
            mtu = lib.dp_engine_learned_mtu(self._engine, peer, since_ns)
        return LearnedMtu(mtu, since_ns[0]) if mtu else None

    def encapsulate(self, batch: PacketBatch, now_ns: int) -> None:
        """Decide about packets read from the TUN."""
        lib.dp_engine_encapsulate(self._engine, self._pointers(batch), now_ns)

    def decapsulate(self, batch: PacketBatch, now_ns: int) -> None:
        """Decide about datagrams read from the underlay."""
        lib.dp_engine_decapsulate(self._engine, self._pointers(batch), now_ns)

    def fit_anew(self, batch: PacketBatch, i: int, now_ns: int) -> bool:
        """Decide once more whether and how the encapsulated packet `i` is sent."""
        return bool(lib.dp_engine_fit_anew(self._engine, self._pointers(batch), i, now_ns))

    def count(self, direction: Direction, batch: PacketBatch, now_ns: int) -> None:
        """Count every packet of `batch` under its final verdict."""
        lib.dp_engine_count(self._engine, direction, self._pointers(batch), now_ns)

    def counters(self) -> Counters:
        """The sum over all workers at this moment."""
        total = Counters()
        counted, traffic = ffi.new("struct dp_counters *"), ffi.new("struct dp_peer_counters *")
        for worker in self._workers():
            lib.dp_worker_counters(worker, counted)
            for event in Event:
                total.events[event] += counted.events[event]
            for direction in Direction:
                for verdict in Verdict:
                    total.packets[direction][verdict] += counted.packets[direction][verdict]
                    total.bytes[direction][verdict] += counted.bytes[direction][verdict]
            for peer, generation in self._generations.items():
                if lib.dp_worker_peer_counters(worker, peer, traffic):
                    _add_peer(total, peer, generation, traffic)
        return total

    def _take_worker(self) -> Any:
        """A worker for one thread: one that ended, with all that it has counted, or a new one."""
        with self._control:
            if self._idle_workers:
                return self._idle_workers.pop()
            worker = lib.dp_engine_add_worker(self._engine)
        if worker == ffi.NULL:
            raise MemoryError
        return worker

    def _tell_of_failures(self) -> None:
        """Log each feature that has failed once, whichever worker comes first."""
        with self._control:
            for number, name in enumerate(OFFLOADS):
                if name not in self._told and self._state(number)[0] == lib.DP_FEATURE_STATE_FAILED:
                    self._told.add(name)
                    _log.warning("%s is %s; forwarding goes on without it, slower", name, self._feature(number))

    def _feature(self, number: int) -> str:
        state, error = self._state(number)
        if state == lib.DP_FEATURE_STATE_ON:
            return "on"
        why = _WHY_OFF[state] + (f": {os.strerror(error)}" if error else "")
        return f"off ({why})"

    def _state(self, number: int) -> tuple[int, int]:
        """An enum dp_feature_state, and the errno that goes with it."""
        error = ffi.new("int *")
        return lib.dp_engine_feature(self._engine, number, error), error[0]

    def _workers(self) -> list[Any]:
        workers: list[Any] = []
        with self._control:
            while (worker := lib.dp_engine_worker(self._engine, len(workers))) != ffi.NULL:
                workers.append(worker)
        return workers

    def _generation(self, peer: int) -> int:
        known = self._generations.get(peer)
        if known is None:
            self._last_generation += 1
            known = self._last_generation
        return known

    def _pointers(self, batch: PacketBatch) -> Any:
        """The struct dp_batch of `batch`, made anew only when another batch comes."""
        if self._batch is None or self._batch[0] is not batch:
            self._batch = (batch, _BatchPointers(batch))
        pointers = self._batch[1]
        pointers.struct.count = batch.count
        return pointers.struct


class _BatchPointers:
    """A struct dp_batch, and what keeps the memory that it points to in place."""

    def __init__(self, batch: PacketBatch) -> None:
        self.struct = ffi.new("struct dp_batch *")
        self._buffers: list[Any] = []
        for name in _UINT8_ARRAYS:
            self._point(name, "uint8_t[]", getattr(batch, name))
        for name in _UINT32_ARRAYS:
            self._point(name, "uint32_t[]", getattr(batch, name))
        self._point("next_hop", "int32_t[]", batch.next_hop)

    def _point(self, name: str, kind: str, array: Any) -> None:
        buffer = ffi.from_buffer(kind, array, require_writable=True)
        self._buffers.append(buffer)
        setattr(self.struct, name, buffer)


def _config(config: EngineConfig) -> Any:
    """The struct dp_config of `config`."""
    result = ffi.new("struct dp_config *")
    if config.subnet4:
        result.subnet4, result.subnet4_len = address_key(config.subnet4.network_address), prefix_length(config.subnet4)
    if config.subnet6:
        result.subnet6, result.subnet6_len = address_key(config.subnet6.network_address), prefix_length(config.subnet6)
    result.carry_tos = config.carry_tos
    result.check_sender = config.check_sender
    result.mtu = config.mtu
    result.least_mtu = config.least_mtu
    result.icmp_rate = config.icmp_rate
    result.icmp_burst = config.icmp_burst
    result.batch = config.loop.batch
    result.busy_poll_us = config.loop.busy_poll_us
    result.unwanted_features = sum(1 << OFFLOADS.index(name) for name in config.loop.no_offload)
    return result


def _add_peer(total: Counters, peer: int, generation: int, counted: Any) -> None:
    """Add a worker's traffic with one peer; what was counted for an earlier peer of this id is left out."""
    if counted.generation != generation:
        return
    total.peers.setdefault(peer, PeerCounters()).add(
        PeerCounters(counted.tx_packets, counted.tx_bytes, counted.rx_packets, counted.rx_bytes, counted.last_rx_ns)
    )


def _check(status: int) -> int:
    """Raise the OSError of a negative status."""
    if status < 0:
        raise OSError(-status, os.strerror(-status))
    return status


def spoils_segments(release: str) -> bool:
    """Whether the kernel of this release (uname(2)) is known to spoil datagrams that it cuts itself (`gso`)."""
    return bool(lib.dp_kernel_spoils_segments(release.encode(errors="replace")))


def fragments(packet: bytes, mtu: int) -> bytes:
    """All fragments that the loop makes of a packet, one behind the other; none when it may not or cannot be cut."""
    place = bytearray(10 * len(packet))  # of 8 bytes of data each, behind 60 of header
    size = lib.dp_fragment(packet, len(packet), mtu, ffi.from_buffer(place), len(place))
    return bytes(place[: max(size, 0)])


def create(config: EngineConfig) -> NativeEngine:
    """Make the engine."""
    return NativeEngine(config)
