"""What an engine keeps between packets: routes, path MTUs, counters."""

import random
import sys
from dataclasses import replace
from ipaddress import ip_address, ip_network

import pytest
from scapy.layers.inet import ICMP, IP, UDP
from scapy.layers.inet6 import IPv6
from scapy.packet import Raw

from dataplane.engines.contract import Engine, EngineConfig
from dataplane.engines.registry import load_engine
from dataplane.errors import ConfigError
from dataplane.packets.batch import MAX_PACKET, NO_PEER, PacketBatch
from dataplane.packets.routes import Peer, RouteSnapshot, address_key
from dataplane.packets.verdicts import Direction, Egress, Event, Verdict
from tests.engines.conftest import MakeEngine
from tests.packets.test_routes import random_address, random_network, scan
from tests.vectors.golden import SUBNET4, SUBNET6

CONFIG = EngineConfig(SUBNET4, SUBNET6, mtu=1472)
PEER1 = Peer(1, ip_address("192.168.0.202"), 8285, (ip_network("10.5.2.0/24"), ip_network("fd05:2::/64")))
PEER2 = Peer(2, ip_address("192.168.0.203"), 8285, (ip_network("10.5.3.0/24"),))
BOTH = RouteSnapshot([PEER1, PEER2])
TO_PEER1 = bytes(IP(src="10.5.1.2", dst="10.5.2.2", ttl=64, flags="DF") / UDP() / Raw(bytes(1000)))
TO_PEER2 = bytes(IP(src="10.5.1.2", dst="10.5.3.2", ttl=64) / UDP())
FROM_PEER1 = bytes(IP(src="10.5.2.2", dst="10.5.1.2", ttl=64) / UDP())


def batch_of(*packets: bytes, sender: str = "192.168.0.202") -> PacketBatch:
    batch = PacketBatch(slots=len(packets), slot_size=MAX_PACKET)
    for packet in packets:
        batch.append(packet, address_key(ip_address(sender)))
    return batch


def test_lookup_is_the_linear_scan(make_engine: MakeEngine) -> None:
    chance = random.Random(8285)
    networks = {random_network(chance) for _ in range(300)}
    peers = [Peer(number, PEER1.address, 8285, (network,)) for number, network in enumerate(networks)]
    addresses = [random_address(chance) for _ in range(500)] + [network[0] for network in networks]
    engine = make_engine(CONFIG)
    engine.set_routes(RouteSnapshot(peers))
    batch = batch_of(*(bytes((IP if a.version == 4 else IPv6)(dst=str(a)) / UDP()) for a in addresses))
    engine.encapsulate(batch, 0)
    assert list(batch.next_hop) == [scan(peers, address) for address in addresses]


def test_path_mtu_is_never_above_the_configured_one(make_engine: MakeEngine) -> None:
    engine = make_engine(CONFIG)
    engine.set_routes(BOTH)
    known = []
    for mtu in (1400, 9000, 1300, 0):
        engine.set_path_mtu(1, mtu, 0)
        known.append((engine.path_mtu(1), engine.path_mtu(2)))
    assert known == [(1400, 1472), (1472, 1472), (1300, 1472), (1472, 1472)]
    assert engine.counters().events[Event.MTU_LEARNED] == 2


@pytest.mark.parametrize(
    "packet",
    [TO_PEER1, bytes(IPv6(src="fd05:1::2", dst="fd05:2::2", hlim=64) / UDP() / Raw(bytes(1000)))],
    ids=["IPv4", "IPv6"],
)
def test_a_datagram_refused_for_its_size_is_answered(make_engine: MakeEngine, packet: bytes) -> None:
    """The source gets the same error as if the path MTU had been known before, quoting what it had sent."""
    engine = make_engine(CONFIG)
    engine.set_routes(BOTH)
    late = batch_of(packet)
    engine.encapsulate(late, 0)
    assert late.verdict[0] == Verdict.FORWARDED
    engine.set_path_mtu(1, 900, 0)
    assert not engine.fit_anew(late, 0, 0)
    early = batch_of(packet)
    engine.encapsulate(early, 0)
    for batch in (late, early):
        assert batch.verdict[0] == Verdict.TOO_BIG
        assert batch.egress[0] == Egress.TUN
        assert batch.next_hop[0] == NO_PEER
        assert packet[:500] in bytes(batch.packet(0))
    assert bytes(late.packet(0)) == bytes(early.packet(0))
    assert engine.counters().events[Event.ICMP_SENT] == 2


