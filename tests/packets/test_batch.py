"""Slots, their headroom, and the arrays beside them."""

import pytest

from dataplane.packets.batch import HEADROOM, NO_PEER, PacketBatch
from dataplane.packets.icmp import ICMP_HEADER_LEN
from dataplane.packets.packet import IPV6
from dataplane.packets.verdicts import Egress, Verdict


def test_packets_keep_what_they_came_with() -> None:
    batch = PacketBatch(slots=2, slot_size=64)
    batch.append(b"first", bytes(range(16)), 0xB8)
    batch.append(b"", bytes(16))
    assert batch.full
    assert [bytes(batch.packet(i)) for i in range(2)] == [b"first", b""]
    assert (batch.length[0], batch.received[0], batch.tos[0]) == (5, 5, 0xB8)
    assert batch.source_address(0) == bytes(range(16))


def test_a_slot_used_again_forgets_what_was_said_of_it() -> None:
    batch = PacketBatch(slots=1, slot_size=64)
    batch.append(b"old", bytes([1] * 16), 7)
    batch.verdict[0], batch.egress[0], batch.next_hop[0] = Verdict.NO_ROUTE, Egress.TUN, 3
    batch.offset[0] -= 48
    batch.clear()
    batch.append(b"new")
    assert bytes(batch.packet(0)) == b"new"
    assert (batch.verdict[0], batch.egress[0], batch.next_hop[0]) == (Verdict.FORWARDED, Egress.NONE, NO_PEER)
    assert batch.source_address(0) == bytes(16)
    assert batch.tos[0] == 0


def test_an_icmp_error_fits_into_the_headroom() -> None:
    assert IPV6.header_len + ICMP_HEADER_LEN <= HEADROOM


def test_a_packet_larger_than_a_slot_is_refused() -> None:
    with pytest.raises(ValueError, match="assignment"):
        PacketBatch(slots=1, slot_size=8).append(bytes(9))
