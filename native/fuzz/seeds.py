"""Writes the seeds of the fuzz targets: the golden packets, a few records of each kind, and what earlier hunts kept.

python fuzz/seeds.py DIRECTORY        one directory for each target below it
"""

import itertools
import struct
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from zipfile import ZipFile

KEPT = Path(__file__).parent / "corpus"
"""For some targets an archive of inputs that together reach all that was ever reached; `make corpus` writes it."""

GOLDEN = Path(__file__).parents[2] / "dataplane" / "lab" / "packets.toml"

DECAPSULATE, PEER_SENDS, CARRY_TOS, TRUE_LENGTH = 1, 2, 8, 32
TUN_PACKET, TUN_BYTES, TUN_AGAIN, UDP_PACKETS, UDP_BYTES, END_OF_ROUND = range(6)
LOOP_NODE = bytes([16, 0, 0, 0, 0, 1])
"""The settings of fuzz_loop.c: ECN is carried, nothing is refused."""

NEEDS_CSUM, TCPV4, TCPV6, UDP_L4 = 1, 1, 4, 5


def main(directory: Path) -> None:
    """Write all seeds."""
    packets = golden_packets()
    write(directory / "decide", [bytes([s, 3]) + packet for packet, s in packets])
    write(directory / "segment", [vnet(packet) + packet for packet, _ in packets if len(packet) > 40])
    write(directory / "fragment", [bytes([0, 99, 8]) + packet for packet, _ in packets if len(packet) > 20])
    write(directory / "routes", [bytes(range(first, first + 64)) for first in (0, 1, 2)])
    write(directory / "loop", [*loop_golden_packets(), *loop_traffic()])
    write(directory / "coalesce", [bytes([0x55, *itertools.repeat(step, 90)]) for step in (0, 1, 4, 64)])
    for archive in KEPT.glob("*.zip"):
        with ZipFile(archive) as kept:
            kept.extractall(directory / archive.stem)


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


def loop_golden_packets() -> Iterator[bytes]:
    """Each golden packet on its way through the loop, alone and, if it can be, as one to be cut."""
    for packet, switches in golden_packets():
        for tos, sender in ((3, 0), (0, 2)):
            if switches & DECAPSULATE:
                yield LOOP_NODE + record(UDP_BYTES, len(packet), 0) + packet + bytes([tos, sender])
        if not switches & DECAPSULATE:
            yield LOOP_NODE + record(TUN_BYTES, 10 + len(packet)) + bytes(10) + packet
            if len(packet) > 40:
                yield LOOP_NODE + record(TUN_BYTES, 10 + len(packet)) + vnet(packet) + packet


def loop_traffic() -> Iterator[bytes]:
    """Super-packets of all sizes and runs of datagrams, under several nodes and kernels; see fuzz/traffic.c."""
    nodes = [
        LOOP_NODE,
        bytes([64, 1, 0, 0, 0, 1]),
        bytes([128, 6, 0, 0, 0, 1]),
        bytes([16, 0, 3, 1, 0, 1]),
        bytes([1, 0, 0, 0, 128, 1]),
    ]
    shapes = range(8)
    for node, shape in itertools.product(nodes, shapes):
        supers = b"".join(
            record(TUN_PACKET) + struct.pack("!BBHHB", shape, 3, payload_len, size, 0)
            for payload_len, size in ((20992, 41), (1000, 0), (60000, 41), (1400, 0), (65535, 1472))
        )
        runs = b"".join(
            record(UDP_PACKETS) + struct.pack("!BBBHHBB", shape, more, n - 1, change, 1300, 0, 0)
            for more, n, change in ((1, 64, 0), (1, 64, 0), (1, 40, 0x280), (17, 64, 0x100), (2, 70, 0x100))
        )
        yield node + supers + runs + record(END_OF_ROUND) + runs + supers
        yield node + supers[-8:] + record(TUN_AGAIN) + b"\x09"


def record(kind: int, *lengths: int) -> bytes:
    """The head of a record of fuzz/traffic.c."""
    return bytes([kind]) + struct.pack(f"!{len(lengths)}H", *lengths)


def write(directory: Path, seeds: list[bytes]) -> None:
    """Write numbered files."""
    directory.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(seeds):
        (directory / f"{number:03}").write_bytes(seed)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
