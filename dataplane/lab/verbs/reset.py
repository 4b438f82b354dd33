"""`udplane lab reset`: back to the start of the exercise."""

import argparse

from dataplane.lab import keep, state
from dataplane.lab.teaching import classroom
from dataplane.lab.verbs.common import add_lab, say

HELP = "bring the exercise back to its start; your own files are kept as NAME.bak"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which lab."""
    add_lab(parser)


def run(arguments: argparse.Namespace) -> int:
    """Make its lab anew."""
    keep.end_on_signals()
    exercise = classroom.reset(state.find(arguments.lab), say)
    say("")
    print(f"{exercise.title}: as at its start")
    return 0
