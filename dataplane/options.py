"""Options of the node: one list from which the flags of `udplane up`, their environment variables and their help are made.

A field of `NodeOptions` is a flag of the same name with dashes, and an environment variable with UDPLANE_ in front. Where
a flag is flannel's and means the same, FLANNELD_ is read too. The flag wins over the environment, and
UDPLANE_ over FLANNELD_. As with flannel's flags, a true-or-false flag stands alone or takes `=true` or `=false`, and
one dash is as good as two.
"""

import argparse
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, field, fields
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from typing import Any, TypeVar

from dataplane.engine import ENGINES
from dataplane.errors import UsageError

Address = IPv4Address | IPv6Address

DEFAULT_RUN_DIR = Path("/run/udplane")
DEFAULT_STORE = "sqlite:/var/lib/udplane/store.db"

_Options = TypeVar("_Options")


def boolean(text: str) -> bool:
    """The truth values that Go's flags take (strconv.ParseBool)."""
    if text in {"1", "t", "T", "true", "TRUE", "True"}:
        return True
    if text in {"0", "f", "F", "false", "FALSE", "False"}:
        return False
    raise ValueError(f"{text!r} is neither true nor false")


def bounded(minimum: int, maximum: int) -> Callable[[str], int]:
    """A reader of whole numbers between two bounds."""

    def parse(text: str) -> int:
        if not re.fullmatch(r"[+-]?[0-9]{1,18}", text, re.ASCII) or not minimum <= int(text) <= maximum:
            raise ValueError(f"{text!r} is not a whole number from {minimum} to {maximum}")
        return int(text)

    return parse


def one_of(*names: str) -> Callable[[str], str]:
    """A reader of one of some words."""

    def parse(text: str) -> str:
        if text not in names:
            raise ValueError(f"{text!r} is not one of {', '.join(names)}")
        return text

    return parse


def optional_address(text: str) -> Address | None:
    """An IPv4 or IPv6 address; an empty text is none."""
    address = ip_address(text) if text else None
    if isinstance(address, IPv6Address) and address.scope_id is not None:
        raise ValueError(f"{text!r} is an address of one link only; give one that other nodes can reach")
    return address


def flag(
    default: Any, description: str, parse: Callable[[str], Any] = str, *, metavar: str = "", flannel: bool = False
) -> Any:
    """A dataclass field that is a flag; `flannel` says that flannel has it too, with the same meaning."""
    metadata = {"help": description, "parse": parse, "metavar": metavar, "flannel": flannel}
    return field(default=default, metadata=metadata)


