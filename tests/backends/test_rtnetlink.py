"""Entries of the kernel's tables, compared with what ip(8) and bridge(8) say of them."""

from ipaddress import ip_address, ip_network
from socket import if_nametoindex

import pytest

from dataplane.kernel.rtnetlink import Entry, ForwardingEntry, Neighbour, Route, Tables
from dataplane.lab.topology import Node
from tests.backends.conftest import shown

NETWORKS = [ip_network("10.5.0.0/16"), ip_network("fd00:5::/48")]
MAC = bytes.fromhex("0200000000aa")


@pytest.fixture
def device(node: Node) -> int:
    """The index of a vxlan device."""
    node.netns.ip("link add vx0 type vxlan id 7 dstport 0 dev eth0 local 192.168.0.201 nolearning", "link set vx0 up")
    return if_nametoindex("vx0")


def entries_to(device: int, subnet: str, remote: str) -> list[Entry]:
    network = ip_network(subnet)
    gateway = network.network_address
    return [
        Neighbour(device, gateway, MAC),
        ForwardingEntry(device, MAC, ip_address(remote)),
        Route(network, gateway, device, onlink=True),
    ]


def test_entries_are_what_the_tools_make_of_the_same_words(node: Node, device: int) -> None:
    with Tables() as tables:
        assert tables.update((), entries_to(device, "10.5.1.0/24", "192.168.0.9")) == []
    (route,) = shown(node.netns, "ip", "route", "show", "dev", "vx0")
    assert (route["dst"], route["gateway"], route["flags"]) == ("10.5.1.0/24", "10.5.1.0", ["onlink"])
    (neighbour,) = shown(node.netns, "ip", "neigh", "show", "dev", "vx0")
    assert neighbour == {"dst": "10.5.1.0", "lladdr": "02:00:00:00:00:aa", "state": ["PERMANENT"]}
    (entry,) = shown(node.netns, "bridge", "fdb", "show", "dev", "vx0")
    assert (entry["mac"], entry["dst"], entry["state"]) == ("02:00:00:00:00:aa", "192.168.0.9", "permanent")


@pytest.mark.parametrize(("subnet", "remote"), [("10.5.1.0/24", "192.168.0.9"), ("fd00:5:0:1::/64", "192.168.0.9")])
def test_what_was_put_is_read_and_can_be_removed_twice(device: int, subnet: str, remote: str) -> None:
    entries = entries_to(device, subnet, remote)
    with Tables() as tables:
        assert tables.update((), entries) == []
        assert tables.read(NETWORKS, {device}) == set(entries)
        assert tables.update((), entries) == []
        for _ in range(2):
            assert tables.update(entries, ()) == []
            assert tables.read(NETWORKS, {device}) == set()


def test_an_entry_takes_the_place_of_another(device: int) -> None:
    before, after = (entries_to(device, "10.5.1.0/24", remote) for remote in ("192.168.0.9", "192.168.0.8"))
    eth0 = if_nametoindex("eth0")
    after[2] = Route(ip_network("10.5.1.0/24"), ip_address("192.168.0.8"), eth0)
    with Tables() as tables:
        tables.update((), before)
        assert tables.update((), after) == []
        assert tables.read(NETWORKS, {device}) == set(after)


def test_only_our_own_is_read(node: Node, device: int) -> None:
    node.netns.ip(
        "route add 10.5.9.0/24 via 192.168.0.7",
        "route add fd00:5:0:9::/64 via fd00:192:168::7",
        "neigh add 10.5.9.0 dev vx0 lladdr 02:00:00:00:00:bb nud reachable",
        "neigh add 192.168.0.7 dev eth0 lladdr 02:00:00:00:00:bb nud permanent",
        "route add 10.6.0.0/24 via 192.168.0.7 proto 85",
    )
    with Tables() as tables:
        assert tables.read(NETWORKS, {device}) == set()


def test_thousands_go_in_and_come_out(device: int) -> None:
    eth0 = if_nametoindex("eth0")
    subnets = [ip_network((int(ip_address("10.5.0.0")) + 16 * number, 28)) for number in range(4000)]
    entries: set[Entry] = {Route(subnet, ip_address("192.168.0.1"), eth0) for subnet in subnets}
    with Tables() as tables:
        assert tables.update((), entries) == []
        assert tables.read(NETWORKS, {device}) == entries
        assert tables.update(entries, ()) == []
        assert tables.read(NETWORKS, {device}) == set()


def test_what_the_kernel_refuses_is_said_and_the_rest_is_done(device: int) -> None:
    refused = Route(ip_network("10.5.1.0/24"), ip_address("172.16.0.1"), if_nametoindex("eth0"))
    taken = Route(ip_network("10.5.2.0/24"), ip_address("192.168.0.1"), if_nametoindex("eth0"))
    with Tables() as tables:
        (refusal,) = tables.update((), [refused, taken])
        assert (refusal.entry, refusal.reason) == (refused, "Network is unreachable")
        assert tables.read(NETWORKS, {device}) == {taken}
