"""Whatever a store holds, packets go to the node that owns their destination, in every engine."""

import random
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from hypothesis import given, settings
from hypothesis import strategies as st

from dataplane.addresses import Address
from dataplane.engines.contract import EngineConfig
from dataplane.leases.gate import LeaseGate
from dataplane.leases.lease import Lease
from dataplane.leases.network_config import NetworkConfig
from dataplane.packets.batch import PacketBatch
from dataplane.packets.routes import RouteTable
from dataplane.packets.verdicts import Verdict
from tests.engines.conftest import MakeEngine
from tests.leases.hostile_leases import OWN, any_gates, any_lease, peers_of

UDP, TTL = 17, 64
NODE = EngineConfig(IPv4Network("10.5.1.0/24"), IPv6Network("fd00:5:0:1::/64"), mtu=1472)


def packet_to(address: Address) -> bytes:
    """An IP packet without payload from one of the node's own pods. Its IPv4 checksum is wrong, which no node minds."""
    if address.version == 4:
        return bytes([0x45, 0, 0, 20, 0, 0, 0, 0, TTL, UDP, 0, 0]) + IPv4Address("10.5.1.2").packed + address.packed
    return bytes([0x60, 0, 0, 0, 0, 0, UDP, TTL]) + IPv6Address("fd00:5:0:1::2").packed + address.packed


@settings(deadline=None)
@given(any_gates, st.lists(any_lease, max_size=12), st.randoms(use_true_random=False))
def test_a_packet_goes_to_the_node_that_holds_the_lease(
    make_engine: MakeEngine, choice: tuple[NetworkConfig, LeaseGate], written: list[Lease], rng: random.Random
) -> None:
    _, gate = choice
    routes, expected = RouteTable(), []
    batch = PacketBatch(slots=100)
    for key, peer in peers_of(gate, written).items():
        known = routes.set(key, peer.attrs.addresses[0], 8285, peer.subnets)
        for subnet in peer.subnets:
            for offset in (0, rng.randrange(subnet.num_addresses), subnet.num_addresses - 1):
                batch.append(packet_to(type(subnet.network_address)(int(subnet.network_address) + offset)))
                expected.append((Verdict.FORWARDED, known.id))
    for own in OWN.subnets:
        batch.append(packet_to(own[9]))
        expected.append((Verdict.NO_ROUTE, -1))
    engine = make_engine(NODE)
    engine.set_routes(routes.snapshot())
    engine.encapsulate(batch, 1)
    found = [
        (verdict, int(hop) if verdict == Verdict.FORWARDED else -1)
        for verdict, hop in zip(batch.verdict[: batch.count], batch.next_hop[: batch.count], strict=True)
    ]
    assert found == expected
