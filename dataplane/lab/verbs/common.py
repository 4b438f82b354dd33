"""What verbs share: how a lab is named on the command line, and what is said while one waits."""

import argparse
import os
import shutil
import sys

from dataplane.lab import state
from dataplane.lab.overlay import UDPLANE


def add_lab(parser: argparse.ArgumentParser) -> None:
    """For a verb about one lab."""
    parser.add_argument(
        "--lab", metavar="NAME", help="which lab, where several stand (default: UDPLANE_LAB, or the one)"
    )


def called() -> str:
    """How a user calls the command `udplane` here: by its name, or by a path where that is not found."""
    return "udplane" if shutil.which("udplane") else os.path.relpath(UDPLANE)


def named() -> str:
    """The lab that is made where the command line names none."""
    return os.environ.get("UDPLANE_LAB") or state.DEFAULT_NAME


def say(text: str) -> None:
    """What is going on, in one line of a terminal that is written over."""
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)
