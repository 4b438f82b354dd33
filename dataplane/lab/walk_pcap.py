"""A recording as a pcapng file: an interface for each point, a packet for each step, its sentence as comment.

Points between two devices, at which bytes were worked out, are interfaces too; what a program sees, without a header
of IP, is left out. Packets are in the order of the story. A point between two devices has no time of its own: it gets
the time of the device before it.
"""

from __future__ import annotations

import time
from pathlib import Path

from dataplane import __version__
from dataplane.capture.pcapng import INBOUND, LINKTYPE_ETHERNET, LINKTYPE_RAW, OUTBOUND, PcapngWriter
from dataplane.lab.netns import LabError
from dataplane.lab.recording import Recording, Step
from dataplane.lab.words import ENGLISH, say

LINKTYPES = {"ethernet": LINKTYPE_ETHERNET, "ip": LINKTYPE_RAW}
DIRECTIONS = {"in": INBOUND, "out": OUTBOUND, "": 0}


def write(recording: Recording, file: Path, *, start_ns: int | None = None, language: str = ENGLISH) -> int:
    """Write all packets of a recording; returns how many. `start_ns` is the time of its first one, by default now.

    Raises LabError when the file cannot be written.
    """
    start = time.time_ns() if start_ns is None else start_ns
    try:
        with file.open("wb") as output:
            return _write(recording, PcapngWriter(output, f"udplane {__version__} lab walk"), start, language)
    except OSError as error:
        raise LabError(f"cannot write {file}: {error.strerror}") from error


def _write(recording: Recording, writer: PcapngWriter, start_ns: int, language: str) -> int:
    interfaces: dict[tuple[str, str], int] = {}
    written = 0
    for walk in recording.walks:
        at_ns = start_ns
        for number, step in enumerate(walk.steps, 1):
            if step.time_us is not None:
                at_ns = start_ns + round(step.time_us * 1000)
            if step.packet.link not in LINKTYPES:
                continue
            name = point(step)
            if (name, step.packet.link) not in interfaces:
                known = writer.add_interface(name, LINKTYPES[step.packet.link], f"{step.where}: {step.place}")
                interfaces[name, step.packet.link] = known
            writer.write_packet(
                interfaces[name, step.packet.link],
                at_ns,
                step.packet.data,
                DIRECTIONS[step.direction],
                original_len=max(step.packet.length, len(step.packet.data)),
                comment=comment(number, step, language),
            )
            written += 1
    return written


def point(step: Step) -> str:
    """The name of a step's interface: where, and the device or the kind of place."""
    return f"{step.where} {step.device or step.place}"


def comment(number: int, step: Step, language: str = ENGLISH) -> str:
    """What is said of a step: its number and leg, the sentence, its checks and how it ended."""
    lines = [f"{number} {step.leg}: {say(step.say, step.args, language)}"]
    for check in step.checks:
        suffix = "" if check.ok else ".no"
        lines.append(f"{'+' if check.ok else '-'} {say(f'check.{check.name}{suffix}', check.args, language)}")
    return "\n".join(lines + ([step.verdict] if step.verdict else []))