@dataclass(frozen=True, slots=True)
class NodeOptions:
    """What `udplane up` can be told."""

    store: str = flag(
        DEFAULT_STORE, "where leases live: sqlite:PATH, static:FILE, etcd://HOST:PORT or kube:", metavar="URL"
    )
    node_name: str = flag("", "this node's name, for stores that know nodes by name", metavar="NAME")
    net_config_path: str = flag(
        "", "put this network config into the store if it has none", metavar="FILE", flannel=True
    )
    iface: str = flag(
        "", "external interface, by name or address (default: the default route's)", metavar="IFACE", flannel=True
    )
    public_ip: Address | None = flag(
        None,
        "address at which peers reach this node; IPv4 or IPv6, which makes the underlay (default: the interface's)",
        optional_address,
        metavar="ADDRESS",
        flannel=True,
    )
    subnet_file: Path = flag(
        Path("/run/flannel/subnet.env"), "where CNI plugins read this node's subnet", Path, metavar="FILE", flannel=True
    )
    subnet_lease_renew_margin: int = flag(
        60, "renew the lease so many minutes before it expires", bounded(1, 1439), metavar="MINUTES", flannel=True
    )
    ip_masq: bool = flag(False, "masquerade traffic that leaves the pod network", boolean, flannel=True)
    ip_masq_fully_random_disable: bool = flag(False, "masquerade without random ports", boolean, flannel=True)
    iptables_forward_rules: bool = flag(True, "accept forwarded traffic of the pod network", boolean, flannel=True)
    iptables_resync: int = flag(
        5, "look after the rules every so many seconds", bounded(1, 86400), metavar="SECONDS", flannel=True
    )
    firewall: str = flag(
        "auto",
        "who holds the rules: auto, nftables or iptables",
        one_of("auto", "nftables", "iptables"),
        metavar="WHICH",
    )
    engine: str = flag("native", f"who moves the packets: {', '.join(ENGINES)}", one_of(*ENGINES), metavar="ENGINE")
    workers: int = flag(1, "threads that move packets (native engine)", bounded(1, 64), metavar="N")
    tun: str = flag("udplane0", "name of the TUN device", metavar="NAME")
    run_dir: Path = flag(DEFAULT_RUN_DIR, "where the control socket lies; one for each node", Path, metavar="DIR")
    no_carry_tos: bool = flag(False, "do not carry DSCP and ECN between inner and outer header", boolean)
    accept_any_sender: bool = flag(
        False,
        "take packets of a lease from any underlay address, for peers behind NAT; anybody who can "
        "reach the port can then send packets in a pod's name",
        boolean,
    )
    icmp_rate: int = flag(1000, "ICMP errors a second at most", bounded(0, 1_000_000), metavar="N")
    healthz_ip: Address = flag(
        IPv4Address(0), "address of the health check", ip_address, metavar="ADDRESS", flannel=True
    )
    healthz_port: int = flag(
        0, "answer GET /healthz at this TCP port; 0 for no", bounded(0, 65535), metavar="PORT", flannel=True
    )
    log_format: str = flag("text", "how to log: text or json", one_of("text", "json"), metavar="FORMAT")


def add_flags(parser: argparse.ArgumentParser, options: type[Any], only: Sequence[str] = ()) -> None:
    """Add the flags of `options` (those called `only`, or all) to `parser`."""
    for option in _flags(options, only):
        parse, default = option.metadata["parse"], option.default
        shown = "" if default in (None, "", False) else f" (default {_spelled(default)})"
        arguments: dict[str, Any] = {"nargs": "?", "const": True} if parse is boolean else {}
        parser.add_argument(
            f"--{option.name.replace('_', '-')}",
            type=_as_argument(parse),
            default=MISSING,
            metavar=option.metadata["metavar"] or "BOOL",
            help=(option.metadata["help"] + shown).replace("%", "%%"),
            **arguments,
        )


def read_flags(
    namespace: argparse.Namespace, environment: Mapping[str, str], options: type[_Options], only: Sequence[str] = ()
) -> _Options:
    """Make an instance of the dataclass `options` from what was parsed, else from the environment, else by default."""
    values = {}
    for option in _flags(options, only):
        value = getattr(namespace, option.name)
        values[option.name] = _from_environment(option, environment) if value is MISSING else value
    return options(**values)


def normalize(arguments: Sequence[str]) -> list[str]:
    """Turn Go's `-iface=eth0` into `--iface=eth0`; one-letter flags stay as they are."""
    return [re.sub(r"^-(?=[a-z][a-z0-9-]+)", "--", argument) for argument in arguments]


def _flags(options: type[Any], only: Sequence[str]) -> list[Field[Any]]:
    return [option for option in fields(options) if "parse" in option.metadata and (not only or option.name in only)]


def _from_environment(option: Field[Any], environment: Mapping[str, str]) -> Any:
    prefixes = ("UDPLANE_", "FLANNELD_") if option.metadata["flannel"] else ("UDPLANE_",)
    for name in (prefix + option.name.upper() for prefix in prefixes):
        if name in environment:
            try:
                return option.metadata["parse"](environment[name])
            except ValueError as error:
                raise UsageError(f"environment variable {name}: {error}") from error
    return option.default


def _as_argument(parse: Callable[[str], Any]) -> Callable[[str], Any]:
    """`parse` with its errors as argparse shows them word for word."""

    def parse_argument(text: str) -> Any:
        try:
            return parse(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from error

    return parse_argument


def _spelled(value: Any) -> str:
    return (
        str(value).lower() if isinstance(value, bool) else os.fspath(value) if isinstance(value, Path) else str(value)
    )
