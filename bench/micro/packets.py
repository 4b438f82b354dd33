"""Batches, packets and routes that the micro benchmarks work on, and how batches are timed."""

import struct
from collections.abc import Callable, Sequence
from ipaddress import IPv4Address, IPv4Network
from random import Random

from pytest_benchmark.fixture import BenchmarkFixture

from dataplane.engines.contract import EngineConfig
from dataplane.packets.batch import PacketBatch
from dataplane.packets.routes import RouteSnapshot, RouteTable, address_key

BASE = int(IPv4Address("10.0.0.0"))
PORT = 8285
OURS = IPv4Address("10.254.1.2")
"""A pod of the node whose engine is timed."""

CONFIG = EngineConfig(IPv4Network("10.254.1.0/24"), None, mtu=1472, icmp_rate=0)


def routes(n_prefixes: int) -> RouteSnapshot:
    """A peer for each of the first `n_prefixes` networks of /24 from 10.0.0.0 on."""
    table = RouteTable()
    for i in range(n_prefixes):
        table.set(str(i), IPv4Address(BASE + i), PORT, [IPv4Network((BASE + (i << 8), 24))])
    return table.snapshot()


def destinations(n_prefixes: int, n: int) -> list[IPv4Address]:
    """`n` addresses spread by chance over the prefixes of `routes`."""
    random = Random(n_prefixes)
    return [IPv4Address(BASE + (random.randrange(n_prefixes) << 8) + random.randrange(256)) for _ in range(n)]


def packet(source: IPv4Address, destination: IPv4Address, length: int = 100) -> bytes:
    """An IPv4 packet of UDP, with a TTL that lasts for a long benchmark; its checksum is not looked at."""
    header = struct.pack("!BBHHHBBH", 0x45, 0, length, 0, 0, 255, 17, 0) + source.packed + destination.packed
    return header + bytes(length - len(header))


class Reused:
    """A batch that is filled once and made as new for each round, so that only the engine is timed."""

    def __init__(self, packets: Sequence[bytes], sender: IPv4Address) -> None:
        self.batch = PacketBatch(len(packets), slot_size=128)
        for data in packets:
            self.batch.append(data, address_key(sender))
        self._arena = bytes(self.batch.arena)
        self._offset, self._length = bytes(self.batch.offset), bytes(self.batch.length)

    def restore(self) -> None:
        """Undo what an engine did to the packets."""
        self.batch.view[:] = self._arena
        self.batch.offset.cast("B")[:] = self._offset
        self.batch.length.cast("B")[:] = self._length


def time_batches(
    benchmark: BenchmarkFixture, decide: Callable[[PacketBatch], None], batches: Sequence[Reused], rounds: int
) -> None:
    """Time `decide` on all of `batches`, which are as new in every round, and note the nanoseconds a packet."""

    def restore() -> None:
        for reused in batches:
            reused.restore()

    def decide_all() -> None:
        for reused in batches:
            decide(reused.batch)

    benchmark.pedantic(decide_all, setup=restore, rounds=rounds, warmup_rounds=3)  # type: ignore[no-untyped-call]
    assert benchmark.stats is not None
    n_packets = sum(reused.batch.count for reused in batches)
    benchmark.extra_info["ns per packet"] = benchmark.stats["median"] * 1e9 / n_packets
