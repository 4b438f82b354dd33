"""What holds for any packets: the engines agree, a batch may be cut anywhere, and scapy agrees with what comes out."""

from dataclasses import replace
from ipaddress import ip_address, ip_network
from itertools import accumulate, pairwise
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scapy.layers.inet import ICMP, IP, fragment
from scapy.layers.inet6 import ICMPv6DestUnreach, ICMPv6PacketTooBig, ICMPv6TimeExceeded, IPv6
from scapy.packet import Raw

from dataplane.engines.contract import Engine, EngineConfig
from dataplane.engines.python import PythonEngine
from dataplane.packets.batch import PacketBatch
from dataplane.packets.counters import Counters
from dataplane.packets.fragment import fragments, may_fragment
from dataplane.packets.packet import check_header, checksum
from dataplane.packets.routes import RouteSnapshot
from dataplane.packets.verdicts import Direction, Egress, Verdict
from tests.engines.conftest import MakeEngine, available
from tests.engines.cutting import cut_natively
from tests.engines.packets import datagrams, fragmentable_packets, good_packets, packets, snapshots
from tests.vectors.golden import SUBNET4, SUBNET6

NODE = EngineConfig(SUBNET4, SUBNET6, mtu=1472)
STEP_NS = 300_000_000
"""Time between two batches: with 5 a second, one more ICMP error is due, and part of another."""

configs = st.builds(
    lambda **changes: replace(NODE, **changes),
    carry_tos=st.booleans(),
    check_sender=st.booleans(),
    subnet4=st.sampled_from([SUBNET4, ip_network("10.5.1.0/25"), ip_network("10.5.2.2/31"), None]),
    subnet6=st.sampled_from([SUBNET6, ip_network("fd05::/16"), None]),
    mtu=st.sampled_from([68, 600, 1472]),
    least_mtu=st.sampled_from([0, 0, 70, 1200, 1280]),
    icmp_rate=st.sampled_from([0, 5, 1000]),
    icmp_burst=st.integers(0, 20),
)
path_mtus = st.dictionaries(st.integers(0, 12), st.integers(0, 1500), max_size=3)
traffic = st.lists(datagrams, max_size=12)


class Decided(NamedTuple):
    """All that an engine says about one packet."""

    verdict: int
    egress: int
    next_hop: int
    tos: int
    content: bytes
    fragment_len: int
    no_df: int


def decide(
    engine: Engine, way: Direction, batches: list[list[tuple[bytes, bytes, int]]], step_ns: int
) -> list[Decided]:
    """Give the batches to the engine, one every `step_ns`, and collect what it says."""
    decided = []
    for number, content in enumerate(batches, start=1):
        batch = PacketBatch(slots=max(1, len(content)))
        for packet, sender, tos in content:
            batch.append(packet, sender, tos)
        now_ns = number * step_ns
        (engine.encapsulate if way == Direction.ENCAP else engine.decapsulate)(batch, now_ns)
        decided += [
            Decided(
                batch.verdict[i],
                batch.egress[i],
                batch.next_hop[i],
                batch.tos[i],
                bytes(batch.packet(i)),
                batch.fragment_len[i],
                batch.no_df[i],
            )
            for i in range(batch.count)
        ]
        engine.count(way, batch, now_ns)
    return decided


def prepare(engine: Engine, routes: RouteSnapshot, mtus: dict[int, int]) -> Engine:
    engine.set_routes(routes)
    for peer in routes.peers.keys() & mtus.keys():
        engine.set_path_mtu(peer, mtus[peer], STEP_NS)
    return engine


def counted(counters: Counters) -> object:
    """Counters in a form that can be compared."""
    peers = {peer: traffic for peer, traffic in counters.peers.items() if traffic.tx_packets or traffic.rx_packets}
    return [list(row) for row in counters.packets], [list(row) for row in counters.bytes], list(counters.events), peers


