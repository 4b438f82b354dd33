"""A recorded walk as data: what text, capture files, the page and a replay are made from. Facts only, no prose.

A recording is one JSON document, described in docs/labs/walk.md. Bytes are kept whole in memory; a document holds the
first `HEX_LIMIT` of a packet. `lines` writes the same as JSON lines, which can be shown while a walk goes on.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from dataplane.lab.dissect import Layer, dissect

FORMAT = "udplane-walk"
VERSION = 1

HEX_LIMIT = 9216
"""Bytes of a packet that a document holds: a jumbo frame, and the beginning of a longer super-packet."""

RECORDED, RECOMPUTED = "recorded", "recomputed"
"""Origins of bytes: seen on a device, or worked out from what the devices before and after have shown."""

ARRIVED, ANSWERED = "arrived", "answered"

Range = tuple[int, int]
"""Offset and length, in bytes of a packet."""


@dataclass(slots=True)
class Packet:
    """A packet at one place."""

    link: str
    """What its first byte belongs to: one of `dissect.LINKS`."""
    data: bytes
    origin: str
    length: int = -1
    """Bytes that it had there; `data` may be less."""
    gso_type: str = ""
    gso_size: int = 0
    checksum_promised: bool = False
    layers: list[Layer] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.length < 0:
            self.length = len(self.data)
        if not self.layers:
            self.layers = dissect(self.data, self.link)

    def document(self) -> dict[str, Any]:
        """As JSON has it."""
        document: dict[str, Any] = {
            "link": self.link,
            "len": self.length,
            "hex": self.data[:HEX_LIMIT].hex(),
            "origin": self.origin,
        }
        if self.gso_type:
            document["gso"] = {"type": self.gso_type, "size": self.gso_size}
        if self.checksum_promised:
            document["checksum_promised"] = True
        document["layers"] = [_layer_document(layer) for layer in self.layers]
        return document


def _layer_document(layer: Layer) -> dict[str, Any]:
    document: dict[str, Any] = {"name": layer.name, "offset": layer.offset, "length": layer.length}
    if layer.role:
        document["role"] = layer.role
    document["fields"] = [list(item) for item in layer.fields]
    return document


@dataclass(slots=True)
class Check:
    """A question that an engine asked of the packet, and what came of it."""

    name: str
    ok: bool
    args: dict[str, Any]


@dataclass(slots=True)
class Counter:
    """A counter that moved between the looks before and after the walk."""

    where: str
    name: str
    before: int
    after: int


@dataclass(slots=True)
class See:
    """A command that a person would type to see a fact, and what it printed."""

    where: str
    command: str
    output: str
    origin: str = RECORDED


@dataclass(slots=True)
class Step:
    """The packet at one point of its way."""

    leg: str
    where: str
    place: str
    packet: Packet
    say: str
    """Key of the sentence that tells what happened here."""
    by: str
    """Who decided."""
    device: str = ""
    direction: str = ""
    """`in` or `out` for a device of the namespace."""
    time_us: float | None = None
    """Microseconds since the walk's first packet was seen; None for a point between two devices."""
    args: dict[str, Any] = field(default_factory=dict)
    changed: list[Range] = field(default_factory=list)
    added: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    checks: list[Check] = field(default_factory=list)
    counters: list[Counter] = field(default_factory=list)
    see: list[int] = field(default_factory=list)
    segments: list[dict[str, int]] = field(default_factory=list)
    """Where one packet has become several: each one's length and where its payload began in the whole."""
    verdict: str = ""
    """On the last step of a leg: arrived, answered, or why it ended."""

    def document(self) -> dict[str, Any]:
        """As JSON has it; what is empty is left out."""
        document: dict[str, Any] = {"leg": self.leg, "at": {"where": self.where, "place": self.place}}
        if self.device:
            document["at"]["device"] = self.device
        if self.direction:
            document["dir"] = self.direction
        if self.time_us is not None:
            document["t_us"] = self.time_us
        document |= {"packet": self.packet.document(), "by": self.by, "say": self.say, "args": self.args}
        lists = {"changed": [list(item) for item in self.changed], "added": self.added, "removed": self.removed}
        lists["checks"] = [{"name": c.name, "ok": c.ok, "args": c.args} for c in self.checks]
        lists["counters"] = [_counter_document(counter) for counter in self.counters]
        lists |= {"see": self.see, "segments": self.segments}
        document |= {key: value for key, value in lists.items() if value}
        if self.verdict:
            document["verdict"] = self.verdict
        return document


def _counter_document(counter: Counter) -> dict[str, Any]:
    return {"in": counter.where, "name": counter.name, "before": counter.before, "after": counter.after}


