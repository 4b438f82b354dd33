"""The native engine's cost by size of the route table: it should not depend on it.

Each packet of a batch goes to another prefix. `busy` packets go to the same 128 prefixes again and again, as in a
cluster where everybody is a peer and some talk; `all` are spread over the whole table, so what also shows is how much
of it the processor's caches hold.
"""

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from bench.micro.packets import CONFIG, OURS, Reused, destinations, packet, routes, time_batches
from dataplane.engines.registry import load_engine
from dataplane.packets.verdicts import Verdict

N_PREFIXES = (1, 256, 5_000, 100_000)
BATCH = 128
N_BATCHES = {"busy": 1, "all": 64}


@pytest.mark.parametrize("n_prefixes", N_PREFIXES)
@pytest.mark.parametrize("spread", N_BATCHES)
def test_lookup(benchmark: BenchmarkFixture, n_prefixes: int, spread: str) -> None:
    """Encapsulation, of which the lookup is the one step that could depend on the table."""
    benchmark.group = f"encapsulate to {spread} prefixes"
    engine = load_engine("native", CONFIG)
    engine.set_routes(routes(n_prefixes))
    targets = destinations(n_prefixes, BATCH * N_BATCHES[spread])
    batches = [
        Reused([packet(OURS, target) for target in targets[at : at + BATCH]], sender=OURS)
        for at in range(0, len(targets), BATCH)
    ]
    time_batches(benchmark, lambda batch: engine.encapsulate(batch, 1), batches, rounds=3000 // N_BATCHES[spread])
    assert set(batches[-1].batch.verdict) == {Verdict.FORWARDED}