@settings(max_examples=150, deadline=None)
@given(
    way=st.sampled_from(Direction),
    config=configs,
    routes=snapshots(),
    mtus=path_mtus,
    batches=st.lists(traffic, min_size=1, max_size=3),
)
def test_engines_agree(
    make_engine: MakeEngine,
    way: Direction,
    config: EngineConfig,
    routes: RouteSnapshot,
    mtus: dict[int, int],
    batches: list[list[tuple[bytes, bytes, int]]],
) -> None:
    """Any engine says of any packets what the python engine says."""
    engine = prepare(make_engine(config), routes, mtus)
    oracle = prepare(PythonEngine(config), routes, mtus)
    assert decide(engine, way, batches, STEP_NS) == decide(oracle, way, batches, STEP_NS)
    assert counted(engine.counters()) == counted(oracle.counters())


@settings(max_examples=150, deadline=None)
@given(config=configs, routes=snapshots(), content=traffic)
def test_what_comes_in_is_from_a_peer_and_for_this_node(
    make_engine: MakeEngine, config: EngineConfig, routes: RouteSnapshot, content: list[tuple[bytes, bytes, int]]
) -> None:
    """By the ipaddress module's notion of addresses: a host of a peer's subnet speaks to a host of this node's."""
    for decided in decide(prepare(make_engine(config), routes, {}), Direction.DECAP, [content], STEP_NS):
        if decided.verdict != Verdict.FORWARDED:
            continue
        layers = parsed(decided.content)
        source, destination = ip_address(layers.src), ip_address(layers.dst)
        assert any(source in subnet for subnet in routes.peers[decided.next_hop].subnets)
        assert not (source.is_loopback or source.is_multicast or source.is_unspecified)
        own = config.subnet4 if destination.version == 4 else config.subnet6
        assert own is not None
        assert destination in (own if own.version == 6 else [own[0], *own.hosts()])


@settings(max_examples=50, deadline=None)
@given(
    way=st.sampled_from(Direction),
    config=configs,
    routes=snapshots(),
    content=traffic,
    cuts=st.lists(st.integers(0, 12), max_size=3),
)
def test_batches_may_be_cut_anywhere(
    make_engine: MakeEngine,
    way: Direction,
    config: EngineConfig,
    routes: RouteSnapshot,
    content: list[tuple[bytes, bytes, int]],
    cuts: list[int],
) -> None:
    """What becomes of a packet does not depend on which others share its batch."""
    edges = [0, *sorted(min(cut, len(content)) for cut in cuts), len(content)]
    pieces = [content[start:end] for start, end in pairwise(edges)]
    at_once = decide(prepare(make_engine(config), routes, {}), way, [content], step_ns=0)
    assert decide(prepare(make_engine(config), routes, {}), way, pieces, step_ns=0) == at_once


@settings(max_examples=60, deadline=None)
@given(routes=snapshots(), packet=good_packets)
def test_scapy_agrees_with_what_is_forwarded(make_engine: MakeEngine, routes: RouteSnapshot, packet: bytes) -> None:
    """A forwarded packet is the one that scapy makes when it takes one from the TTL and computes the checksum."""
    decided = decide(prepare(make_engine(NODE), routes, {}), Direction.ENCAP, [[(packet, bytes(16), 0)]], STEP_NS)[0]
    if decided.verdict == Verdict.FORWARDED:
        assert decided.content == with_ttl_lowered(packet)


@settings(max_examples=60, deadline=None)
@given(way=st.sampled_from(Direction), routes=snapshots(), content=traffic)
def test_scapy_agrees_with_icmp_errors(
    make_engine: MakeEngine, way: Direction, routes: RouteSnapshot, content: list[tuple[bytes, bytes, int]]
) -> None:
    """An ICMP error is the one that scapy makes for the same reason, with all its lengths and checksums."""
    engine = prepare(make_engine(NODE), routes, {})
    for (packet, _, _), decided in zip(content, decide(engine, way, [content], STEP_NS), strict=True):
        if decided.verdict != Verdict.FORWARDED and decided.egress == Egress.TUN:
            assert decided.content == icmp_error(Verdict(decided.verdict), packet)