def test_a_peer_that_goes_takes_its_path_mtu_and_counts_along(make_engine: MakeEngine) -> None:
    engine = make_engine(CONFIG)
    engine.set_routes(BOTH)
    for peer in (1, 2):
        engine.set_path_mtu(peer, 1400, 0)
    batch = batch_of(TO_PEER1, TO_PEER2)
    engine.encapsulate(batch, 0)
    engine.count(Direction.ENCAP, batch, 0)
    engine.set_routes(RouteSnapshot([PEER2]))
    assert (engine.path_mtu(1), engine.path_mtu(2)) == (1472, 1400)
    again = batch_of(TO_PEER1, TO_PEER2)
    engine.encapsulate(again, 0)
    assert [Verdict(verdict) for verdict in again.verdict] == [Verdict.NO_ROUTE, Verdict.FORWARDED]
    engine.set_routes(BOTH)
    active = {peer: traffic.tx_packets for peer, traffic in engine.counters().peers.items() if traffic.tx_packets}
    assert active == {2: 1}


def test_what_was_read_is_the_sum_of_the_verdicts(make_engine: MakeEngine) -> None:
    """Also when the underlay or the TUN refuse a packet after the engine, and with the lengths that were read."""
    engine = make_engine(CONFIG)
    engine.set_routes(BOTH)
    packets = [TO_PEER1, TO_PEER2, b"", b"\x00", bytes(IP(src="10.5.1.2", dst="10.9.9.9") / ICMP())]
    batch = batch_of(*packets)
    engine.encapsulate(batch, 0)
    batch.verdict[1] = Verdict.SEND_FAILED
    engine.count(Direction.ENCAP, batch, 0)
    counters = engine.counters()
    expected = {Verdict.FORWARDED, Verdict.SEND_FAILED, Verdict.TRUNCATED, Verdict.BAD_VERSION, Verdict.NO_ROUTE}
    assert list(counters.packets[Direction.ENCAP]) == [int(verdict in expected) for verdict in Verdict]
    assert sum(counters.bytes[Direction.ENCAP]) == sum(map(len, packets))
    assert counters.bytes[Direction.ENCAP][Verdict.NO_ROUTE] == len(packets[-1])
    assert counters.drops(Direction.ENCAP) == {"truncated": 1, "bad_version": 1, "no_route": 1, "send_failed": 1}
    assert sum(counters.packets[Direction.DECAP]) == 0


def test_traffic_is_counted_by_peer(make_engine: MakeEngine) -> None:
    engine = make_engine(CONFIG)
    engine.set_routes(BOTH)
    out, back = batch_of(TO_PEER1, TO_PEER1, TO_PEER2), batch_of(FROM_PEER1)
    engine.encapsulate(out, 5)
    engine.count(Direction.ENCAP, out, 5)
    engine.decapsulate(back, 7)
    engine.count(Direction.DECAP, back, 7)
    one, two = (engine.counters().peers[peer] for peer in (1, 2))
    assert (one.tx_packets, one.tx_bytes, one.rx_packets, one.rx_bytes) == (2, 2 * len(TO_PEER1), 1, len(FROM_PEER1))
    assert one.last_rx_ns == 7
    assert (two.tx_packets, two.rx_packets, two.last_rx_ns) == (1, 0, 0)


LIMITED = EngineConfig(SUBNET4, SUBNET6, mtu=1472, icmp_rate=10, icmp_burst=16)


def lost_from(pod: int) -> bytes:
    return bytes(IP(src=f"10.5.1.{pod}", dst="10.9.9.9") / UDP())


