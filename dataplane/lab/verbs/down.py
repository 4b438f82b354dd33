"""`udplane lab down`: take a lab away."""

import argparse

from dataplane.errors import UsageError
from dataplane.lab import state
from dataplane.lab.netns import LabError
from dataplane.lab.verbs.common import add_lab

HELP = "take a lab away; nothing is left"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which."""
    add_lab(parser)
    parser.add_argument("--all", action="store_true", help="every lab of this user")


def run(arguments: argparse.Namespace) -> int:
    """End the keeper, clear the directory."""
    if arguments.all and arguments.lab:
        raise UsageError("--all and --lab NAME do not go together; leave one out")
    labs = state.labs()
    if not arguments.all:
        name = state.chosen_name(arguments.lab, labs)
        labs = [lab for lab in labs if lab.name == name]
        if not labs:
            raise LabError(f"no lab called {name} stands; see `udplane lab list`")
    for lab in labs:
        if lab.inside:
            raise LabError(f"this is inside of lab {lab.name}; leave it first (exit), and take it down from outside")
        lab.end()
        print(f"lab {lab.name} is gone")
    return 0
