"""Fragments, as every implementation makes them."""

from dataplane.packets.batch import PacketBatch
from dataplane.packets.fragment import pieces
from tests.engines.conftest import available


def cut(batch: PacketBatch, i: int) -> list[bytes]:
    """What packet `i` is sent as; in C, where that is built, no different from in Python."""
    made = [bytes(piece) for piece in pieces(batch, i)]
    if batch.fragment_len[i] and available("native"):
        assert b"".join(made) == cut_natively(bytes(batch.packet(i)), batch.fragment_len[i])
    return made


def cut_natively(packet: bytes, mtu: int) -> bytes:
    """All fragments that the C code makes of a packet, one behind the other; none when it cannot be cut."""
    from dataplane.engines.native import fragments

    return fragments(packet, mtu)
