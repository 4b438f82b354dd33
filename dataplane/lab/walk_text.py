"""A recording as text for a terminal of 80 columns."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from itertools import pairwise

from dataplane.lab.dissect import Layer
from dataplane.lab.recording import ANSWERED, ARRIVED, Check, Recording, See, Step, Walk
from dataplane.lab.text import BOLD, CYAN, DIM, GREEN, RED, YELLOW, filled, paint
from dataplane.lab.words import ENGLISH, say

WIDTH = 80
INDENT = 5
"""Columns before what belongs to a step."""
NAMED = 16
"""Columns before the fields of a header."""

ARROWS = {"in": "←", "out": "→", "": "·"}

WORTH = {
    "Ethernet": ("from", "to"),
    "IPv4": ("from", "to", "ttl", "length", "id", "checksum", "dscp", "ecn", "fragment offset"),
    "IPv6": ("from", "to", "hop limit", "payload length", "dscp", "ecn"),
    "UDP": ("from", "to", "length"),
    "VXLAN": ("vni",),
    "ICMP": ("type", "code", "id", "seq", "mtu"),
    "ICMPv6": ("type", "code", "id", "seq", "mtu"),
    "TCP": ("from", "to", "seq", "ack", "flags", "window"),
}
"""The fields that are shown of a header that was put on."""


def recording_lines(recording: Recording, *, outputs: bool = True, language: str = ENGLISH) -> Iterator[str]:
    """All walks; without `outputs` the commands stand alone."""
    for walk in recording.walks:
        yield paint(DIM, f"$ {walk.ask}")
        yield from walk_lines(walk, recording.see if outputs else [], commands=recording.see, language=language)


def walk_lines(walk: Walk, see: list[See], *, commands: list[See], language: str = ENGLISH) -> Iterator[str]:
    """One walk: each leg with its steps, and how it ended."""
    number = 0
    for leg in walk.legs:
        steps = walk.steps_of(leg.id)
        yield ""
        yield paint(BOLD, say(f"leg.{leg.kind}", {}, language))
        for before, step in pairwise([None, *steps]):
            assert step is not None
            number += 1
            yield from step_lines(number, step, before, language)
            for index in step.see:
                if index < len(commands):
                    yield from see_lines(commands[index], with_output=index < len(see))
    yield ""
    yield from outcome_lines(walk, language)


def step_lines(number: int, step: Step, before: Step | None, language: str = ENGLISH) -> Iterator[str]:
    """A step: where, what was decided there, what changed in the packet, and what was checked."""
    yield _head(number, step)
    yield from _wrapped(say(step.say, step.args, language), INDENT)
    yield from change_lines(step, before)
    for check in step.checks:
        yield from check_lines(check, language)
    for counter in step.counters:
        yield " " * INDENT + paint(CYAN, f"{counter.where} {counter.name} {counter.before} → {counter.after}")
    if step.segments:
        sizes = ", ".join(str(segment["len"]) for segment in step.segments[:8])
        more = " ..." if len(step.segments) > 8 else ""
        yield " " * INDENT + paint(CYAN, f"{len(step.segments)} packets of {sizes}{more} bytes")
    if step.verdict and step.verdict not in (ARRIVED, ANSWERED):
        yield from _wrapped(paint(RED, f"✗ {step.verdict}"), INDENT)


def _head(number: int, step: Step) -> str:
    where = paint(BOLD, f"{step.where:9}{ARROWS[step.direction]} {step.place:9}")
    device = f" {step.device}" if step.device and step.device != step.place else ""
    time = f"{step.time_us:8.0f} µs" if step.time_us is not None else ""
    super_packet = f" ({step.packet.gso_type} of {step.packet.gso_size})" if step.packet.gso_type else ""
    tail = paint(DIM, f"{step.packet.length} B{super_packet}{device}")
    return f"{number:3}  {where}{time:>11}  {tail}"


def change_lines(step: Step, before: Step | None) -> Iterator[str]:
    """The headers that were taken off, put on, or changed since the step before."""
    if step.removed:
        yield " " * INDENT + paint(RED, f"- {', '.join(step.removed)}")
    layers = step.packet.layers
    for layer in layers[: len(step.added)] if before else []:
        yield from _fields(GREEN, "+", layer.name, _worth(layer))
    if before is None:
        return
    old, new = before.packet.layers[len(step.removed) :], layers[len(step.added) :]
    for was, now in zip(old, new, strict=False):
        fields = [
            f"{now_field.key} {field.text} → {now_field.text}"
            for field, now_field in zip(was.fields, now.fields, strict=False)
            if field.text != now_field.text
        ]
        if fields:
            yield from _fields(YELLOW, "~", now.name, fields)


def _worth(layer: Layer) -> list[str]:
    names = WORTH.get(layer.name, ())
    dull = {("dscp", "0"), ("ecn", "0"), ("fragment offset", "0")}
    return [f"{f.key} {f.text}" for f in layer.fields if f.key in names and (f.key, f.text) not in dull]


def _fields(colour: str, sign: str, name: str, fields: list[str]) -> Iterator[str]:
    head = " " * INDENT + paint(colour, f"{sign} {name:8}")
    for line in filled(fields, WIDTH - NAMED) if fields else [""]:
        yield f"{head} {line}".rstrip()
        head = " " * (NAMED - 1)


def check_lines(check: Check, language: str = ENGLISH) -> Iterator[str]:
    """A check: whether it holds, and what was compared."""
    mark = paint(GREEN, "✓") if check.ok else paint(RED, "✗")
    text = say(f"check.{check.name}{'' if check.ok else '.no'}", check.args, language)
    lines = textwrap.wrap(text, WIDTH - INDENT - 2) or [""]
    yield " " * INDENT + f"{mark} {lines[0]}"
    yield from (" " * (INDENT + 2) + line for line in lines[1:])


def see_lines(see: See, *, with_output: bool) -> Iterator[str]:
    """A command, and below it what it has printed, each line as far as the terminal is wide."""
    yield " " * INDENT + paint(DIM, f"{see.where}$ ") + see.command
    if with_output:
        for line in see.output.expandtabs(4).splitlines():
            room = WIDTH - INDENT - 2
            yield " " * (INDENT + 2) + paint(DIM, line if len(line) <= room else f"{line[: room - 1]}…")


def outcome_lines(walk: Walk, language: str = ENGLISH) -> Iterator[str]:
    """How it ended."""
    outcome = walk.outcome
    args = {**outcome.args, "where": outcome.where, "place": outcome.place, "rtt_us": outcome.rtt_us or 0}
    text = say(f"outcome.{outcome.kind}", args, language)
    reason = say(outcome.reason, args, language) if outcome.reason else ""
    colour = RED if outcome.kind == "died" else GREEN
    yield from (paint(colour, line) for line in textwrap.wrap(f"{text} {reason}".strip(), WIDTH))
    if outcome.counter:
        yield f"{outcome.counter.where} {outcome.counter.name} {outcome.counter.before} → {outcome.counter.after}"


def _wrapped(text: str, indent: int) -> Iterator[str]:
    yield from textwrap.wrap(text, WIDTH, initial_indent=" " * indent, subsequent_indent=" " * indent)
