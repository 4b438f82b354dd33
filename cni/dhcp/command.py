"""The command line of `dhcp daemon`: the official daemon's flags, written with one dash or two."""

from __future__ import annotations

import argparse
import re
import sys

from cni.dhcp.client import Timing
from cni.dhcp.daemon import Daemon, DaemonError, Settings
from cni.dhcp.records import DEFAULT_SOCKET_PATH

_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}
_DURATION = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(ms|us|µs|ns|h|m|s)")


def main(argv: list[str]) -> int:
    """Run the daemon until it is told to stop; gives its exit status. `argv` is what follows `dhcp daemon`."""
    flags = _parser().parse_args(argv)
    settings = Settings(
        socket_path=flags.socketpath or DEFAULT_SOCKET_PATH,
        pid_file=flags.pidfile,
        host_prefix=flags.hostprefix,
        broadcast=flags.broadcast,
        timing=Timing(flags.timeout, flags.resendmax),
        resend_timeout=flags.resendtimeout,
    )
    try:
        Daemon(settings).run()
    except (DaemonError, OSError) as error:
        print(f"dhcp daemon: {error}", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="dhcp daemon", description="Holds the DHCP leases of this host's pods.")

    def flag(name: str, **settings: object) -> None:
        parser.add_argument(f"-{name}", f"--{name}", **settings)  # type: ignore[arg-type]

    flag("pidfile", default="", metavar="PATH", help="write the daemon's process id to this absolute path")
    flag("hostprefix", default="", metavar="PATH", help="what stands before every path of the host")
    flag("socketpath", default="", metavar="PATH", help=f"listen here (default {DEFAULT_SOCKET_PATH})")
    flag("broadcast", action="store_true", help="ask servers to broadcast their answers")
    durations = (
        ("timeout", 10.0, "how long a server may take to confirm its offer (default 10s)"),
        ("resendmax", 62.0, "the longest pause before a message is sent again (default 62s)"),
        ("resendtimeout", 208.0, "how long a pod's first lease may take (default 208s)"),
    )
    for name, default, text in durations:
        flag(name, type=_duration, default=default, metavar="DURATION", help=text)
    return parser


def _duration(text: str) -> float:
    """Seconds of a Go duration such as 1m2.5s."""
    parts = _DURATION.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise argparse.ArgumentTypeError(f"{text!r} is not a duration such as 10s or 1m2s")
    return sum(float(number) * _UNITS[unit] for number, unit in parts)
