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
from dataplane.errors import ConfigError, NodeError, UdplaneError, UsageError
from dataplane.flags import add_flags, bounded, normalize, read_flags
from dataplane.options import DEFAULT_RUN_DIR, DEFAULT_STORE, NodeOptions

Command = Callable[[argparse.Namespace], int]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments[:1] == ["flanneld"]:
        from dataplane.flanneld.command import main as flanneld

        return flanneld(arguments[1:])
    namespace = _parser().parse_args(normalize(arguments))
    command: Command = namespace.command
    try:
        status = command(namespace)
        sys.stdout.flush()
    except UdplaneError as error:
        print(f"udplane: {error}", file=sys.stderr)
        return error.exit_status
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # Whoever read our output has seen enough. Python would complain when it flushes stdout at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        if os.environ.get("UDPLANE_DEBUG"):
            raise
        print(f"udplane: {_describe_defect(error)}", file=sys.stderr)
        return 1
    return status


def _describe_defect(error: Exception) -> str:
    """What nobody has foreseen, in one line all the same."""
    text = " ".join(f"{type(error).__name__}: {error}".split())
    return f"this is a defect, please report it: {text}; with UDPLANE_DEBUG=1 in the environment it says where"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="udplane", description="A userspace data plane for pod networks: TUN in, UDP out.", allow_abbrev=False
    )
    parser.add_argument("--version", action="version", version=f"udplane {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    up = _add(commands, "up", _up, "run the node in the foreground, until SIGTERM or Ctrl-C")
    add_flags(up, NodeOptions)
    _add_store_options(up)
    _add_for_node(
        commands, "status", _status, "this node: lease, backend, engine, peers, counters, drops", prints_json=True
    )
    _add_for_node(
        commands, "peers", _peers, "every lease with its address, last seen, bytes each way", prints_json=True
    )
    _add_stats(commands)
    _add_capture(commands)
    doctor = _add(commands, "doctor", _doctor, "check this host for a node with these flags; say what to do about it")
    doctor.add_argument("--json", action="store_true", help="print JSON")
    add_flags(doctor, NodeOptions)
    _add_store_options(doctor)
    _add_config(commands)
    leave = _add_for_node(commands, "leave", _leave, "give the lease back; take devices, routes, rules away")
    leave.add_argument(
        "--etcd-password", default="", metavar="PASSWORD", help="etcd: password, which no node writes down"
    )
    # Its own flags, in Go's syntax, do not go through this parser: see `main`.
    commands.add_parser("flanneld", help="run the node by flanneld's own flags and variables, in its place")
    cni = _add(commands, "cni", _cni, "install the CNI plugins under their official names: cni install --help")
    cni.add_argument("arguments", nargs=argparse.REMAINDER, help="install --bin-dir DIR --conf-dir DIR")
    return parser


def _add(commands: Any, name: str, command: Command, description: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(
        name, help=description, description=description, allow_abbrev=False
    )
    parser.set_defaults(command=command)
    return parser


def _add_for_node(
    commands: Any, name: str, command: Command, description: str, *, prints_json: bool = False
) -> argparse.ArgumentParser:
    """Add a command about the node of a run directory."""
    parser = _add(commands, name, command, description)
    default = Path(os.environ.get("UDPLANE_RUN_DIR", DEFAULT_RUN_DIR))
    parser.add_argument("--run-dir", type=Path, default=default, metavar="DIR", help="the node's run directory")
    if prints_json:
        parser.add_argument("--json", action="store_true", help="print JSON")
    return parser


def _add_store_options(parser: argparse.ArgumentParser) -> None:
    from dataplane.stores.base import StoreOptions

    add_flags(parser, StoreOptions)


def _add_stats(commands: Any) -> None:
    parser = _add_for_node(
        commands, "stats", _stats, "live rates, like top; one line a sample in a pipe", prints_json=True
    )
    parser.add_argument("--interval", type=_seconds, default=1.0, metavar="SECONDS", help="time between samples")
    parser.add_argument("--count", type=_count, metavar="N", help="stop after so many samples")


def _add_capture(commands: Any) -> None:
    parser = _add_for_node(commands, "capture", _capture, "both sides of the tunnel, inner and outer, as pcapng")
    parser.add_argument("-w", dest="output", required=True, metavar="FILE", help="where to write, - for stdout")
    parser.add_argument(
        "--filter",
        nargs="+",
        default=[],
        metavar="WORD",
        help="host ADDRESS, port N, tcp, udp, icmp, peer ADDRESS, with and, or, not and brackets, about inner packets",
    )
    parser.add_argument("--count", type=_count, metavar="N", help="stop after so many packets")
    parser.add_argument("--seconds", type=_seconds, metavar="SECONDS", help="stop after so long")


def _add_config(commands: Any) -> None:
    parser = commands.add_parser("config", help="the network config in a store: get, set FILE, validate FILE")
    verbs = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    get = _add(verbs, "get", _config_get, "print the network config")
    put = _add(
        verbs, "set", _config_set, "put a network config into the store; running nodes take it at their next start"
    )
    validate = _add(verbs, "validate", _config_validate, "check a network config and print it with all defaults")
    for verb in (get, put):
        verb.add_argument(
            "--store", default=os.environ.get("UDPLANE_STORE", DEFAULT_STORE), metavar="URL", help="where leases live"
        )
        _add_store_options(verb)
    for verb in (put, validate):
        verb.add_argument("file", metavar="FILE", help="net-conf JSON, - for stdin")


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0.05 <= seconds <= 1e6:
        raise argparse.ArgumentTypeError(f"{text!r} is not a time of at least 0.05 seconds")
    return seconds


def _count(text: str) -> int:
    try:
        return bounded(1, 10**12)(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _up(namespace: argparse.Namespace) -> int:
    import asyncio

    from dataplane import logs
    from dataplane.node.privileges import drop_privileges
    from dataplane.stores.base import StoreOptions

    options = read_flags(namespace, os.environ, NodeOptions)
    store_options = read_flags(namespace, os.environ, StoreOptions)
    logs.configure(options.log_format)
    drop_privileges(options, store_options)
    from dataplane.node.node import Node  # which starts threads of libraries

    asyncio.run(Node(options, store_options).run())
    return 0


def _status(namespace: argparse.Namespace) -> int:
    from dataplane.commands.status import render_status

    status = _client(namespace).status()
    return _show(namespace, status, render_status)


def _peers(namespace: argparse.Namespace) -> int:
    from dataplane.commands.status import render_peers

    status = _client(namespace).status()
    return _show(namespace, [*status["peers"], *status["refused"]], render_peers)


def _stats(namespace: argparse.Namespace) -> int:
    from dataplane.commands import stats

    read = _client(namespace).status
    if namespace.json:
        status = read()
        return _show(namespace, {"counters": status["counters"], "peers": status["peers"]}, str)
    for sample in stats.samples(read, namespace.interval, namespace.count):
        if sys.stdout.isatty():
            print(stats.CLEAR_SCREEN + stats.render_screen(*sample), end="", flush=True)
        else:
            print(stats.render_line(*sample), flush=True)
    return 0


def _capture(namespace: argparse.Namespace) -> int:
    from dataplane.capture.capture import Capture, CaptureRequest, capture_to
    from dataplane.capture.filter import compile_filter
    from dataplane.kernel.netns import enter_netns_of

    text = " ".join(namespace.filter)
    request = CaptureRequest(compile_filter(text), text, namespace.count, namespace.seconds)
    if namespace.output == "-" and sys.stdout.isatty():
        raise UsageError("a capture is no text for a terminal; give -w FILE, or pipe it: | wireshark -k -i -")
    client = _client(namespace)
    status = client.status()
    enter_netns_of(client.process_id())
    capture = Capture(status, request)
    capture_to(namespace.output, capture)
    lost = f", {capture.dropped} more lost for want of room" if capture.dropped else ""
    print(f"captured {capture.captured} packets{lost}", file=sys.stderr)
    return 0


def _doctor(namespace: argparse.Namespace) -> int:
    from dataplane.commands.doctor import examine, render
    from dataplane.stores.base import StoreOptions

    options = read_flags(namespace, os.environ, NodeOptions)
    findings = examine(options, read_flags(namespace, os.environ, StoreOptions))
    _show(namespace, [finding.document() for finding in findings], lambda _: render(findings))
    return 1 if any(finding.level == "FAIL" for finding in findings) else 0


def _config_get(namespace: argparse.Namespace) -> int:
    print(_with_store(namespace, lambda store: store.network_config()).rstrip("\n"))
    return 0


def _config_set(namespace: argparse.Namespace) -> int:
    text = _read_text(namespace.file)
    _with_store(namespace, lambda store: store.set_network_config(text))
    return 0


def _config_validate(namespace: argparse.Namespace) -> int:
    from dataplane.leases.network_config import NetworkConfig

    print(NetworkConfig.parse(_read_text(namespace.file)).to_json())
    return 0


def _leave(namespace: argparse.Namespace) -> int:
    from dataplane.commands.leave import leave

    password = os.environ.get("UDPLANE_ETCD_PASSWORD", os.environ.get("FLANNELD_ETCD_PASSWORD", ""))
    for line in leave(namespace.run_dir, namespace.etcd_password or password):
        print(line, flush=True)
    return 0


def _cni(namespace: argparse.Namespace) -> int:
    arguments = namespace.arguments
    if arguments[:1] != ["install"]:
        raise UsageError("udplane cni knows one command: install --bin-dir DIR --conf-dir DIR")
    # The plugins are programs of their own, which share no code with the node.
    os.execv(sys.executable, [sys.executable, "-I", "-m", "cni.install", *arguments[1:]])


def _client(namespace: argparse.Namespace) -> Any:
    from dataplane.node.control import ControlClient
    from dataplane.node.run_directory import RunDirectory

    return ControlClient(RunDirectory(namespace.run_dir).control_socket)


def _with_store(namespace: argparse.Namespace, ask: Callable[[Any], Any]) -> Any:
    """What `ask` gets from the store that the flags name."""
    import asyncio

    from dataplane.stores.base import StoreOptions, open_store

    async def ask_store() -> Any:
        store = open_store(namespace.store, read_flags(namespace, os.environ, StoreOptions))
        try:
            return await ask(store)
        finally:
            await store.close()

    return asyncio.run(ask_store())


def _read_text(name: str) -> str:
    try:
        data = sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()
    except OSError as error:
        raise NodeError(f"cannot read {name}: {error.strerror}") from error
    if not data.strip():
        raise ConfigError(f'{name} is empty; it must hold a network config, as in {{"Network": "10.5.0.0/16"}}')
    return data.decode(errors="replace")


def _show(namespace: argparse.Namespace, document: Any, render: Callable[[Any], str]) -> int:
    print(json.dumps(document, indent=2) if namespace.json else render(document).rstrip("\n"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
