"""The command `udplane`: parse, call, print.

Exit status: 0 done, 1 failed (one line on stderr says what and what to do), 2 wrong usage. What takes long to import is
imported by the command that needs it, so that `udplane --help` and `udplane status` are quick.
"""

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from dataplane import __version__
from dataplane.errors import UdplaneError
from dataplane.options import DEFAULT_RUN_DIR, DEFAULT_STORE, NodeOptions, add_flags, normalize, read_flags

Command = Callable[[argparse.Namespace], int]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    parser = _parser()
    namespace = parser.parse_args(normalize(sys.argv[1:] if arguments is None else arguments))
    command: Command = namespace.command
    try:
        return command(namespace)
    except UdplaneError as error:
        print(f"udplane: {error}", file=sys.stderr)
        return error.exit_status
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # Whoever read our output has seen enough. Python would complain when it flushes stdout at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="udplane", description="A userspace data plane for pod networks: TUN in, UDP out."
    )
    parser.add_argument("--version", action="version", version=f"udplane {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_up(commands)
    _add(commands, "status", _status, "this node: lease, backend, engine, peers, counters, drops by reason", json=True)
    _add(commands, "peers", _peers, "every peer's lease, where it is, when it was seen, bytes each way", json=True)
    _add(commands, "leave", _leave, "give the lease back and take devices, routes, rules away")
    return parser


def _add(
    commands: Any, name: str, command: Command, description: str, *, json: bool = False
) -> argparse.ArgumentParser:
    """Add a subcommand that talks to the node of a run directory."""
    parser: argparse.ArgumentParser = commands.add_parser(
        name, help=description, description=description, allow_abbrev=False
    )
    parser.set_defaults(command=command)
    parser.add_argument(
        "--run-dir", type=Path, default=_default_run_dir(), metavar="DIR", help="the node's run directory"
    )
    if json:
        parser.add_argument("--json", action="store_true", help="print JSON")
    return parser


def _add_up(commands: Any) -> None:
    description = "run the node in the foreground, until SIGTERM or Ctrl-C"
    parser = commands.add_parser("up", help=description, description=description, allow_abbrev=False)
    parser.set_defaults(command=_up)
    add_flags(parser, NodeOptions)


def _default_run_dir() -> Path:
    return Path(os.environ.get("UDPLANE_RUN_DIR", DEFAULT_RUN_DIR))


def _up(namespace: argparse.Namespace) -> int:
    import asyncio

    from dataplane import logs
    from dataplane.node import Node
    from dataplane.stores.base import StoreOptions

    options = read_flags(namespace, os.environ, NodeOptions)
    logs.configure(options.log_format)
    asyncio.run(Node(options, StoreOptions()).run())
    return 0


def _status(namespace: argparse.Namespace) -> int:
    from dataplane.status import render_status

    return _show(namespace, _read_status(namespace), render_status)


def _peers(namespace: argparse.Namespace) -> int:
    from dataplane.status import render_peers

    status = _read_status(namespace)
    return _show(namespace, status["peers"] if namespace.json else status, render_peers)


def _read_status(namespace: argparse.Namespace) -> dict[str, Any]:
    from dataplane.control import ControlClient
    from dataplane.run_directory import RunDirectory

    return ControlClient(RunDirectory(namespace.run_dir).control_socket).status()


def _show(namespace: argparse.Namespace, document: Any, render: Callable[[Any], str]) -> int:
    print(json.dumps(document, indent=2) if namespace.json else render(document).rstrip("\n"))
    return 0


def _leave(namespace: argparse.Namespace) -> int:
    from dataplane.departure import leave

    for line in leave(namespace.run_dir):
        print(line, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
