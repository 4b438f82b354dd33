"""udplane on the nodes of a lab: one daemon in each node's namespace, and pods that CNI plugins connect.

Daemons and plugins are the real ones, run from the command line as an operator and a container runtime would. All that
they share or keep lies below one directory:

    DIRECTORY/leases.db                    the embedded store
    DIRECTORY/node1/{run/,subnet.env,log}  the daemon of node1, and so on; `up` there is its command line
    DIRECTORY/cni/bin/                     the plugins
    DIRECTORY/cni/node1/                   what they remember about the pods of node1, and so on
"""

import contextlib
import json
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from dataplane.addresses import Network
from dataplane.errors import NodeError
from dataplane.lab.netns import LabError
from dataplane.lab.runtime import Runtime
from dataplane.lab.topology import Lab, Node
from dataplane.node.control import ControlClient
from dataplane.node.run_directory import RunDirectory
from dataplane.node.subnet_file import SubnetFile

UDPLANE = Path(sys.executable).with_name("udplane")
"""The installed command, beside the interpreter that runs this."""

NETWORK_CONFIG = {
    "EnableIPv6": True,
    "Network": "10.254.0.0/16",
    "IPv6Network": "fd00:10:254::/48",
    "Backend": {"Type": "udp"},
}
"""flannel's net-conf JSON: every node leases a /24 and a /64 of these."""

TUN = "udplane0"
START_TIMEOUT = 30.0
STOP_TIMEOUT = 10.0

LAST_LINES = 8
"""How much a daemon that has died gets to say on the screen."""


@dataclass(slots=True)
class Daemon:
    """A udplane that runs on a node."""

    node: Node
    directory: Path
    process: subprocess.Popen[bytes]
    told_to_end: bool = False

    @property
    def died(self) -> bool:
        """Whether it has ended without `stop`."""
        return not self.told_to_end and self.process.poll() is not None

    @property
    def subnet_file(self) -> Path:
        """Where the daemon writes its lease for the CNI plugins."""
        return self.directory / "subnet.env"

    @property
    def log(self) -> Path:
        """What the daemon says."""
        return self.directory / "log"

    def wait_until_ready(self) -> None:
        """Return once the daemon says that it is ready."""
        client = ControlClient(RunDirectory(self.directory / "run").control_socket)

        def ready() -> bool:
            if self.process.poll() is not None:
                raise LabError(f"udplane on {self.node.name} ended at its start: {last_line(self.log)}")
            with contextlib.suppress(NodeError):
                status = client.status()
                return bool(status["phase"] == "ready" and status["pid"] == self.process.pid)
            return False

        wait_until(ready, f"udplane on {self.node.name} to be ready")

    def wait_for_peers(self, n: int) -> None:
        """Return once the daemon has heard of `n` other nodes: a store may take a moment to tell of a new lease."""
        client = ControlClient(RunDirectory(self.directory / "run").control_socket)
        wait_until(lambda: len(client.status()["peers"]) >= n, f"udplane on {self.node.name} to know {n} peers")

    def lease(self) -> tuple[list[Network], int]:
        """The subnets that the node owns, and the MTU of its pods."""
        file = SubnetFile.parse(self.subnet_file.read_bytes())
        return [subnet for subnet in (file.subnets.ipv4, file.subnets.ipv6) if subnet is not None], file.mtu

    def command(self, verb: str, *arguments: str) -> list[str]:
        """The command line of a `udplane` verb that talks to this daemon; to be run in the node's namespace."""
        return [str(UDPLANE), verb, "--run-dir", str(self.directory / "run"), *arguments]

    def status(self) -> dict[str, Any]:
        """What `udplane status --json` says."""
        status: dict[str, Any] = json.loads(self.node.netns.run(self.command("status", "--json")).stdout)
        return status

    def stop(self) -> None:
        """End the daemon as a service manager would: SIGTERM, and SIGKILL when that does not help."""
        if self.process.poll() is None:
            self.told_to_end = True
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(STOP_TIMEOUT)
            except subprocess.TimeoutExpired:
                self.process.kill()
        self.process.wait()


