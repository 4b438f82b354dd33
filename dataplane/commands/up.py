"""`udplane up`: run a node in the foreground."""

import argparse
import asyncio
import os

from dataplane import logs
from dataplane.commands.with_store import add_store_flags, read_store_flags
from dataplane.flags import add_flags, read_flags
from dataplane.node.privileges import drop_privileges
from dataplane.options import NodeOptions


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The node's flags and the store's."""
    add_flags(parser, NodeOptions)
    add_store_flags(parser)


def run(namespace: argparse.Namespace) -> int:
    """Run until SIGTERM or Ctrl-C."""
    options, of_store = read_flags(namespace, os.environ, NodeOptions), read_store_flags(namespace)
    logs.configure(options.log_format)
    drop_privileges(options, of_store)
    from dataplane.node.node import Node  # starts threads of libraries, which would keep the privileges

    asyncio.run(Node(options, of_store).run())
    return 0