def too_big_from(pod: int) -> bytes:
    return bytes(IP(src=f"10.5.1.{pod}", dst="10.5.2.2", flags="DF") / UDP() / Raw(bytes(1500)))


def answered(engine: Engine, packets: list[bytes], now_ns: int) -> int:
    """How many of the packets an ICMP error is sent about."""
    before = engine.counters().events[Event.ICMP_SENT]
    batch = batch_of(*packets)
    engine.encapsulate(batch, now_ns)
    sent = engine.counters().events[Event.ICMP_SENT] - before
    assert list(batch.egress).count(Egress.TUN) == sent
    return sent


def limited_engine(make_engine: MakeEngine) -> Engine:
    engine = make_engine(LIMITED)
    engine.set_routes(BOTH)
    return engine


def test_icmp_errors_of_all_sources_are_limited(make_engine: MakeEngine) -> None:
    """Half of the burst at once, since the other half is for path MTUs, and then the rate, also within a batch."""
    engine = limited_engine(make_engine)
    lost = [lost_from(pod) for pod in range(2, 250)]
    assert answered(engine, lost, now_ns=10**9) == 8
    assert answered(engine, lost, now_ns=10**9 + 10**8) == 1
    assert answered(engine, lost, now_ns=10**9 + 10**8) == 0
    assert engine.counters().events[Event.ICMP_LIMITED] == 3 * len(lost) - 9


def test_one_source_cannot_use_up_the_icmp_errors_of_others(make_engine: MakeEngine) -> None:
    engine = limited_engine(make_engine)
    assert answered(engine, [lost_from(2)] * 100, now_ns=10**9) == 2
    assert answered(engine, [lost_from(3)] * 100, now_ns=10**9) == 2
    assert answered(engine, [lost_from(2)] * 100, now_ns=10**9 + 8 * 10**8) == 1, "an eighth of ten a second"


def test_a_flood_without_route_does_not_hold_back_path_mtus(make_engine: MakeEngine) -> None:
    """Neither that of the same source nor that of all others."""
    engine = limited_engine(make_engine)
    for now_ns in range(10**9, 3 * 10**9, 10**7):
        answered(engine, [lost_from(pod) for pod in range(2, 102)], now_ns)
    assert answered(engine, [too_big_from(2)], 3 * 10**9) == 1
    assert answered(engine, [too_big_from(pod) for pod in range(100, 250)], 3 * 10**9) >= 7


def test_a_rate_of_zero_is_no_icmp_error_at_all(make_engine: MakeEngine) -> None:
    engine = make_engine(replace(LIMITED, icmp_rate=0))
    engine.set_routes(BOTH)
    assert answered(engine, [lost_from(2), too_big_from(2)], now_ns=10**9) == 0


def test_a_slot_may_be_smaller_than_a_header(make_engine: MakeEngine) -> None:
    """The last packet ends where the arena ends, and nothing behind it is read."""
    engine = make_engine(CONFIG)
    for decide in (engine.encapsulate, engine.decapsulate):
        batch = PacketBatch(slots=2, slot_size=2)
        for packet in (b"E", b"`"):  # the first byte of IPv4, of IPv6
            batch.append(packet, address_key(PEER1.address))
        engine.set_routes(BOTH)
        decide(batch, 0)
        assert [Verdict(verdict) for verdict in batch.verdict] == [Verdict.TRUNCATED] * 2


def test_an_unknown_engine_is_a_configuration_error() -> None:
    with pytest.raises(ConfigError, match="choose one of native, numpy, python"):
        load_engine("turbo", CONFIG)


@pytest.mark.parametrize(("name", "made_of"), [("numpy", "numpy"), ("native", "dataplane._native")])
def test_an_engine_whose_parts_are_missing_says_what_it_needs(
    monkeypatch: pytest.MonkeyPatch, name: str, made_of: str
) -> None:
    monkeypatch.setitem(sys.modules, made_of, None)
    monkeypatch.delitem(sys.modules, f"dataplane.engines.{name}", raising=False)
    with pytest.raises(ConfigError, match=f"engine {name} cannot be loaded .* it needs .* --engine python"):
        load_engine(name, CONFIG)
