"""`udplane lab walk`: follow one packet through the lab, or show a walk that was recorded."""

import argparse
import contextlib
import itertools
import re
import sys
from collections.abc import Callable
from pathlib import Path

from dataplane.errors import UsageError
from dataplane.lab import inside, recording_file, walk_pcap
from dataplane.lab.netns import LabError
from dataplane.lab.recording import Recording
from dataplane.lab.verbs.common import add_lab
from dataplane.lab.view import LabView
from dataplane.lab.walk_text import recording_lines
from dataplane.lab.web import export

HELP = "follow one packet at every point of its way: walk pod1 pod4"

PROTOCOLS = ("icmp", "tcp", "udp")
MAX_SIZE = {"icmp": 65000, "udp": 65000, "tcp": 1 << 20}
"""Bytes of payload."""
MAX_EXPRESSION = 1 << 16


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """From where to where, what, and how to show it."""
    add_lab(parser)
    parser.add_argument("source", nargs="?", metavar="FROM", help="a pod, node or host of the lab")
    parser.add_argument("target", nargs="?", metavar="TO", help="another one, or an address")
    what = parser.add_argument_group("the packet")
    what.add_argument("--proto", choices=PROTOCOLS, default="icmp", help="what to send (default icmp)")
    what.add_argument("--size", type=_number(1, 1 << 20), default=56, metavar="N", help="bytes of payload (default 56)")
    what.add_argument(
        "--family", type=int, choices=(4, 6), default=0, help="IP version (default: 4 where there is one)"
    )
    what.add_argument("--ttl", type=_number(1, 255), default=64, metavar="N", help="TTL to begin with (default 64)")
    what.add_argument(
        "--port", type=_number(1, 65535), default=0, metavar="N", help="to that port (default: one where TO answers)"
    )
    what.add_argument("--from-file", type=Path, metavar="X.py", help="the packet that a scapy expression in X.py makes")
    what.add_argument(
        "--timeout", type=_seconds, default=1.0, metavar="S", help="wait so long for an answer (default 1)"
    )
    shown = parser.add_argument_group("what is shown")
    shown.add_argument("--json", action="store_true", help="print JSON lines: the lab, outputs, steps, outcome")
    shown.add_argument("--brief", action="store_true", help="name commands without what they printed")
    shown.add_argument("--save", type=Path, metavar="FILE", help="keep the recording as a JSON document")
    shown.add_argument("--html", type=Path, metavar="FILE", help="write it as a page that opens from disk, offline")
    shown.add_argument("--pcap", type=Path, metavar="FILE", help="write the packets, for Wireshark, with comments")
    shown.add_argument("--replay", type=Path, metavar="FILE", help="show a recording: on any machine, without a lab")


def run(arguments: argparse.Namespace) -> int:
    """Record or read, then show."""
    if arguments.replay:
        if arguments.source:
            raise UsageError("--replay shows what was recorded; leave FROM and TO out")
        recording = recording_file.load(arguments.replay)
    else:
        recording = _record(arguments)
    if arguments.save:
        recording_file.save(recording, arguments.save)
    if arguments.pcap:
        walk_pcap.write(recording, arguments.pcap)
    if arguments.html:
        export.write_page(arguments.html, recording.document())
    _show(arguments, recording)
    return 0


def _record(arguments: argparse.Namespace) -> Recording:
    if not arguments.source or not arguments.target:
        raise UsageError("say from where to where, for example: udplane lab walk pod1 pod4")
    if arguments.size > MAX_SIZE[arguments.proto]:
        raise UsageError(
            f"--size {arguments.size}: {arguments.proto} carries at most {MAX_SIZE[arguments.proto]} bytes"
        )
    lab, view = inside.move_in(arguments.lab)
    from dataplane.lab.walking.recorder import Ask, record

    packet = _given(view, arguments) if arguments.from_file else b""
    ask = Ask(
        arguments.source,
        arguments.target,
        arguments.proto,
        arguments.size,
        arguments.family,
        arguments.ttl,
        arguments.port,
        arguments.timeout,
        packet,
        arguments.from_file.name if arguments.from_file else "",
    )
    recording = record(view, ask)
    _keep(lab.directory / "walks", recording)
    return recording


def _given(view: LabView, arguments: argparse.Namespace) -> bytes:
    """The one IP packet that a scapy expression in a file makes, as seen from where it is sent. Raises UdplaneError."""
    file: Path = arguments.from_file
    try:
        expression = recording_file.read_at_most(file, MAX_EXPRESSION, "a scapy expression").decode("utf-8")
    except UnicodeDecodeError as error:
        raise LabError(f"{file} is no text: byte {error.start} is no UTF-8") from error
    with view.find(arguments.source).namespace.entered():  # scapy chooses source addresses by the routes here
        from dataplane.lab import scapy_packets

        names = {
            re.sub(r"\W", "_", place.name): str(place.interfaces[0].ip) for place in view.places() if place.addresses
        }
        found = scapy_packets.packets(expression, names)
        if len(found) != 1 or scapy_packets.kind(found[0]) != "ip":
            raise UsageError(f"{file} makes {len(found)} packets; a walk follows one, which starts with IP() or IPv6()")
        return scapy_packets.to_bytes(found[0])


def _keep(directory: Path, recording: Recording) -> None:
    """Keep it with the lab, under the next number. Where that cannot be, it is said, and the walk is shown."""
    try:
        directory.mkdir(mode=0o700, exist_ok=True)
        numbers = [int(file.stem) for file in directory.glob("*.json") if file.stem.isdigit()]
        file = _new_file(directory, max(numbers, default=0) + 1)
    except OSError as error:
        print(f"udplane: the walk is not kept in {directory}: {error.strerror}", file=sys.stderr)
        return
    try:
        recording_file.save(recording, file)
    except LabError as error:
        file.unlink(missing_ok=True)  # half a recording is none
        print(f"udplane: the walk is not kept: {error}", file=sys.stderr)


def _new_file(directory: Path, first: int) -> Path:
    """An empty file of the next number that no walk in another terminal has taken. Raises OSError."""
    for number in itertools.count(first):
        with contextlib.suppress(FileExistsError):
            file = directory / f"{number}.json"
            file.touch(exist_ok=False)
            return file
    raise AssertionError("numbers do not end")


def _show(arguments: argparse.Namespace, recording: Recording) -> None:
    lines = recording.lines() if arguments.json else recording_lines(recording, outputs=not arguments.brief)
    for line in lines:
        print(line)


def _number(least: int, most: int) -> Callable[[str], int]:
    def number(text: str) -> int:
        if not re.fullmatch(r"[0-9]{1,8}", text) or not least <= int(text) <= most:
            raise argparse.ArgumentTypeError(f"{text!r} is no number from {least} to {most}")
        return int(text)

    return number


def _seconds(text: str) -> float:
    if not re.fullmatch(r"[0-9]{1,3}(\.[0-9]{1,3})?", text) or not 0 < float(text) <= 60:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds up to 60")
    return float(text)
