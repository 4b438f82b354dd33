"""Pinger and transfer over plain routing; the kernel is the peer and its counters are the oracle."""

from ipaddress import ip_address
from pathlib import Path

import pytest

from dataplane.lab.netns import LabError
from dataplane.lab.ping import FAMILIES, ping
from dataplane.lab.topology import Lab, Pod
from dataplane.lab.transfer import transfer

VERSIONS = (4, 6)
TIME_EXCEEDED = {4: 11, 6: 3}


def ends(lab: Lab) -> tuple[Pod, Pod]:
    return lab.nodes[0].pods[0], lab.nodes[1].pods[1]


@pytest.mark.parametrize("version", VERSIONS)
def test_ping_sees_the_ttl_after_two_routers(routed_lab: Lab, version: int) -> None:
    source, target = ends(routed_lab)
    replies = ping(source.netns, target.address(version), count=3)
    assert all(reply is not None for reply in replies)
    for reply in replies:
        assert reply is not None
        assert (reply.source, reply.ttl, reply.echoed) == (target.address(version), 62, True)
        assert reply.type == FAMILIES[version].reply
        assert 0 < reply.rtt < 2


@pytest.mark.parametrize("version", VERSIONS)
def test_ping_shows_who_sent_an_icmp_error(routed_lab: Lab, version: int) -> None:
    source, target = ends(routed_lab)
    (reply,) = ping(source.netns, target.address(version), ttl=1)
    assert reply is not None
    assert (reply.echoed, reply.type, reply.code) == (False, TIME_EXCEEDED[version], 0)
    gateway = next(a.network[1] for a in source.addresses if a.version == version)
    assert reply.source == gateway


def test_ping_takes_no_answer_for_an_answer(routed_lab: Lab) -> None:
    source, _ = ends(routed_lab)
    assert ping(source.netns, ip_address("192.168.0.99"), timeout=0.1) == [None]


def test_large_pings_arrive_whole(routed_lab: Lab) -> None:
    source, target = ends(routed_lab)
    (reply,) = ping(source.netns, target.address(4), size=8000)
    assert reply is not None
    assert reply.echoed


ENOUGH_BYTES = 100_000
"""Beside so many, those of the handshake do not count."""


def received_bytes(pod: Pod) -> int:
    with pod.netns.entered(), Path("/proc/thread-self/net/dev").open() as table:
        return next(int(line.split()[1]) for line in table if line.strip().startswith("eth0:"))


@pytest.mark.parametrize("version", VERSIONS)
def test_transfer_counts_what_the_kernel_counts(routed_lab: Lab, version: int) -> None:
    source, target = ends(routed_lab)
    for seconds in (0.2, 2, 20):  # a busy machine may not come to send anything for a while
        before = received_bytes(target)
        result = transfer(source.netns, target.netns, target.address(version), seconds=seconds)
        seen = received_bytes(target) - before
        if result.n_bytes >= ENOUGH_BYTES:
            break
    assert result.n_bytes <= seen <= result.n_bytes * 1.2  # headers, acknowledgements, retransmissions
    assert result.gbits_per_second == pytest.approx(result.n_bytes * 8e-9 / result.seconds)
    assert result.longest_stall <= result.seconds


def test_a_transfer_without_a_path_says_so(routed_lab: Lab) -> None:
    source, target = ends(routed_lab)
    target.netns.ip("route add blackhole 10.254.1.0/24")
    try:
        with pytest.raises(LabError, match=r"TCP from \S+ to 10\.254\.2\.3: timed out"):
            transfer(source.netns, target.netns, target.address(4), seconds=0.1, timeout=0.2)
    finally:
        target.netns.ip("route del blackhole 10.254.1.0/24")
