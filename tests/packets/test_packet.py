"""Checksums and header changes, against their definitions and every value there is."""

import random
import struct

import pytest

from dataplane.packets.packet import change_ttl, checksum, set_ecn, tos, update_checksum


def test_checksum_of_the_example_in_the_rfc() -> None:
    """RFC 1071 section 3: the words 0001 f203 f4f5 f6f7 add up to ddf2."""
    assert checksum(bytes.fromhex("0001f203f4f5f6f7")) == 0xFFFF ^ 0xDDF2


def test_checksum_pads_an_odd_byte() -> None:
    assert checksum(b"\x12\x34\x56") == checksum(b"\x12\x34\x56\x00")


def test_update_of_the_example_in_the_rfc() -> None:
    """RFC 1624 section 4: the case in which RFC 1141 gives ffff, which is wrong."""
    assert update_checksum(0xDD2F, 0x5555, 0x3285) == 0x0000


def test_update_is_the_same_as_computing_anew() -> None:
    chance = random.Random(1624)
    for _ in range(20_000):
        words = [chance.choice((0, 1, 0xFFFF, chance.randrange(0x10000))) for _ in range(4)]
        before = checksum(struct.pack("!4H", *words))
        old, words[2] = words[2], chance.choice((0, 0xFFFF, chance.randrange(0x10000)))
        if any(words):  # a header is never all zero
            assert update_checksum(before, old, words[2]) == checksum(struct.pack("!4H", *words))


@pytest.mark.parametrize("start", [bytes([0x45]) + bytes(7) + b"\x40\x11" + bytes(10), bytes([0x60]) + bytes(39)])
def test_ttl_goes_down_and_up_again(start: bytes) -> None:
    packet = bytearray(start)
    change_ttl(memoryview(packet), +5)
    change_ttl(memoryview(packet), -5)
    assert packet == start


@pytest.mark.parametrize("version", [4, 6])
def test_ecn_leaves_dscp_alone(version: int) -> None:
    for old_tos in range(256):
        for bits in range(4):
            first = version << 28 | old_tos << (20 if version == 6 else 16)
            packet = memoryview(bytearray(struct.pack("!I36x", first | 0x05 << 24 if version == 4 else first)))
            assert tos(packet) == old_tos
            set_ecn(packet, bits)
            assert tos(packet) == old_tos & 0xFC | bits
