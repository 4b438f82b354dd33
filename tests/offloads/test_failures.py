"""An offload that fails while packets flow: what was in hand goes the plain way, and nothing is lost.

    pod1 -- node1 [segmented sends fail] --- underlay --- node2 [writes of super-packets fail] -- pod2

The faults stand between the nodes and the kernel (faults.py).
"""

import errno
import os
from concurrent.futures import ThreadPoolExecutor

import pytest

from bench.integrity import check_tcp
from dataplane.forwarding.udp import ENCAP_OVERHEAD
from dataplane.lab.overlay import Daemon
from dataplane.lab.transfer import transfer
from tests.offloads.conftest import ALL_ON, Pair, Start
from tests.offloads.exchange import lockstep
from tests.offloads.faults import Faults
from tests.waiting import wait_until

N_BYTES = 2_000_000


def failed(error: int) -> str:
    """How status shows an offload that failed."""
    return f"off (it failed: {os.strerror(error)})"


def warnings(daemon: Daemon, words: str, start: int) -> list[str]:
    """Lines of the log with these words, `start` bytes into it."""
    return [line for line in daemon.log.read_bytes()[start:].decode().splitlines() if words in line]


def log_size(daemon: Daemon) -> int:
    return daemon.log.stat().st_size


def exchange(pair: Pair) -> None:
    """UDP and TCP over IPv4 and IPv6, from pod1 to pod2. Every packet that node1 has sent, node2 has forwarded."""
    for version in (4, 6):
        lockstep(*pair.pods, version)
        check_tcp(*pair.pods, version, N_BYTES)
    wait_until(lambda: pair.packets(0, "encap") == pair.packets(1, "decap"), "node2 has forwarded what node1 has sent")
    wait_until(lambda: pair.packets(1, "encap") == pair.packets(0, "decap"), "node1 has forwarded what node2 has sent")
    for node in (0, 1):
        assert not pair.drops(node, "encap")
        assert not pair.drops(node, "decap")


@pytest.mark.parametrize("said", [errno.EMSGSIZE, errno.EINVAL], ids=["Linux 6.14", "older Linux"])
def test_a_path_that_narrows_under_a_transfer(start_faulty: Start, faults: Faults, said: int) -> None:
    """Segments larger than the path are not the offload's fault: the pod is told the MTU, and gso stays on."""
    narrow = 1350
    with start_faulty() as pair, ThreadPoolExecutor(max_workers=1) as pool:
        faults.set(too_big_errno=said)
        first, second = pair.pods
        start = pair.packets(0, "encap")
        moving = pool.submit(transfer, first.netns, second.netns, second.address(4), seconds=1.5, timeout=30)
        wait_until(lambda: pair.packets(0, "encap") - start > 1000, "the transfer is under way")
        route = f"{pair.nodes[1].address(4)} dev eth0 mtu {narrow}"
        pair.nodes[0].netns.ip(f"route add {route}")
        try:
            wait_until(lambda: pair.status(0)["peers"][0]["mtu"] == narrow - ENCAP_OVERHEAD[4], "node1 learns the MTU")
            learned = pair.packets(0, "encap")
            wait_until(lambda: pair.packets(0, "encap") - learned > 1000, "the transfer goes on in smaller packets")
            moving.result()  # LabError for a byte that is missing
        finally:
            pair.nodes[0].netns.ip(f"route del {route}")
            first.netns.ip("route flush cache")
        assert set(pair.drops(0, "encap")) == {"too_big"}
        assert pair.features(0)["gso"] == "on"


@pytest.mark.parametrize("error", [errno.EIO, errno.EINVAL, errno.EMSGSIZE], ids=errno.errorcode.get)
def test_a_segmented_send_that_fails(start_faulty: Start, faults: Faults, error: int) -> None:
    with start_faulty() as pair:
        lockstep(*pair.pods, 4)
        assert pair.features(0)["gso"] == "on"
        log_start = log_size(pair.daemons[0])
        faults.set(segmented_send_errno=error)
        exchange(pair)
        assert pair.features(0)["gso"] == failed(error)
        assert len(warnings(pair.daemons[0], "gso is off", log_start)) == 1
        tries = faults.hits
        lockstep(*pair.pods, 6)
        assert faults.hits == tries, "it was tried again"


def test_super_packets_that_the_tun_refuses(start_faulty: Start, faults: Faults) -> None:
    """First of UDP, then of TCP: each takes away what it is about, and is told once."""
    with start_faulty() as pair:
        lockstep(*pair.pods, 4)
        log_start = log_size(pair.daemons[1])
        faults.set(super_write_errno=errno.EINVAL)
        lockstep(*pair.pods, 6)
        features = pair.features(1)
        assert (features["gro"], features["uso"]) == ("on", failed(errno.EINVAL))
        exchange(pair)
        features = pair.features(1)
        assert (features["gro"], features["uso"]) == (failed(errno.EINVAL), failed(errno.EINVAL))
        for name in ("gro", "uso"):
            assert len(warnings(pair.daemons[1], f"{name} is off", log_start)) == 1
        tries = faults.hits
        lockstep(*pair.pods, 6)
        assert faults.hits == tries, "it was tried again"


def test_a_kernel_that_takes_fewer_messages_than_it_is_given(start_faulty: Start, faults: Faults) -> None:
    """Without UDP_SEGMENT each packet is a message, and a run of them one call of sendmmsg."""
    with start_faulty("--no-offload", "gso") as pair:
        faults.set(most_per_call=1)
        exchange(pair)
        assert faults.hits > 100


def test_two_workers_tell_of_a_failure_once(start_faulty: Start, faults: Faults) -> None:
    with start_faulty(*ALL_ON, "--workers", "2") as pair:
        log_start = log_size(pair.daemons[0])
        faults.set(segmented_send_errno=errno.EIO)
        for _ in range(10):  # each has a source port of its own, so both workers come to it
            lockstep(*pair.pods, 4, [(1400, 45)])
        assert pair.features(0)["gso"] == failed(errno.EIO)
        assert len(warnings(pair.daemons[0], "gso is off", log_start)) == 1
