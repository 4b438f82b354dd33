"""Writes the seeds of the fuzz targets: the golden packets, and a few records of each kind.

python fuzz/seeds.py DIRECTORY        one directory for each target below it
"""

import itertools
import struct
import sys
import tomllib
from pathlib import Path

GOLDEN = Path(__file__).parents[2] / "tests" / "vectors" / "packets.toml"

DECAPSULATE, PEER_SENDS, CARRY_TOS, TRUE_LENGTH = 1, 2, 8, 32
NEEDS_CSUM, TCPV4, TCPV6, UDP_L4 = 1, 1, 4, 5


def main(directory: Path) -> None:
    """Write all seeds."""
    packets = golden_packets()
    write(directory / "decide", [bytes([s, 3]) + packet for packet, s in packets])
    write(directory / "segment", [vnet(packet) + packet for packet, _ in packets if len(packet) > 40])
    write(directory / "fragment", [bytes([0, 99, 8]) + packet for packet, _ in packets if len(packet) > 20])
    write(directory / "routes", [bytes(range(first, first + 64)) for first in (0, 1, 2)])
    write(directory / "coalesce", [bytes([0x55, *itertools.repeat(step, 90)]) for step in (0, 1, 4, 64)])


def golden_packets() -> list[tuple[bytes, int]]:
    """The golden packets with the switches of fuzz_decide.c that send them the way they are meant to go."""
    cases = tomllib.loads(GOLDEN.read_text())["case"]
    ways = {"encap": CARRY_TOS, "decap": CARRY_TOS | DECAPSULATE | PEER_SENDS}
    return [(bytes.fromhex(case["input_hex"]), ways[case.get("direction", "encap")]) for case in cases]


def vnet(packet: bytes) -> bytes:
    """A vnet header that would have the packet cut after every 7 bytes."""
    v6 = packet[0] >> 4 == 6
    tcp = packet[6 if v6 else 9] == 6
    kind = (TCPV6 if v6 else TCPV4) if tcp else UDP_L4
    return struct.pack("=BBHHHH", NEEDS_CSUM, kind, 0, 7, 40 if v6 else 20, 16 if tcp else 6)


def write(directory: Path, seeds: list[bytes]) -> None:
    """Write numbered files."""
    directory.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(seeds):
        (directory / f"{number:03}").write_bytes(seed)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
