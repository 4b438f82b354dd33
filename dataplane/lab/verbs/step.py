"""`udplane lab step`: go through a node's engine step by step."""

import argparse
import contextlib
import json
import sys
from collections.abc import Iterator
from typing import Any

from dataplane.lab import inside, stepping
from dataplane.lab.netns import LabError
from dataplane.lab.recording import Check, Packet
from dataplane.lab.text import BOLD, DIM, paint
from dataplane.lab.verbs.common import add_lab
from dataplane.lab.walk_text import check_lines

HELP = "go through a node's engine step by step: step node1"

ROW = 20
HINT = "Enter: next step   p: next packet   q: leave"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which node, and how."""
    add_lab(parser)
    parser.add_argument("node", metavar="NODE", help="a node of a lab that `lab up --step` made")
    parser.add_argument("--continue", dest="going", action="store_true", help="show the steps and stop at none")
    parser.add_argument("--packets", type=int, default=0, metavar="N", help="leave after so many packets")


def run(arguments: argparse.Namespace) -> int:
    """Show steps until the node or the user has enough."""
    _, view = inside.move_in(arguments.lab)
    node = view.node(arguments.node)
    try:
        connection = stepping.connect(node.run_dir)
    except OSError as error:
        raise LabError(
            f"{node.name} cannot be stepped ({error.strerror}); make a lab with: udplane lab up --step"
        ) from error
    print(paint(DIM, f"{node.name} stops at its next packet. {'' if arguments.going else HINT}"), flush=True)
    packets = 0
    with connection, connection.makefile("r") as lines:
        for document in _documents(lines):
            packets += document.get("step") == "read"
            if arguments.packets and packets > arguments.packets:
                return 0
            print("\n".join(step_lines(document)), flush=True)
            word = "step" if arguments.going else _ask()
            if not word:
                return 0
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # the next line says that it has gone
                connection.sendall(f"{word}\n".encode())
    print(f"{node.name} steps no more: it has ended, or somebody else steps it")
    return 0


def _documents(lines: Iterator[str]) -> Iterator[dict[str, Any]]:
    with contextlib.suppress(ConnectionResetError):
        for line in lines:
            yield json.loads(line)


def _ask() -> str:
    """What the user wants: a word for the node, or nothing to leave."""
    answer = sys.stdin.readline()
    return {"q": "", "p": "packet"}.get(answer.strip(), "step") if answer else ""


def step_lines(document: dict[str, Any]) -> list[str]:
    """A step for people: what it looked at, its variables, and at the first one the bytes."""
    check = Check(str(document["step"]), bool(document["ok"]), dict(document["args"]))
    if check.name == "lower" and check.args.get("version") == 6:
        check.name = "lower6"
    shown = list(check_lines(check))
    if check.name in ("read", "lower", "lower6"):
        data = bytes.fromhex(document["packet"])
        names = " ".join(layer.name for layer in Packet("ip", data, "recorded").layers)
        shown += [paint(BOLD, f"       {names}")] if check.name == "read" else []
        shown += [
            f"       {start:3}  {data[start : start + ROW].hex(' ')}" for start in range(0, min(len(data), 80), ROW)
        ]
    return shown