@dataclass(slots=True)
class Leg:
    """One packet's way: the request's, the reply's, or a branch."""

    id: str
    kind: str
    """request, reply, icmp-error, fragment, segment."""
    parent: str = ""

    def document(self) -> dict[str, str]:
        """As JSON has it."""
        return {"id": self.id, "kind": self.kind} | ({"parent": self.parent} if self.parent else {})


@dataclass(slots=True)
class Outcome:
    """How a walk ended."""

    kind: str
    """answered, arrived or died."""
    where: str = ""
    place: str = ""
    verdict: str = ""
    reason: str = ""
    """Key of the sentence that explains a death."""
    args: dict[str, Any] = field(default_factory=dict)
    counter: Counter | None = None
    rtt_us: float | None = None

    def document(self) -> dict[str, Any]:
        """As JSON has it."""
        document: dict[str, Any] = {"kind": self.kind}
        if self.where:
            document["at"] = {"where": self.where, "place": self.place}
        texts = {"verdict": self.verdict, "reason": self.reason, "args": self.args, "rtt_us": self.rtt_us}
        document |= {key: value for key, value in texts.items() if value}
        if self.counter:
            document["counter"] = _counter_document(self.counter)
        return document


@dataclass(slots=True)
class Walk:
    """One walk: its legs, steps in the order in which they happened, and the outcome."""

    id: str
    ask: str
    """The command that made it."""
    legs: list[Leg]
    steps: list[Step]
    outcome: Outcome

    def document(self) -> dict[str, Any]:
        """As JSON has it."""
        return {
            "id": self.id,
            "ask": self.ask,
            "legs": [leg.document() for leg in self.legs],
            "outcome": self.outcome.document(),
            "steps": [step.document() for step in self.steps],
        }

    def steps_of(self, leg: str) -> list[Step]:
        """The steps of one leg."""
        return [step for step in self.steps if step.leg == leg]


@dataclass(slots=True)
class Recording:
    """Walks in one lab."""

    lab: dict[str, Any]
    """The lab's document (`view.LabView`), without what is particular to this machine."""
    see: list[See]
    walks: list[Walk]

    def document(self) -> dict[str, Any]:
        """The whole recording as JSON has it."""
        return {
            "format": FORMAT,
            "version": VERSION,
            "lab": self.lab,
            "see": [_see_document(see) for see in self.see],
            "walks": [walk.document() for walk in self.walks],
        }

    def lines(self) -> Iterator[str]:
        """As JSON lines: the lab, a walk's head, its steps, each after the outputs that it refers to, its outcome."""
        yield _line({"format": FORMAT, "version": VERSION, "lab": self.lab})
        shown: set[int] = set()
        for walk in self.walks:
            document = walk.document()
            outcome, steps = document.pop("outcome"), document.pop("steps")
            yield _line({"walk": document})
            for step in steps:
                for number in step.get("see", []):
                    if number not in shown:
                        shown.add(number)
                        yield _line({"see": {"n": number, **_see_document(self.see[number])}})
                yield _line({"step": step})
            yield _line({"outcome": outcome})


def _see_document(see: See) -> dict[str, str]:
    return {"in": see.where, "cmd": see.command, "out": see.output, "origin": see.origin}


def _line(document: dict[str, Any]) -> str:
    return json.dumps(document, ensure_ascii=False, separators=(",", ":"))


def compare(before: Packet, after: Packet) -> tuple[list[Range], list[str], list[str]]:
    """What differs between two sights of one packet: changed bytes of `after`, layers put on, layers taken off.

    The innermost layers are the same ones; going outwards, from the first that is of another kind on, the old layers
    were taken off and the new ones put on. Bytes of layers that were put on are not among the changed ones.
    """
    old, new = _of_one_packet(before), _of_one_packet(after)
    common = 0
    while common < min(len(old), len(new)) and old[-1 - common].name == new[-1 - common].name:
        common += 1
    ranges: list[Range] = []
    for was, now in zip(old[len(old) - common :], new[len(new) - common :], strict=True):
        ranges += differing(before.data[was.offset : was.end], after.data[now.offset : now.end], now.offset)
    return ranges, _names(new[: len(new) - common]), _names(old[: len(old) - common])


def _of_one_packet(packet: Packet) -> list[Layer]:
    """The layers without what is behind the packet: other datagrams of the same frame, or padding."""
    return [layer for layer in packet.layers if layer.name not in ("more datagrams", "padding")]


def _names(layers: Sequence[Layer]) -> list[str]:
    return [layer.name for layer in layers]


def differing(old: bytes, new: bytes, offset: int) -> list[Range]:
    """Runs of bytes that differ; bytes that are new at the end count as well."""
    ranges: list[Range] = []
    start = -1
    for at in range(len(new) + 1):
        differs = at < len(new) and (at >= len(old) or old[at] != new[at])
        if differs and start < 0:
            start = at
        elif not differs and start >= 0:
            ranges.append((offset + start, at - start))
            start = -1
    return ranges
