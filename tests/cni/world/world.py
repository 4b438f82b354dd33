"""A World: a private node on which CNI plugins run as a container runtime would run them.

                     test process
                          |  JSON lines (worker.py)
    +---------------------|------------------- network, mount and PID namespace -+
    |  worker      /opt/cni/bin = the plugins under test                         |
    |  node        cni0, veths, rules    /var/lib/cni, /run, /etc: private       |
    |  pods        /run/netns/p1, p2 ...                                         |
    +----------------------------------------------------------------------------+

Two worlds show the same paths to the plugins, so the same environment and standard input can be given to both.
Everything dies with the worker: nothing has to be deleted by name.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest

WORKER = Path(__file__).with_name("worker.py")
REPO = Path(__file__).parents[3]
GO_PLUGINS = REPO / "build/tools/forky/usr/lib/cni"  # the current release, which ./dev has unpacked
OLD_GO_PLUGINS = Path("/usr/lib/cni")  # Debian 12's 1.1.1
REMEDIES = {
    GO_PLUGINS: "./dev test unpacks them where Debian's next release can be had",
    OLD_GO_PLUGINS: "apt-get install containernetworking-plugins",
}
BIN_DIR = "/opt/cni/bin"
# A PID namespace as well: whatever a plugin or a container runtime leaves running ends with the worker.
UNSHARE = ["unshare", "--net", "--mount", "--propagation", "private", "--pid", "--fork", "--kill-child", "--mount-proc"]
NEEDED_COMMANDS = ("unshare", "ip", "tc", "nft", "iptables-save", "ip6tables-save")


@dataclass(frozen=True)
class Done:
    """How a program ended."""

    exit: int
    stdout: str
    stderr: str

    @property
    def json(self) -> Any:
        """Standard output as JSON."""
        return json.loads(self.stdout)


class World:
    """A node of its own with the plugins of `bin_dir` in /opt/cni/bin. Use it as a context manager."""

    def __init__(self, bin_dir: Path) -> None:
        command = [*UNSHARE, sys.executable, "-I", str(WORKER), str(bin_dir)]
        self._worker = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.ask("reset")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        assert self._worker.stdin and self._worker.stdout
        self._worker.stdin.close()
        self._worker.wait(timeout=30)
        self._worker.stdout.close()

    @property
    def pid(self) -> int:
        """The process ID, as seen from outside, of the worker, whose namespaces are the world's."""
        return int(Path(f"/proc/{self._worker.pid}/task/{self._worker.pid}/children").read_text())

    def send(self, op: str, **arguments: Any) -> None:
        """Hand the worker a request without waiting, so that two worlds can work side by side."""
        assert self._worker.stdin
        self._worker.stdin.write(json.dumps({"op": op, **arguments}) + "\n")
        self._worker.stdin.flush()

    def receive(self) -> Any:
        """The answer to the oldest request not yet answered."""
        assert self._worker.stdout
        reply = json.loads(self._worker.stdout.readline() or '{"error": "the worker died"}')
        if "error" in reply:
            raise AssertionError(reply["error"])
        return reply["value"]

    def ask(self, op: str, **arguments: Any) -> Any:
        """Send a request and wait for its answer."""
        self.send(op, **arguments)
        return self.receive()

    def reset(self, *pods: str) -> None:
        """Start over as a freshly booted node with these empty pods."""
        self.ask("reset")
        for pod in pods:
            self.ask("pod", name=pod)

    def run(self, *argv: str, pod: str | None = None, env: dict[str, str] | None = None, stdin: str = "") -> Done:
        """Run a program on the node, or in a pod, to its end."""
        return Done(**self.ask("run", argv=argv, pod=pod, env=env or {}, stdin=stdin, timeout=60))

    def start(self, *argv: str, log: str, env: dict[str, str] | None = None) -> int:
        """Start a program on the node, its output going to the file `log`; its process ID, for `stop`."""
        pid: int = self.ask("start", argv=argv, env=env or {}, log=log)
        return pid

    def stop(self, pid: int) -> int:
        """End a program that `start` started; its exit status."""
        status: int = self.ask("stop", pid=pid)
        return status

    def sh(self, command: str, pod: str | None = None) -> str:
        """Run a shell command that must succeed; its output."""
        done = self.run("sh", "-c", command, pod=pod)
        assert done.exit == 0, f"{command}: exit {done.exit}: {done.stderr}"
        return done.stdout

    def settle(self) -> None:
        """Wait for the end of what killed programs left running."""
        self.ask("settle")

    def write(self, path: str, text: str) -> None:
        """Write a file on the node, making its directory."""
        done = self.run("sh", "-ec", 'mkdir -p "$(dirname "$0")"; cat > "$0"', path, stdin=text)
        assert done.exit == 0, done.stderr

    def write_subnet_env(self, subnet: str = "10.78.5.1/24") -> None:
        """What a node's data plane leaves for the flannel plugin."""
        lines = f"FLANNEL_NETWORK=10.78.0.0/16\nFLANNEL_SUBNET={subnet}\nFLANNEL_MTU=1472\nFLANNEL_IPMASQ=false\n"
        self.write("/run/flannel/subnet.env", lines)

    def plugin(
        self, kind: str, verb: str, conf: Any, env: dict[str, str] | None = None, directory: str = BIN_DIR
    ) -> Done:
        """Run one plugin as a runtime does: `conf` is the netconf, or a string to send as it is."""
        stdin = conf if isinstance(conf, str) else json.dumps(conf)
        return self.run(f"{directory}/{kind}", env=cni_env(verb, **(env or {})), stdin=stdin)

    def snapshot(self, *pods: str, with_sysctls: bool = True) -> dict[str, Any]:
        """All that a plugin could have changed, as worker.snapshot tells it."""
        state: dict[str, Any] = self.ask("snapshot", pods=pods, with_sysctls=with_sysctls)
        return state


def cni_env(verb: str, pod: str = "p1", **overrides: str | None) -> dict[str, str]:
    """The CNI_* variables of one call for interface eth0 of `pod`; an override of None leaves the variable out."""
    env: dict[str, str | None] = {
        "CNI_COMMAND": verb,
        "CNI_CONTAINERID": f"container-{pod}",
        "CNI_NETNS": f"/run/netns/{pod}",
        "CNI_IFNAME": "eth0",
        "CNI_PATH": BIN_DIR,
    }
    env |= overrides
    return {key: value for key, value in env.items() if value is not None}


def install_plugins(bin_dir: Path, *options: str) -> Path:
    """Install udplane's plugins into `bin_dir`, and return it. Without options no interpreter is kept warm."""
    options = options or ("--keep-warm", "0")
    command = [sys.executable, "-I", "-m", "cni.install", "--bin-dir", str(bin_dir), *options]
    subprocess.run(command, cwd=REPO, check=True, capture_output=True)
    return bin_dir


def require_world(go_plugins: Path | None = None) -> None:
    """Skip the calling test, with the remedy, where a World cannot be made or the official plugins are not there."""
    if os.geteuid() != 0 or not os.access("/etc", os.W_OK):  # root of a user namespace does not own the machine's files
        pytest.skip("needs root to make network and mount namespaces: run as root, or in a container with --privileged")
    missing = [command for command in NEEDED_COMMANDS if shutil.which(command) is None]
    if missing:
        pytest.skip(f"needs {', '.join(missing)}: apt-get install iproute2 nftables iptables util-linux")
    if go_plugins and not (go_plugins / "bridge").exists():
        pytest.skip(f"needs the official plugins in {go_plugins}: {REMEDIES[go_plugins]}")
