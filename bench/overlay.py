"""Throughput, round trips and cost of pod-to-pod paths, side by side: `./dev bench`.

Every path stands ready in namespaces of its own for the whole run; in each round every load goes over each path in
turn, so that what slows the machine down for a while slows all of them. The table gives medians with least and greatest
value, and for udplane the ratio to each baseline, formed round by round. The JSON has every single figure.

    plain         routing between the nodes without encapsulation
    vxlan         the kernel's vxlan, as flannel sets it up
    udplane       as it comes
    busy-poll     udplane that spins as long as there may be another ping; round trips only
    per-packet    udplane with no offload and one packet a system call, which is what flannel's udp does
"""

import argparse
import itertools
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from bench.environment import machine
from bench.load import LOADS, Figures, Load
from bench.pair import Pair, Setup, build, plain, udplane, vxlan
from bench.report import Results, render
from dataplane.errors import UdplaneError


@dataclass(frozen=True, slots=True)
class PathUnderTest:
    """A way from pod to pod, and the loads it is put under."""

    name: str
    setup: Setup
    only: str = ""
    """Loads whose name begins with this."""


PATHS = (
    PathUnderTest("plain", plain),
    PathUnderTest("vxlan", vxlan),
    PathUnderTest("udplane", udplane()),
    PathUnderTest("busy-poll", udplane("--busy-poll", "3000"), only="round trip"),
    PathUnderTest("per-packet", udplane("--no-offload", "all", "--batch", "1", "--workers", "1")),
)
UNDERLAYS = ("veth", "wire-like")
"""Plain veth, and veth with segmentation offload switched off."""

WARM_UP = 1.0
"""Seconds of TCP over each path before anything counts."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark. Exit status 0, or 1 with one line of what went wrong."""
    options = _parse(argv)
    try:
        results = _measure(options)
    except UdplaneError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    print(render(results))
    if options.json:
        options.json.write_text(json.dumps(results.to_json(), indent=1) + "\n")
        print(f"every figure: {options.json}")
    return 0


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="./dev bench", description="Compare pod-to-pod paths on this machine.")
    parser.add_argument("--rounds", type=int, default=5, help="rounds (default %(default)s)")
    parser.add_argument("--seconds", type=float, default=3, help="length of one load (default %(default)s)")
    parser.add_argument("--quick", action="store_true", help="about a minute: one round, short loads, plain veth")
    parser.add_argument("--paths", nargs="+", choices=[p.name for p in PATHS], help="only these paths")
    parser.add_argument("--underlays", nargs="+", choices=UNDERLAYS, default=UNDERLAYS, help="only these underlays")
    parser.add_argument("--loads", nargs="+", choices=[load.name for load in LOADS], help="only these loads")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every figure to FILE")
    options = parser.parse_args(argv)
    if options.quick:
        options.rounds, options.seconds, options.underlays = 1, 1.0, ["veth"]
    if options.rounds < 1 or options.seconds < 1:
        parser.error("--rounds and --seconds must be at least 1")
    return options


def _measure(options: argparse.Namespace) -> Results:
    """Set everything up, go round, take everything down."""
    paths = [path for path in PATHS if not options.paths or path.name in options.paths]
    loads = [load for load in LOADS if not options.loads or load.name in options.loads]
    results = Results(_environment(options))
    with ExitStack() as cleanup:
        directory = Path(cleanup.enter_context(tempfile.TemporaryDirectory(prefix="udplane-bench-")))
        ready: list[tuple[str, PathUnderTest, Pair]] = []
        for underlay, path in itertools.product(options.underlays, paths):
            prefix = f"b{os.getpid()}-{len(ready)}-"
            place = directory / str(len(ready))
            building = build(prefix, path.setup, place, wire_like=underlay == "wire-like")
            ready.append((underlay, path, cleanup.enter_context(building)))
        for _, _, pair in ready:
            LOADS[0].run(pair, WARM_UP)
        for number, load, (underlay, path, pair) in itertools.product(range(options.rounds), loads, ready):
            if load.name.startswith(path.only):
                _progress(f"round {number + 1}/{options.rounds}: {load.name}, {path.name}, {underlay}")
                results.add(load.name, underlay, path.name, _run(load, pair, options.seconds))
    _progress("")
    return results


def _run(load: Load, pair: Pair, seconds: float) -> Figures | None:
    """One load on one path; None, and a line on stderr, when it gave no figures."""
    try:
        return load.run(pair, seconds)
    except UdplaneError as error:
        print(f"\nbench: {load.name}: {error}", file=sys.stderr)
        return None


def _progress(text: str) -> None:
    """Say what is going on, on a terminal, in one line that is written over."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)


def _environment(options: argparse.Namespace) -> dict[str, str]:
    """What the figures depend on."""
    return machine() | {"rounds": str(options.rounds), "seconds per load": f"{options.seconds:g}"}


if __name__ == "__main__":
    sys.exit(main())
