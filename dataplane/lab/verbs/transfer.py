"""`udplane lab transfer`: send over TCP from one place to another for a moment, and tell how fast it went."""

import argparse
import json
import re

from dataplane.lab import inside
from dataplane.lab.netns import LabError
from dataplane.lab.transfer import Transfer, transfer
from dataplane.lab.verbs.common import add_lab
from dataplane.lab.view import Place

HELP = "send over TCP for a moment, and tell how fast it went: transfer pod1 pod3"

MOST_SECONDS = 60


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """From where to where, how long, how it is told."""
    add_lab(parser)
    parser.add_argument("source", metavar="FROM", help="a pod, node or host of the lab")
    parser.add_argument("target", metavar="TO", help="another one")
    parser.add_argument(
        "--seconds", type=_seconds, default=2.0, metavar="N", help=f"for so long, {MOST_SECONDS} at most (default 2)"
    )
    parser.add_argument(
        "--family", type=int, choices=(4, 6), default=0, help="IP version (default: 4 where there is one)"
    )
    parser.add_argument("--json", action="store_true", help="the figures as JSON")


def run(arguments: argparse.Namespace) -> int:
    """Send, then tell."""
    _, view = inside.move_in(arguments.lab)
    source, target = view.find(arguments.source), view.find(arguments.target)
    version = arguments.family or _version(target)
    address = target.address(version)
    done = transfer(source.namespace, target.namespace, address, seconds=arguments.seconds)
    print(json.dumps(_document(source, target, done), indent=1) if arguments.json else _line(source, target, done))
    return 0


def _version(target: Place) -> int:
    """The IP version of the first address of a place. Raises LabError when it has none."""
    if not target.interfaces:
        raise LabError(f"{target.name} has no address to send to")
    return min(interface.version for interface in target.interfaces)


def _line(source: Place, target: Place, done: Transfer) -> str:
    return (
        f"{source.name} → {target.name}  {done.gbits_per_second:.2f} Gb/s  ({done.n_bytes / 1e6:,.0f} MB in "
        f"{done.seconds:.1f} s, {done.n_retransmits} retransmissions, longest stall {done.longest_stall * 1e3:.0f} ms)"
    )


def _document(source: Place, target: Place, done: Transfer) -> dict[str, object]:
    """The figures, in bytes, seconds, and 10^9 bits a second."""
    return {
        "from": source.name,
        "to": target.name,
        "bytes": done.n_bytes,
        "seconds": round(done.seconds, 3),
        "gbits_per_second": round(done.gbits_per_second, 3),
        "retransmissions": done.n_retransmits,
        "longest_stall_seconds": round(done.longest_stall, 3),
    }


def _seconds(text: str) -> float:
    if not re.fullmatch(r"[0-9]{1,2}(\.[0-9]{1,3})?", text) or not 0 < float(text) <= MOST_SECONDS:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds up to {MOST_SECONDS}")
    return float(text)