class Overlay:
    """The daemons of a lab. A context manager: at its end they are stopped."""

    def __init__(
        self,
        lab: Lab,
        directory: Path,
        *,
        engine: str = "native",
        underlay: int | None = None,
        flags: Sequence[str] = (),
        name_address: bool = True,
        keep_logs: Path | None = None,
        network: Mapping[str, Any] = NETWORK_CONFIG,
        name: str = "",
    ) -> None:
        """Keep the daemons' files in `directory`; the logs of those that die are copied to `keep_logs` if it is given.

        The datagrams between the nodes are of IP version `underlay`, by default the first of the lab's; without
        `name_address` the nodes find their addresses themselves. `flags` are passed on to every `udplane up`.
        Overlays that share a directory have different names.
        """
        self._name_address = name_address
        self._keep_logs = keep_logs
        self._network = network
        self.lab = lab
        self.directory = directory
        suffix = f"-{name}" if name else ""
        self.store = f"sqlite:{directory / f'leases{suffix}.db'}"
        self._config = directory / f"net-conf{suffix}.json"
        self.daemons: list[Daemon] = []
        self._started: list[Daemon] = []
        self.underlay = underlay or lab.versions[0]
        self._engine = engine
        self._flags = ["--ip-masq", *flags]
        self._cleanup = ExitStack()

    def __enter__(self) -> Self:
        self.directory.mkdir(parents=True, exist_ok=True)
        self._config.write_text(json.dumps(self._network, indent=2))
        return self

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if isinstance(error, Exception):
            for report in self.deaths():
                error.add_note(report)
        self._cleanup.close()

    def deaths(self) -> list[str]:
        """Of each daemon that has ended without being told to: how, what it said last, and where its log lies."""
        return [self._death(daemon) for daemon in self._started if daemon.died]

    def _death(self, daemon: Daemon) -> str:
        log = daemon.log
        if self._keep_logs:
            self._keep_logs.mkdir(parents=True, exist_ok=True)
            log = Path(shutil.copyfile(log, self._keep_logs / f"{daemon.node.name}.log"))
        status = daemon.process.returncode
        how = f"was ended by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
        lines = log.read_text(errors="replace").splitlines()[-LAST_LINES:]
        said = "\n".join(f"  {line}" for line in lines) if lines else "  nothing"
        return f"udplane on {daemon.node.name} {how}. The last it said, all of it in {log}:\n{said}"

    def up(self, *, pods_per_node: int = 2) -> None:
        """Start a daemon on every node, start the pods, and wait until all nodes know each other."""
        self.daemons = [self.start(node) for node in self.lab.nodes]
        bin_dir = install_plugins(self.directory)
        for daemon in self.daemons:
            daemon.wait_until_ready()
            runtime = Runtime(
                daemon.node, bin_dir, conflist(daemon.subnet_file, self.directory / "cni" / daemon.node.name)
            )
            for _ in range(pods_per_node):
                pod = self.lab.start_pod(daemon.node, runtime.add)
                self._cleanup.callback(runtime.delete, pod)
        for daemon in self.daemons:
            daemon.wait_for_peers(len(self.daemons) - 1)

    def start(self, node: Node, *, engine: str | None = None, flags: Sequence[str] = ()) -> Daemon:
        """Start a daemon on `node`, for the first time or again; it is not ready yet.

        It gets an `engine` of its own if one is given, and `flags` on top of those of all.
        """
        directory = self.directory / node.name
        directory.mkdir(exist_ok=True)
        if not UDPLANE.exists():
            raise LabError(f"there is no {UDPLANE}; run ./dev demo once, which builds it")
        up = [str(UDPLANE), "up", "--store", self.store, "--net-config-path", str(self._config)]
        up += ["--iface", "eth0", "--tun", TUN, "--run-dir", str(directory / "run")]
        up += ["--public-ip", str(node.address(self.underlay))] if self._name_address else []
        up += ["--subnet-file", str(directory / "subnet.env"), "--engine", engine or self._engine]
        up += [*self._flags, *flags]
        write_script(directory / "up", up)
        with (directory / "log").open("ab") as log:
            daemon = Daemon(node, directory, node.netns.start(up, log=log))
        self._started.append(daemon)
        self._cleanup.callback(daemon.stop)
        return daemon

    def keep(self) -> None:
        """Leave the daemons running: the end of the block stops none."""
        self._cleanup = ExitStack()


def install_plugins(directory: Path) -> Path:
    """Install the CNI plugins below `directory`; gives the directory that they lie in."""
    bin_dir = directory / "cni" / "bin"
    # An interpreter that is kept warm would outlive the lab.
    command = [str(UDPLANE), "cni", "install", "--bin-dir", str(bin_dir), "--keep-warm", "0"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise LabError(f"the CNI plugins cannot be installed: {done.stderr}")
    return bin_dir


def write_script(file: Path, command: Sequence[str]) -> None:
    """Write a command line down as a program, for people who want to run it again."""
    file.write_text(f'#!/bin/sh\nexec {shlex.join(command)} "$@"\n')
    file.chmod(0o755)


def conflist(subnet_file: Path, data_dir: Path) -> dict[str, Any]:
    """The conflist that `udplane cni install` writes, with a node's own places for files."""
    flannel = {
        "type": "flannel",
        "subnetFile": str(subnet_file),
        "dataDir": str(data_dir / "flannel"),
        "ipam": {"type": "host-local", "dataDir": str(data_dir / "networks")},
        "delegate": {"hairpinMode": True, "isDefaultGateway": True},
    }
    portmap = {"type": "portmap", "capabilities": {"portMappings": True}}
    return {"cniVersion": "1.0.0", "name": "udplane", "plugins": [flannel, portmap]}


def last_line(log: Path) -> str:
    """The last thing that a program said."""
    lines = log.read_text(errors="replace").strip().splitlines()
    return lines[-1] if lines else "no message"


def wait_until(condition: Callable[[], bool], what: str, timeout: float = START_TIMEOUT) -> None:
    """Return once `condition` holds; raise LabError, which names `what` was waited for, after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            raise LabError(f"waited {timeout:.0f} s in vain for {what}")
        time.sleep(0.01)
