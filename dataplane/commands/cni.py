"""`udplane cni`: install the CNI plugins, which are programs of their own and share no code with the node."""

import argparse
import os
import sys

from dataplane.errors import UsageError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """All that follows goes to `cni.install`."""
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help="install --bin-dir DIR --conf-dir DIR")


def run(namespace: argparse.Namespace) -> int:
    """Become `cni.install`."""
    arguments = namespace.arguments
    if arguments[:1] != ["install"]:
        raise UsageError("udplane cni knows one command: install --bin-dir DIR --conf-dir DIR")
    os.execv(sys.executable, [sys.executable, "-I", "-m", "cni.install", *arguments[1:]])