@settings(max_examples=150, deadline=None)
@given(packet=fragmentable_packets, mtu=st.integers(68, 1500))
def test_fragments_are_those_of_scapy_and_carry_the_packet(packet: bytes, mtu: int) -> None:
    """In Python and in C: headers as scapy makes them, and all bytes of the packet where they belong."""
    whole = IP(packet)
    made = fragments(memoryview(packet), mtu)
    header_len = whole.ihl * 4
    if not whole.options and checksum(memoryview(packet)[:20]) == 0:
        assert made == list(map(bytes, fragment(whole, (mtu - 20) // 8 * 8)))
    data = {}
    for piece in map(IP, made):
        assert len(bytes(piece)) <= mtu
        assert (piece.id, piece.ihl, piece.proto, piece.tos, piece.ttl) == (
            (whole.id, whole.ihl, whole.proto, whole.tos, whole.ttl)
        )
        assert checksum(memoryview(bytes(piece))[:header_len]) == checksum(memoryview(packet)[:header_len])
        data[8 * (piece.frag - whole.frag)] = bytes(piece)[header_len:]
    assert [IP(piece).flags.MF for piece in made] == [1] * (len(made) - 1) + [whole.flags.MF]
    assert list(data) == list(accumulate(map(len, list(data.values())[:-1]), initial=0))
    assert b"".join(data.values()) == packet[header_len:]
    if available("native"):
        assert cut_natively(packet, mtu) == b"".join(made)


@given(packet=packets, mtu=st.integers(0, 1500))
@settings(max_examples=100, deadline=None)
def test_what_may_be_fragmented_is_the_same_in_c(packet: bytes, mtu: int) -> None:
    if not available("native"):
        pytest.skip("the C extension is not built: run ./dev test, or pip install -e .")
    good = check_header(memoryview(bytearray(packet))) == Verdict.FORWARDED
    may = good and may_fragment(memoryview(packet), mtu)
    assert cut_natively(packet, mtu) == (b"".join(fragments(memoryview(packet), mtu)) if may else b"")


@given(packet=packets, start=st.integers(0, 3))
@settings(max_examples=60, deadline=None)
def test_neighbours_stay_untouched(make_engine: MakeEngine, packet: bytes, start: int) -> None:
    """Whatever a packet looks like, nothing outside its slot is written."""
    batch = PacketBatch(slots=4)
    for i in range(4):
        batch.append(packet if i == start else b"", bytes(16))
    stride = len(batch.arena) // 4
    before = bytes(batch.arena)
    make_engine(NODE).encapsulate(batch, 0)
    after = bytes(batch.arena)
    mine = slice(start * stride, (start + 1) * stride)
    assert before[: mine.start] == after[: mine.start]
    assert before[mine.stop :] == after[mine.stop :]


def parsed(packet: bytes) -> IP | IPv6:
    return IP(packet) if packet[0] >> 4 == 4 else IPv6(packet)


def icmp_error(reason: Verdict, packet: bytes) -> bytes:
    """The error that `packet` is answered with, as scapy makes it; the MTU is the node's own."""
    source = parsed(packet).src
    if packet[0] >> 4 == 4:
        icmp = {
            Verdict.NO_ROUTE: ICMP(type=3, code=0),
            Verdict.TTL_EXCEEDED: ICMP(type=11, code=0),
            Verdict.TOO_BIG: ICMP(type=3, code=4, nexthopmtu=NODE.mtu),
        }[reason]
        return bytes(IP(src=SUBNET4[0], dst=source, tos=0xC0, id=0, ttl=64) / icmp / Raw(packet[: 576 - 28]))
    icmp6 = {
        Verdict.NO_ROUTE: ICMPv6DestUnreach(code=0),
        Verdict.TTL_EXCEEDED: ICMPv6TimeExceeded(code=0),
        Verdict.TOO_BIG: ICMPv6PacketTooBig(mtu=NODE.mtu),
    }[reason]
    return bytes(IPv6(src=SUBNET6[0], dst=source, hlim=64) / icmp6 / Raw(packet[: 1280 - 48]))


def with_ttl_lowered(packet: bytes) -> bytes:
    layers = parsed(packet)
    if layers.version == 6:
        layers.hlim -= 1
    else:
        layers.ttl -= 1
        del layers.chksum
    return bytes(layers)
