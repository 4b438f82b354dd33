"""What a node finds at its start: kernels that lack an offload, and people who do not want one.

pod1 -- node1 [an older kernel, it seems] --- underlay --- [the same] node2 -- pod2
"""

import errno
import os
from concurrent.futures import ThreadPoolExecutor

import pytest

from bench.integrity import check_tcp
from dataplane.engines.contract import OFFLOADS
from dataplane.lab.transfer import transfer
from tests.offloads.conftest import ALL_ON, Pair, Start
from tests.offloads.exchange import lockstep
from tests.offloads.faults import Faults
from tests.waiting import wait_until

TUN_F_USO = 0x60
TUN_F_ALL = 0x7F
N_BYTES = 1_000_000
TRANSFER_SECONDS = 4.0


def refused(error: int) -> str:
    """How status shows an offload that the kernel does not have."""
    return f"off (the system refuses it: {os.strerror(error)})"


NO_OPTION, NO_OFFLOAD = refused(errno.ENOPROTOOPT), refused(errno.EINVAL)

KERNELS = {
    "Linux 4.17": (
        {"refused_udp_segment": 1, "refused_udp_gro": 1, "refused_tun_offloads": TUN_F_USO},
        {"tso": "on", "gso": NO_OPTION, "gro": NO_OPTION, "uso": NO_OFFLOAD},
    ),
    "Linux 4.18": (
        {"refused_udp_gro": 1, "refused_tun_offloads": TUN_F_USO},
        {"tso": "on", "gso": "on", "gro": NO_OPTION, "uso": NO_OFFLOAD},
    ),
    "Linux 6.1": (
        {"refused_tun_offloads": TUN_F_USO},
        {"tso": "on", "gso": "on", "gro": "on", "uso": NO_OFFLOAD},
    ),
    "no offload of the TUN": (
        {"refused_tun_offloads": TUN_F_ALL},
        {"tso": NO_OFFLOAD, "gso": "on", "gro": "on", "uso": NO_OFFLOAD},
    ),
}
"""What is refused, and the offloads that status shows then."""


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_kernel_without(start_faulty: Start, faults: Faults, kernel: str) -> None:
    refusals, expected = KERNELS[kernel]
    faults.set(**refusals)
    with start_faulty() as pair:
        check_both_ways(pair)
        for node in (0, 1):
            assert pair.features(node).items() >= expected.items()


def test_the_environment_switches_all_off(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UDPLANE_NO_OFFLOAD", "all")
    with start() as pair:
        check_both_ways(pair)
        features = pair.features(0)
        assert {name: features[name] for name in OFFLOADS} == dict.fromkeys(OFFLOADS, "off (switched off by hand)")


def test_offloads_can_be_switched_off_under_a_connection(start: Start) -> None:
    """The switch takes a restart, and connections outlive that."""
    with ThreadPoolExecutor(max_workers=1) as pool:
        with start(*ALL_ON) as pair:
            first, second = pair.pods
            before = pair.packets(0, "encap")
            moving = pool.submit(
                transfer, first.netns, second.netns, second.address(4), seconds=TRANSFER_SECONDS, timeout=30
            )
            wait_until(lambda: pair.packets(0, "encap") - before > 1000, "the transfer is under way")
        with start("--no-offload", "all") as pair:
            wait_until(lambda: pair.packets(0, "encap") > 1000, "the transfer goes on")
            assert not moving.done()
            moving.result()  # LabError for a byte that is missing


def check_both_ways(pair: Pair) -> None:
    """Everything arrives, in both directions and both IP versions."""
    first, second = pair.pods
    for version in (4, 6):
        lockstep(first, second, version)
        check_tcp(second, first, version, N_BYTES)
