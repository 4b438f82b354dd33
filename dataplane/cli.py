"""The command `udplane`: parse, call, print.

Exit status: 0 done, 1 failed (one line on stderr says what and what to do), 2 wrong usage. A command is a module of
`dataplane.commands` with `add_arguments` and `run`. Only the one that is called is imported, so that `udplane --help`
and `udplane status` are quick.
"""

import argparse
import errno
import importlib
import os
import sys
from collections.abc import Sequence

from dataplane import __version__
from dataplane.errors import UdplaneError
from dataplane.flags import normalize
from dataplane.system_path import add_system_directories

COMMANDS = {
    "up": "run the node in the foreground, until SIGTERM or Ctrl-C",
    "status": "this node: lease, backend, engine, peers, counters, drops",
    "peers": "every lease with its address, last seen, bytes each way",
    "stats": "live rates, like top; one line a sample in a pipe",
    "capture": "both sides of the tunnel, inner and outer, as pcapng",
    "doctor": "check this host for a node with these flags; say what to do about it",
    "config": "the network config in a store: get, set FILE, validate FILE",
    "leave": "give the lease back; take devices, routes, rules away",
    "flanneld": "run the node by flanneld's own flags and variables, in its place",
    "lab": "a network of namespaces to learn in, without root: lab --help",
    "cni": "install the CNI plugins under their official names: cni install --help",
}
"""What each command is for. `flanneld` takes flags in Go's syntax, so it does not go through this parser."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    arguments = sys.argv[1:] if arguments is None else arguments
    _open_standard_streams()
    add_system_directories()
    if arguments[:1] == ["flanneld"]:
        from dataplane.flanneld.command import main as flanneld

        return flanneld(arguments[1:])
    try:
        # A lab runs other programs, whose flags are not ours to rewrite.
        given = arguments if arguments[:1] == ["lab"] else normalize(arguments)
        namespace = _parser(arguments).parse_args(given)
        status: int = namespace.run(namespace)
        sys.stdout.flush()
    except UdplaneError as error:
        print(f"udplane: {error}", *getattr(error, "__notes__", ()), sep="\n", file=sys.stderr)
        return error.exit_status
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # Whoever read our output has seen enough.
        _drop_output()
        return 1
    except Exception as error:
        if os.environ.get("UDPLANE_DEBUG"):
            raise
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            print(f"udplane: cannot write {error.filename or 'the output'}: {error.strerror}", file=sys.stderr)
            _drop_output()
            return 1
        print(f"udplane: {_describe_defect(error)}", file=sys.stderr)
        return 1
    return status


def _open_standard_streams() -> None:
    """Put /dev/null where descriptors 0 to 2 were closed: else a file opened later would become a child's output."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            null = os.open(os.devnull, os.O_RDWR)  # the lowest free number, so this one
            os.set_inheritable(null, True)
            setattr(sys, name, os.fdopen(null, "r" if number == 0 else "w", encoding="utf-8"))


def _drop_output() -> None:
    """Give up what cannot be written. Python would complain when it flushes stdout at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _describe_defect(error: Exception) -> str:
    """What nobody has foreseen, in one line all the same."""
    text = " ".join(f"{type(error).__name__}: {error}".split())
    return f"this is a defect, please report it: {text}; with UDPLANE_DEBUG=1 in the environment it says where"


def _parser(arguments: Sequence[str]) -> argparse.ArgumentParser:
    """A parser that knows all commands by name, and the flags of the one that `arguments` call."""
    parser = argparse.ArgumentParser(
        prog="udplane", description="A userspace data plane for pod networks: TUN in, UDP out.", allow_abbrev=False
    )
    parser.add_argument("--version", action="version", version=f"udplane {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    called = next((word for word in arguments if word in COMMANDS), None)
    for name, description in COMMANDS.items():
        command = commands.add_parser(name, help=description, description=description, allow_abbrev=False)
        if name == called:
            module = importlib.import_module(f"dataplane.commands.{name}")
            module.add_arguments(command)
            command.set_defaults(run=module.run)
    return parser


if __name__ == "__main__":
    sys.exit(main())
