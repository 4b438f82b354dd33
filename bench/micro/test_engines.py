"""What an engine takes for a batch, by direction and batch size. The JSON's `extra_info` has nanoseconds a packet."""

from ipaddress import IPv4Address

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from bench.micro.packets import BASE, CONFIG, OURS, Reused, packet, routes, time_batches
from dataplane.engines.registry import ENGINES, load_engine
from dataplane.packets.verdicts import Direction, Verdict

SIZES = (1, 16, 128)
ROUNDS = {"python": 200, "numpy": 1000, "native": 5000}
PEER, PEERS_POD = IPv4Address(BASE), IPv4Address(BASE + 2)


@pytest.mark.parametrize("size", SIZES, ids="batch of {}".format)
@pytest.mark.parametrize("direction", Direction, ids=lambda direction: direction.name.lower())
@pytest.mark.parametrize("name", ENGINES)
def test_batch(benchmark: BenchmarkFixture, name: str, direction: Direction, size: int) -> None:
    """One call of `encapsulate` or `decapsulate`."""
    benchmark.group = f"{direction.name.lower()}, batch of {size}"
    engine = load_engine(name, CONFIG)
    engine.set_routes(routes(64))
    encap = direction == Direction.ENCAP
    data = packet(OURS, PEERS_POD) if encap else packet(PEERS_POD, OURS)
    reused = Reused([data] * size, sender=PEER)
    decide = engine.encapsulate if encap else engine.decapsulate
    time_batches(benchmark, lambda batch: decide(batch, 1), [reused], ROUNDS[name])
    assert set(reused.batch.verdict[:size]) == {Verdict.FORWARDED}
