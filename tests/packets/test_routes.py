"""The route table, and its lookup against a linear scan over networks of the standard library."""

import random
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import pytest

from dataplane.addresses import Address, Network
from dataplane.packets.batch import NO_PEER
from dataplane.packets.routes import Peer, RouteSnapshot, RouteTable, address_key

NODE = ip_address("192.168.0.202")


def random_address(chance: random.Random) -> Address:
    """An address in one of a few blocks, so that prefixes nest and are hit."""
    if chance.random() < 0.5:
        return IPv4Address(chance.choice((0x0A050000, 0x0A060000, 0)) + chance.randrange(1 << 16))
    return IPv6Address(
        (0xFD05 << 112) + (chance.randrange(4) << 96) + (chance.randrange(4) << 64) + chance.randrange(4)
    )


def random_network(chance: random.Random) -> Network:
    address = random_address(chance)
    return ip_network(f"{address}/{chance.randint(0, address.max_prefixlen)}", strict=False)


def scan(peers: Iterable[Peer], address: Address) -> int:
    """The oracle: look at every subnet, keep the longest that holds the address."""
    best, longest = NO_PEER, -1
    for peer in peers:
        for subnet in peer.subnets:
            if address.version == subnet.version and address in subnet and subnet.prefixlen > longest:
                best, longest = peer.id, subnet.prefixlen
    return best


@pytest.mark.parametrize("n_prefixes", [0, 1, 10, 200])
def test_lookup_is_the_linear_scan(n_prefixes: int) -> None:
    chance = random.Random(n_prefixes)
    networks = {random_network(chance) for _ in range(n_prefixes)}
    peers = [Peer(number, NODE, 8285, (network,)) for number, network in enumerate(networks)]
    snapshot = RouteSnapshot(peers)
    addresses = [random_address(chance) for _ in range(500)] + [network[0] for network in networks]
    for address in addresses:
        assert snapshot.lookup(address_key(address)) == scan(peers, address)


def test_owner_is_told_by_sender_and_source() -> None:
    """Two nodes behind one address, and one that is somewhere else."""
    subnets = [ip_network(f"10.5.{i}.0/24") for i in range(3)]
    other = ip_address("fd00::3")
    snapshot = RouteSnapshot(
        [Peer(0, NODE, 8285, (subnets[0],)), Peer(1, NODE, 8286, (subnets[1],)), Peer(2, other, 8285, (subnets[2],))]
    )
    sources = [address_key(subnet[5]) for subnet in subnets]
    assert [snapshot.owns(address_key(NODE), source) for source in sources] == [0, 1, NO_PEER]
    assert [snapshot.owns(address_key(other), source) for source in sources] == [NO_PEER, NO_PEER, 2]
    assert snapshot.senders == {address_key(NODE), address_key(other)}


def test_a_snapshot_does_not_change() -> None:
    table = RouteTable()
    table.set("a", NODE, 8285, [ip_network("10.5.2.0/24")])
    before = table.snapshot()
    table.set("a", NODE, 8285, [ip_network("10.5.3.0/24")])
    table.set("b", NODE, 8285, [ip_network("10.5.4.0/24")])
    assert before.lookup(address_key(ip_address("10.5.2.1"))) == 0
    assert before.lookup(address_key(ip_address("10.5.4.1"))) == NO_PEER
    with pytest.raises(TypeError):
        before.peers[0] = before.peers[0]  # type: ignore[index]


def test_a_peer_keeps_its_id_when_it_moves() -> None:
    table = RouteTable()
    first = table.set("a", NODE, 8285, [ip_network("10.5.2.0/24")])
    table.set("b", NODE, 8285, [])
    moved = table.set("a", ip_address("192.168.0.99"), 8286, [ip_network("10.5.9.0/24")])
    assert moved.id == first.id
    assert table.snapshot().peers[first.id] == moved


def test_an_id_comes_back_only_after_a_snapshot_without_it() -> None:
    table = RouteTable()
    gone = table.set("a", NODE, 8285, [])
    assert table.remove("a") == gone
    assert table.remove("a") is None
    assert table.set("b", NODE, 8285, []).id != gone.id
    assert gone.id not in table.snapshot().peers
    assert table.set("c", NODE, 8285, []).id == gone.id


def test_ids_stay_small() -> None:
    table = RouteTable()
    for _ in range(100):
        table.set("a", NODE, 8285, [])
        table.set("b", NODE, 8285, [])
        table.snapshot()
        table.remove("a")
        table.remove("b")
        table.snapshot()
    assert {table.set("a", NODE, 8285, []).id, table.set("b", NODE, 8285, []).id} == {0, 1}
