"""What a node believes of leases and of the network config, against the routes that engines look packets up in."""

import random
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataplane.errors import ConfigError
from dataplane.leases.gate import LeaseGate, Refusal, check_underlay
from dataplane.leases.lease import Change, Lease, LeaseEvent
from dataplane.leases.network_config import NetworkConfig
from dataplane.leases.table import LeaseTable
from dataplane.packets.batch import NO_PEER
from dataplane.packets.routes import RouteTable, address_key
from tests.leases.hostile_leases import DUAL, OWN, PLAIN, any_gates, any_lease, lease, peers_of


def reason(gate: LeaseGate, item: Lease) -> str:
    judged = gate.admit(item)
    return judged.reason if isinstance(judged, Refusal) else ""


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("8.8.8.0-24", "8.8.8.0/24 is not in the network config's 10.5.0.0/16"),
        ("128.0.0.0-1", "128.0.0.0/1 is not in the network config's 10.5.0.0/16"),
        ("10.0.0.0-8", "10.0.0.0/8 is not in"),
        ("10.5.2.0-25", "10.5.2.0/25 is no /24, which is the network config's SubnetLen; if that was changed, restart"),
        ("10.5.0.0-16", "is no /24"),
        ("10.5.2.1-32", "leaves no room for pods"),
        ("0.0.0.0-0&fd00:5:0:1::-64", "no subnet of a family that the network config enables"),
        ("10.5.2.0-24&::ffff:a05:100-120", "::ffff:a05:100/120 overlaps ::ffff:0:0/96 (IPv4 written as IPv6)"),
        ("10.5.2.0-24&ff02::-64", "(multicast)"),
        ("10.5.0.0-24", ""),  # below SubnetMin
        ("10.5.2.0-24&fd00:5:0:1::-64", ""),
    ],
)
def test_subnets(key: str, words: str) -> None:
    found = reason(LeaseGate(PLAIN), lease(key))
    assert words in found
    assert bool(words) == bool(found)


@pytest.mark.parametrize(
    ("addresses", "words"),
    [
        ("127.0.0.1", "its public address 127.0.0.1 lies in 127.0.0.0/8 (loopback)"),
        ("0.1.2.3", "(this host)"),
        ("224.0.0.1", "(multicast)"),
        ("255.255.255.255", "(broadcast)"),
        ("10.5.2.3", "its public address 10.5.2.3 lies in the pod network 10.5.0.0/16"),
        ("192.168.0.1", "its public address 192.168.0.1 is this node's own"),
        ("::1", "(loopback and unspecified)"),
        ("::ffff:192.168.0.9", "(IPv4 written as IPv6)"),
        ("fe80::1", "(link-local)"),
        ("ff02::1", "(multicast)"),
        ("fd00:5::1", "lies in the pod network fd00:5::/48"),
        ("192.168.0.9 ff02::1", "(multicast)"),
        ("192.168.0.9", ""),
        ("169.254.0.9", ""),
        ("240.0.0.1", ""),
        ("192.168.0.9 fd01::9", ""),
        ("2001:db8::9", ""),
    ],
)
def test_public_addresses(addresses: str, words: str) -> None:
    gate = LeaseGate(DUAL, [IPv4Address("192.168.0.1"), None])
    found = reason(gate, lease("10.5.2.0-24&fd00:5:0:2::-64", *addresses.split()))
    assert words in found
    assert bool(words) == bool(found)


def test_a_store_whose_subnets_somebody_else_cuts_has_them_of_any_length() -> None:
    gate = LeaseGate(PLAIN, any_length=True)
    for key in ("10.5.2.0-25", "10.5.0.0-16", "10.5.2.4-30"):
        assert reason(gate, lease(key)) == ""
    assert "is not in" in reason(gate, lease("10.4.0.0-15"))


def test_a_subnet_of_a_family_that_is_off_is_left_out() -> None:
    both = lease("10.5.2.0-24&fd00:5:0:2::-64")
    assert LeaseGate(PLAIN).admit(both) == lease("10.5.2.0-24")
    assert LeaseGate(DUAL).admit(both) is both
    alone = lease("10.5.2.0-24")
    assert LeaseGate(DUAL).admit(alone) is alone


@pytest.mark.parametrize("address", ["10.5.0.1", "10.5.255.255", "fd00:5::1"])
def test_a_network_that_holds_the_nodes_own_address_is_refused(address: str) -> None:
    with pytest.raises(ConfigError, match=f"holds this node's own address {address}"):
        check_underlay(DUAL, [None, IPv4Address("192.168.0.1"), ip_address(address)])
    check_underlay(DUAL, [None, IPv4Address("10.6.0.1"), IPv6Address("fd00:6::1")])


@given(any_gates, st.lists(any_lease, max_size=12), st.randoms(use_true_random=False))
def test_what_passes_lies_in_the_network_and_every_address_of_it_is_looked_up_to_its_own_node(
    choice: tuple[NetworkConfig, LeaseGate], leases: list[Lease], rng: random.Random
) -> None:
    config, gate = choice
    peers = peers_of(gate, leases)
    routes = RouteTable()
    ids = {key: routes.set(key, it.attrs.addresses[0], 8285, it.subnets).id for key, it in peers.items()}
    snapshot = routes.snapshot()
    assert sum(len(table) for table in snapshot.prefixes.values()) == sum(len(list(p.subnets)) for p in peers.values())
    for key, peer in peers.items():
        for subnet in peer.subnets:
            assert any(
                subnet.version == pool.network.version and _lies_in(subnet, pool.network) for pool in config.pools
            )
            inside = int(subnet.network_address) + rng.randrange(subnet.num_addresses)
            for number in (int(subnet.network_address), inside, int(subnet.broadcast_address)):
                address = type(subnet.network_address)(number)
                assert snapshot.lookup(address_key(address)) == ids[key]
        for address in peer.attrs.addresses:
            assert snapshot.lookup(address_key(address)) == NO_PEER
            assert address not in OWN.attrs.addresses
    for subnet in OWN.subnets:
        assert snapshot.lookup(address_key(subnet.network_address)) == NO_PEER


def _lies_in(subnet: IPv4Network | IPv6Network, network: IPv4Network | IPv6Network) -> bool:
    first, last = int(network.network_address), int(network.broadcast_address)
    return first <= int(subnet.network_address) and int(subnet.broadcast_address) <= last


@given(any_gates, st.lists(any_lease, max_size=12, unique_by=lambda it: it.key), st.randoms(use_true_random=False))
def test_the_same_leases_are_used_in_whatever_order_they_come(
    choice: tuple[NetworkConfig, LeaseGate], leases: list[Lease], rng: random.Random
) -> None:
    _, gate = choice
    expected = peers_of(gate, leases)
    table = LeaseTable(OWN, gate)
    shuffled = [LeaseEvent(Change.ADDED, item) for item in rng.sample(leases, len(leases))]
    strangers = [LeaseEvent(Change.ADDED, item) for item in map(lease, ("10.5.0.0-22", "10.5.0.0-20", "10.5.2.0-24"))]
    strangers = [event for event in strangers if event.lease.key not in {item.key for item in leases}]
    for event in [*strangers, *shuffled, *(LeaseEvent(Change.REMOVED, event.lease) for event in strangers)]:
        table.note(event)
        if rng.random() < 0.5:
            table.settle()
    table.settle()
    assert table.peers == expected
    assert table.peers.keys() | table.refused.keys() | {OWN.key} >= {item.key for item in expected.values()}
    assert len(table.peers) + len(table.refused) == len([item for item in leases if item.key != OWN.key])
