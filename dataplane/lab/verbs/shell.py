"""`udplane lab shell`: a shell in a pod, on a node, at any place of a lab."""

import argparse
import shutil
import sys
from pathlib import Path

from dataplane.lab import inside, state
from dataplane.lab.verbs.common import add_lab
from dataplane.lab.view import NodePlace, Place, PodPlace

HELP = "a shell at a place, which its prompt names"

COLOURS = {NodePlace: 36, PodPlace: 32}
"""Select Graphic Rendition codes (ECMA-48 8.3.117) of the prompt; what is neither node nor pod is yellow."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Where."""
    add_lab(parser)
    parser.add_argument("where", metavar="WHERE", help="a pod, node, host, router or wire of the lab")


def run(arguments: argparse.Namespace) -> int:
    """Become the shell."""
    lab = state.find(arguments.lab)
    place = lab.view().find(arguments.where)
    # A shell for people heeds no SIGTERM.
    prompt = {"PS1": f"{place.name}# "}
    inside.enter(lab, _shell(lab.directory, place), place=place, more=prompt, ending="HUP")


def _shell(directory: Path, place: Place) -> list[str]:
    """bash with the user's habits and a prompt of ours, or else the system's shell."""
    if not shutil.which("bash"):
        return ["sh", *(["-i"] if sys.stdin.isatty() else [])]
    colour = COLOURS.get(type(place), 33)
    settings = directory / f"{place.name}.bashrc"
    settings.write_text(
        "[ -r ~/.bashrc ] && . ~/.bashrc\n"
        "unset PROMPT_COMMAND\n"
        f"PS1='\\[\\e[1;{colour}m\\]{place.name}\\[\\e[0m\\]:\\w# '\n"
    )
    return ["bash", "--rcfile", str(settings), *(["-i"] if sys.stdin.isatty() else [])]
