"""Golden packets as the judge of somebody's own engine: which one it fails, how the bytes differ, and by which rule.

The packets are those that udplane's own engines are held to (`golden_packets`), as far as a class with one packet at a
time can know about them: no fragments, no path MTUs, no ICMP errors, nothing about DSCP and ECN, which is done for it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dataplane.engines.own import Node, OneByOne, OwnError, Peer
from dataplane.lab import golden_packets
from dataplane.lab.golden_packets import Case
from dataplane.lab.recording import differing
from dataplane.packets.packet import V4_CHECKSUM, update_checksum, word
from dataplane.packets.verdicts import Direction, Verdict

ANSWERED = (Verdict.NO_ROUTE, Verdict.TTL_EXCEEDED, Verdict.TOO_BIG)

RULES = {
    "ttl": "the TTL goes down by one at each node",
    "checksum stayed": "the checksum was not moved with the TTL: it covers the header, TTL included",
    "checksum swapped": "the checksum's bytes are in the wrong order: network byte order has the upper byte first",
    "checksum carry": "the checksum is one off: in one's complement a carry is added at the bottom (RFC 1624)",
    "checksum": "the checksum does not fit the header (RFC 1624: HC' = ~(~HC + ~m + m'))",
    "other": "nothing but TTL and checksum changes on the way",
    "length": "the packet keeps its length: no header is put on, the kernel's UDP and IP do that",
    "peer": "the peer with the longest prefix that covers the destination gets it",
    "bounds": "it reads where the packet has ended: look at the length before a field",
    "failed": "an exception drops the packet",
}
"""What a difference belongs to."""


@dataclass(frozen=True, slots=True)
class Result:
    """How one golden packet went."""

    case: Case
    passed: bool
    expected: str = ""
    """A verdict, or bytes in hex."""
    got: str = ""
    rule: str = ""
    """In words, what the difference belongs to."""
    key: str = ""
    """The same as a key: of RULES, or the name of the verdict that `rule` explains."""
    ranges: tuple[tuple[int, int], ...] = ()
    """Offset and length of bytes that differ."""

    def document(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "name": self.case.name,
            "passed": self.passed,
            "input": self.case.input,
            "input_hex": self.case.input_hex,
            "direction": self.case.direction,
            "expected": self.expected,
            "got": self.got,
            "rule": self.rule,
            "key": self.key,
            "ranges": [list(item) for item in self.ranges],
        }


def cases() -> list[Case]:
    """The golden packets that are asked for."""
    return [case for case in golden_packets.load() if _is_simple(case)]


def _is_simple(case: Case) -> bool:
    plain = Case(name="", input="", input_hex="")
    same = ("least_mtu", "carry_tos", "check_sender", "no_subnet", "path_mtus", "outer_tos", "fragment_len", "no_df")
    if any(getattr(case, name) != getattr(plain, name) for name in same):
        return False
    return case.expected_verdict != Verdict.ECN_LOST and case.peers != "one_address"


def judge(file: Path) -> Iterator[Result]:
    """Hold the engine in a file to every golden packet. Raises OwnError when there is none in it."""
    engine = OneByOne(file)
    engine.renew()
    return (_judge(engine, case) for case in cases())


def _judge(engine: OneByOne, case: Case) -> Result:
    node = _node(case)
    try:
        result: tuple[bytes, int] | bytes | Verdict
        if case.way == Direction.ENCAP:
            result = engine.encapsulate(case.received, node)
        else:
            result = engine.decapsulate(case.received, case.source, node)
    except OwnError as error:
        key = "bounds" if "IndexError" in str(error) or "struct.error" in str(error) else "failed"
        return Result(case, False, case.verdict, str(error), RULES[key], key)
    if isinstance(result, Verdict):
        return _dropped(case, result)
    data, peer = result if isinstance(result, tuple) else (result, case.next_hop)
    if case.expected_verdict != Verdict.FORWARDED:
        return Result(case, False, case.verdict, "FORWARDED", _why(case.expected_verdict), case.verdict)
    if data != case.left:
        ranges = tuple(differing(case.left, data, 0))
        key = _rule(case, data)
        return Result(case, False, case.left.hex(), data.hex(), RULES[key], key, ranges)
    if peer != case.next_hop:
        return Result(case, False, f"peer {case.next_hop}", f"peer {peer}", RULES["peer"], "peer")
    return Result(case, True)


def _dropped(case: Case, verdict: Verdict) -> Result:
    if verdict == case.expected_verdict:
        return Result(case, True)
    told = verdict if case.expected_verdict == Verdict.FORWARDED else case.expected_verdict
    return Result(case, False, case.verdict, verdict.name, _why(told), told.name)


def _why(verdict: Verdict) -> str:
    return f"{verdict.name} is for: {verdict.description}"


def _node(case: Case) -> Node:
    config = case.config
    subnets = tuple(subnet for subnet in (config.subnet4, config.subnet6) if subnet is not None)
    peers = tuple(Peer(p.id, p.address, p.port, p.subnets) for p in case.routes.peers.values())
    return Node(subnets, config.mtu, peers)


def _rule(case: Case, data: bytes) -> str:
    """The rule that a wrong output breaks: the first one, in the order in which one would look."""
    expected, before = case.left, case.received
    if len(data) != len(expected):
        return "length"
    is_v4 = before[0] >> 4 == 4
    at = 8 if is_v4 else 7
    wrong = {offset for offset in range(len(data)) if data[offset] != expected[offset]}
    if at in wrong:
        return "ttl"
    if is_v4 and wrong <= {V4_CHECKSUM, V4_CHECKSUM + 1}:
        return _checksum_rule(before, expected, data)
    return "other"


def _checksum_rule(before: bytes, expected: bytes, data: bytes) -> str:
    right, got, old = (word(memoryview(packet), V4_CHECKSUM) for packet in (expected, data, before))
    if got == old:
        return "checksum stayed"
    if got == (right >> 8 | (right & 0xFF) << 8) or got == _moved_by_swapped_words(before, expected):
        return "checksum swapped"
    return "checksum carry" if abs(got - right) in (1, 0xFFFF) else "checksum"


def _moved_by_swapped_words(before: bytes, expected: bytes) -> int:
    """The checksum that comes of words read with their bytes swapped, and written the right way."""
    old, new = (int.from_bytes(packet[8:10], "little") for packet in (before, expected))
    return update_checksum(word(memoryview(before), V4_CHECKSUM), old, new)
