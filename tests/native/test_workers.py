"""Several workers share the device and the port: flows spread over them, and each flow arrives whole and in order.

pod1 - node1 (3 workers) --- underlay --- (3 workers) node2 - pod2
"""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from bench.integrity import check_order, check_tcp, check_udp, two_nodes, without
from tests.engines.conftest import available

N_WORKERS = 3
N_BYTES = 5_000_000


@pytest.mark.skipif(not available("native"), reason="the C extension is not built: run ./dev test, or pip install -e .")
def test_flows_over_several_workers_arrive(tun_device: None, tmp_path: Path) -> None:
    with two_nodes(tmp_path) as overlay, without(overlay, (), "--workers", str(N_WORKERS)) as daemons:
        assert all(daemon.status()["backend"]["workers"] == N_WORKERS for daemon in daemons)
        here, there = (node.pods[0] for node in overlay.lab.nodes)
        with ThreadPoolExecutor(max_workers=6) as pool:
            ways = [(here, there, 4), (there, here, 4), (here, there, 6), (there, here, 6)] * 2
            flows = [pool.submit(check_tcp, sender, receiver, version, N_BYTES) for sender, receiver, version in ways]
            assert all(flow.result() > 0 for flow in flows)
        for version in (4, 6):
            check_order(check_udp(here, there, version, runs=20))
