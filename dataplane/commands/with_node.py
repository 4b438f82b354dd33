"""What commands share that ask a running node: its flags, and the choice between JSON and text."""

import argparse
import json
import os
from collections.abc import Callable
from typing import Any

from dataplane.flags import as_argument, path
from dataplane.node.control import ControlClient
from dataplane.node.run_directory import RunDirectory
from dataplane.options import DEFAULT_RUN_DIR


def add_run_dir(parser: argparse.ArgumentParser) -> None:
    """For a command about the node of a run directory."""
    # argparse reads a default that is a text as if it were given.
    default = os.environ.get("UDPLANE_RUN_DIR", str(DEFAULT_RUN_DIR))
    parser.add_argument(
        "--run-dir", type=as_argument(path), default=default, metavar="DIR", help="the node's run directory"
    )


def add_json(parser: argparse.ArgumentParser) -> None:
    """For a command that prints state."""
    parser.add_argument("--json", action="store_true", help="print JSON")


def client(namespace: argparse.Namespace) -> ControlClient:
    """A way to ask the node of `--run-dir`."""
    return ControlClient(RunDirectory(namespace.run_dir).control_socket)


def show(namespace: argparse.Namespace, document: Any, render: Callable[[Any], str]) -> None:
    """Print `document` as JSON if that is wished for, else as `render` lays it out."""
    print(json.dumps(document, indent=2) if namespace.json else render(document).rstrip("\n"))
