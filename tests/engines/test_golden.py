"""Every engine does with every golden packet what the table says, byte for byte."""

from ipaddress import ip_address

import pytest

from dataplane.packets.batch import MAX_PACKET, NO_PEER, PacketBatch
from dataplane.packets.routes import address_key
from dataplane.packets.verdicts import Direction, Event, Verdict
from tests.engines.conftest import MakeEngine
from tests.engines.cutting import cut
from tests.vectors import golden

CASES = golden.load()
NOW_NS = 1_000_000_000


def run(make_engine: MakeEngine, case: golden.Case, batch: PacketBatch) -> list[int]:
    """Let a fresh engine decide about the case's packet in `batch`; returns the events that it counted."""
    engine = make_engine(case.config)
    engine.set_routes(case.routes)
    for peer, mtu in case.path_mtus.items():
        engine.set_path_mtu(int(peer), mtu, NOW_NS)
    before = list(engine.counters().events)
    decide = engine.encapsulate if case.way == Direction.ENCAP else engine.decapsulate
    decide(batch, NOW_NS)
    return [after - b for after, b in zip(engine.counters().events, before, strict=True)]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_golden_packet(make_engine: MakeEngine, case: golden.Case) -> None:
    batch = PacketBatch(slots=1, slot_size=MAX_PACKET)
    batch.append(case.received, address_key(ip_address(case.source)), case.outer_tos)
    events = run(make_engine, case, batch)

    assert Verdict(batch.verdict[0]) == case.expected_verdict
    assert (batch.fragment_len[0], batch.no_df[0]) == (case.fragment_len, case.no_df)
    assert b"".join(cut(batch, 0)).hex() == case.left.hex()
    assert batch.egress[0] == case.expected_egress
    forwarded = case.expected_verdict == Verdict.FORWARDED
    assert batch.next_hop[0] == (case.next_hop if forwarded else NO_PEER)
    to_be_sent = forwarded and case.way == Direction.ENCAP
    assert batch.tos[0] == (case.tos if to_be_sent else case.outer_tos)
    assert batch.received[0] == len(case.received)
    assert events == [int(event in case.expected_events) for event in Event]


def test_table_is_complete() -> None:
    """Every outcome that an engine decides on has a case, and cases can be told apart."""
    assert len({case.name for case in CASES}) == len(CASES) >= 60
    decided = set(Verdict) - {Verdict.SEND_FAILED, Verdict.WRITE_FAILED}
    assert {case.expected_verdict for case in CASES} == decided
    assert {event for case in CASES for event in case.expected_events} == set(Event) - {Event.MTU_LEARNED}


def test_hex_is_what_the_scapy_expressions_make() -> None:
    text = golden.FILE.read_text()
    assert golden.write_hex(text) == text
