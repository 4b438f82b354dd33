"""`udplane lab exec`: run a command in a pod, on a node, at any place of a lab."""

import argparse

from dataplane.errors import UsageError
from dataplane.lab import inside, state
from dataplane.lab.verbs.common import add_lab

HELP = "run a command at a place: exec pod1 ping -c 1 pod3"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Where and what."""
    add_lab(parser)
    parser.add_argument("where", metavar="WHERE", help="a pod, node, host, router or wire of the lab")
    parser.add_argument("command", nargs=argparse.REMAINDER, metavar="COMMAND", help="the command with its arguments")


def run(arguments: argparse.Namespace) -> int:
    """Become the command."""
    command = arguments.command[1:] if arguments.command[:1] == ["--"] else arguments.command
    if not command:
        raise UsageError(f"which command? udplane lab exec {arguments.where} COMMAND ...")
    lab = state.find(arguments.lab)
    inside.enter(lab, command, place=lab.view().find(arguments.where))
