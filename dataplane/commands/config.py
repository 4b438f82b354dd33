"""`udplane config`: the network config in a store."""

import argparse
import os
import sys
from pathlib import Path

from dataplane.commands.with_store import add_store_flags, ask_store, read_store_flags
from dataplane.errors import ConfigError, NodeError
from dataplane.options import DEFAULT_STORE


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The verbs get, set and validate."""
    verbs = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name, verb, description in (
        ("get", _get, "print the network config"),
        ("set", _set, "put a network config into the store; running nodes take it at their next start"),
        ("validate", _validate, "check a network config and print it with all defaults"),
    ):
        added = verbs.add_parser(name, help=description, description=description, allow_abbrev=False)
        added.set_defaults(verb=verb)
        if verb is not _validate:
            default = os.environ.get("UDPLANE_STORE", DEFAULT_STORE)
            added.add_argument("--store", default=default, metavar="URL", help="where leases live")
            add_store_flags(added)
        if verb is not _get:
            added.add_argument("file", metavar="FILE", help="net-conf JSON, - for stdin")


def run(namespace: argparse.Namespace) -> int:
    """Do what the verb says."""
    namespace.verb(namespace)
    return 0


def _get(namespace: argparse.Namespace) -> None:
    print(ask_store(namespace.store, read_store_flags(namespace), lambda store: store.network_config()).rstrip("\n"))


def _set(namespace: argparse.Namespace) -> None:
    text = _read_text(namespace.file)
    ask_store(namespace.store, read_store_flags(namespace), lambda store: store.set_network_config(text))


def _validate(namespace: argparse.Namespace) -> None:
    from dataplane.leases.network_config import NetworkConfig

    print(NetworkConfig.parse(_read_text(namespace.file)).to_json())


def _read_text(name: str) -> str:
    try:
        data = sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()
    except OSError as error:
        raise NodeError(f"cannot read {name}: {error.strerror}") from error
    if not data.strip():
        raise ConfigError(f'{name} is empty; it must hold a network config, as in {{"Network": "10.5.0.0/16"}}')
    return data.decode(errors="replace")
