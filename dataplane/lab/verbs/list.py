"""`udplane lab list`: the labs of this user."""

import argparse
import json

from dataplane.clock import now, time_of_day
from dataplane.lab import state
from dataplane.lab.topology_file import ready_made
from dataplane.text import duration, table

HELP = "the labs that stand, and the topologies to make one of"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """How to print."""
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(arguments: argparse.Namespace) -> int:
    """Tell them all, and clear the dead away."""
    labs = state.labs(clear_dead=False)
    states = {lab.name: _state(lab) for lab in labs}
    for lab in labs:
        if not lab.alive:
            state.bury(lab)
    if arguments.json:
        rows = [
            {
                "name": lab.name,
                "topology": lab.record.topology,
                "since": time_of_day(lab.record.since),
                "state": states[lab.name],
            }
            for lab in labs
        ]
        print(json.dumps({"labs": rows, "topologies": ready_made()}, indent=2))
        return 0
    if labs:
        head = ["LAB", "TOPOLOGY", "SINCE", "STATE"]
        print(table([head, *([lab.name, lab.record.topology, _ago(lab), states[lab.name]] for lab in labs)]).rstrip())
    else:
        print("No lab stands.")
    print("\nTopologies for `udplane lab up`, beside files of your own:")
    print(table([[f"  {name}", text] for name, text in ready_made().items()]).rstrip())
    return 0


def _state(lab: state.Lab) -> str:
    if not lab.alive:
        return "dead, cleared away"
    return "stands" if lab.stands else "coming up"


def _ago(lab: state.Lab) -> str:
    return f"{duration(now() - lab.record.since)} ago"
