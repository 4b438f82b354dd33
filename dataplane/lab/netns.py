"""One named network namespace: made, entered, deleted.

A thread belongs to exactly one network namespace, and a socket stays in the namespace in which it was opened, wherever
its user goes later. So there is no need for a process in each namespace: `Namespace.entered` moves the calling thread
there for the length of a `with` block, and what it opens meanwhile can be used from anywhere.

Namespaces are made by `ip netns`, so that a person can look into them with `ip netns exec NAME ...`.
"""

import os
import socket
import subprocess
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from dataplane.errors import UdplaneError
from dataplane.kernel.netns import set_netns

NETNS_DIR = Path("/run/netns")
"""Where `ip netns` keeps the names (iproute2's NETNS_RUN_DIR)."""


class LabError(UdplaneError):
    """A network of namespaces could not be built or used."""


class Namespace:
    """A named network namespace with its loopback up. Use `create`; `delete` it when done."""

    def __init__(self, name: str) -> None:
        """Refer to the namespace called `name`, which need not exist yet."""
        self.name = name
        self.path = NETNS_DIR / name

    def __repr__(self) -> str:
        return f"Namespace({self.name!r})"

    @classmethod
    def create(cls, name: str) -> "Namespace":
        """Make the namespace `name`, which is no router even where this machine is one (it inherits its settings)."""
        ip(f"netns add {name}")
        namespace = cls(name)
        namespace.ip("link set lo up")
        namespace.sysctl({"net/ipv4/ip_forward": 0})
        return namespace

    def delete(self) -> None:
        """Remove the name; the kernel frees the namespace when its last process and socket are gone. Never fails."""
        subprocess.run(["ip", "netns", "delete", self.name], stderr=subprocess.DEVNULL, check=False)

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Move the calling thread into the namespace, and back at the end of the block."""
        with Path("/proc/thread-self/ns/net").open("rb") as before, self.path.open("rb") as there:
            set_netns(there)
            try:
                yield
            finally:
                set_netns(before)

    def socket(self, family: int, kind: int, protocol: int = 0) -> socket.socket:
        """Open a socket that lives in the namespace."""
        with self.entered():
            return socket.socket(family, kind, protocol)

    def ip(self, *commands: str) -> None:
        """Carry out commands of ip(8) in the namespace, all in one process. The first failure raises LabError."""
        ip(*commands, netns=self.name)

    def sysctl(self, values: dict[str, int]) -> None:
        """Set kernel parameters of the namespace, such as `{"net/ipv4/ip_forward": 1}`."""
        with self.entered():
            for key, value in values.items():
                Path("/proc/sys", key).write_text(str(value))

    def command(self, argv: Sequence[str]) -> list[str]:
        """The command line that runs `argv` in the namespace."""
        return ["ip", "netns", "exec", self.name, *argv]

    def run(
        self,
        argv: Sequence[str],
        *,
        check: bool = True,
        stdin: str = "",
        environment: Mapping[str, str] | None = None,
        timeout: float = 30,
    ) -> subprocess.CompletedProcess[str]:
        """Run a program in the namespace to its end and capture what it prints.

        It reads `stdin`, and sees `environment` on top of this process's own. With `check`, an exit status other than 0
        raises LabError with the last line of stderr.
        """
        done = subprocess.run(
            self.command(argv),
            input=stdin,
            env={**os.environ, **(environment or {})},
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout,
        )
        if check and done.returncode != 0:
            reason = (done.stderr.strip().splitlines() or ["no message"])[-1]
            raise LabError(f"{' '.join(argv)} in {self.name} exited with status {done.returncode}: {reason}")
        return done

    def start(self, argv: Sequence[str], *, log: IO[bytes]) -> subprocess.Popen[bytes]:
        """Start a program in the namespace, stdout and stderr to `log`. The kernel kills it when its parent dies."""
        bound = ["setpriv", "--pdeathsig", "KILL", *argv]
        return subprocess.Popen(self.command(bound), stdin=subprocess.DEVNULL, stdout=log, stderr=log)


def ip(*commands: str, netns: str | None = None) -> None:
    """Carry out commands of ip(8), all in one process, in this namespace or in `netns`."""
    where = ["-netns", netns] if netns else []
    run_lines(["ip", *where, "-batch", "-"], commands)


def run_lines(argv: list[str], lines: Iterable[str]) -> None:
    """Feed `lines` to a program; raise LabError with what it says when it fails."""
    try:
        done = subprocess.run(argv, input="\n".join(lines) + "\n", capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise LabError(f"{argv[0]} is not installed; on Debian and Ubuntu: apt-get install iproute2") from error
    if done.returncode != 0:
        raise LabError(f"{' '.join(argv)}: {' '.join(done.stderr.split())}")
