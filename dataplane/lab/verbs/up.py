"""`udplane lab up`: make a lab."""

import argparse
import time
from pathlib import Path

from dataplane.engines.registry import ENGINES
from dataplane.errors import UsageError
from dataplane.lab import keep, raising, state
from dataplane.lab.raising import Request
from dataplane.lab.topology_file import DEFAULT_TOPOLOGY, ready_made
from dataplane.lab.verbs.common import add_lab, called, named, say
from dataplane.lab.verbs.status import describe

HELP = "make a lab: two nodes and four pods, or what a topology says"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which topology, and what it leaves open."""
    add_lab(parser)
    there = ", ".join(ready_made())
    parser.add_argument(
        "topology",
        nargs="?",
        default=DEFAULT_TOPOLOGY,
        metavar="TOPOLOGY",
        help=f"a file, or one that comes with udplane: {there} (default {DEFAULT_TOPOLOGY})",
    )
    parser.add_argument(
        "--engine", default="", metavar="ENGINE", help=f"on every node: {', '.join(ENGINES)}, or a file"
    )
    parser.add_argument(
        "--step", action="store_true", help="python engines that `lab step NODE` can stop at each of their steps"
    )
    parser.add_argument("--seed", type=int, metavar="N", help="choose other addresses, for this number always the same")
    parser.add_argument("--stay", action="store_true", help="let it outlive this terminal")


def run(arguments: argparse.Namespace) -> int:
    """Make it and say what there is."""
    start = time.monotonic()
    name = arguments.lab or named()
    keep.end_on_signals()
    engine = _engine(arguments)
    request = Request(arguments.topology, name, arguments.seed, engine, arguments.stay)
    view = raising.raise_lab(request, say)
    say("")
    print(describe(view))
    lab = state.option(name)
    pod = view.pods[0].name if view.pods else next(view.places()).name
    print(f"It stands after {time.monotonic() - start:.1f} s. Go on with:")
    print(f"  {called()} lab shell{lab} {pod}")
    print(f"  {called()} lab down{lab}")
    if not request.stay and raising.goes_with_shell():
        print("It goes when this terminal is closed; with --stay it does not.")
    return 0


def _engine(arguments: argparse.Namespace) -> str:
    """A name, or the path of a file with an engine; empty leaves it to the topology."""
    if arguments.step:
        if arguments.engine not in ("", "python"):
            raise UsageError(f"--step goes with the python engine, not with {arguments.engine}; leave one out")
        return str(Path(raising.__file__).with_name("stepping.py"))
    return str(Path(arguments.engine).absolute()) if arguments.engine.endswith(".py") else str(arguments.engine)
