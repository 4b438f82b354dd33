"""A small network with a DHCP server for the tests of the dhcp plugin.

    host namespace                                  one namespace a pod
    +------------------------------------------+    +-----------------+
    |  dnsmasq --- br0 10.9.0.1/24             |    |                 |
    |               +--- p0 (veth) ------------|----|--- eth0         |
    |               +--- p1 (veth) ------------|----|--- eth0         |
    |  dhcp daemon                             |    |                 |
    +------------------------------------------+    +-----------------+

Names hold the process id, so that several test runs on one machine do not meet. Everything a test starts here is
ended by `Lan.close`.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.cni.world.world import GO_PLUGINS

OFFICIAL_PLUGIN = str(GO_PLUGINS / "dhcp")
OUR_PLUGIN = [sys.executable, "-I", "-m", "cni.dhcp"]
SERVER = "10.9.0.1"
_REPOSITORY = Path(__file__).parents[2]


def wait_until(condition: Callable[[], bool], what: str, seconds: float = 10.0) -> None:
    """Wait for a condition; fail with what was waited for."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited {seconds} s in vain for {what}"
        time.sleep(0.01)


class Lan:
    """The host namespace with its bridge, and the pods plugged into it."""

    def __init__(self, directory: Path, n_pods: int) -> None:
        self.directory = directory
        self.host = f"dhcp{os.getpid()}h"
        self.pods = [f"dhcp{os.getpid()}p{i}" for i in range(n_pods)]
        self.socket_path = str(directory / "dhcp.sock")
        self.leases_file = directory / "leases"
        self._processes: list[subprocess.Popen[bytes]] = []
        lines = ["link add br0 type bridge", f"addr add {SERVER}/24 dev br0", "link set br0 up", "link set lo up"]
        for i, pod in enumerate(self.pods):
            lines += [f"link add p{i} type veth peer name eth0 netns {pod}", f"link set p{i} up master br0"]
        _ip("netns add " + self.host, *(f"netns add {pod}" for pod in self.pods))
        _ip(*lines, netns=self.host)

    def close(self) -> None:
        """End the processes and remove the namespaces."""
        for process in list(self._processes):
            self.end(process)
        _ip(*(f"netns del {name}" for name in (self.host, *self.pods)))

    def start(self, argv: list[str], log: str, netns: str = "") -> subprocess.Popen[bytes]:
        """Start a program on the host, or in another namespace; its output goes to a file of that name."""
        with (self.directory / log).open("ab") as output:
            process = subprocess.Popen(self._inside(argv, netns), stdout=output, stderr=output, cwd=_REPOSITORY)
        self._processes.append(process)
        return process

    def _inside(self, argv: list[str], netns: str = "") -> list[str]:
        return ["nsenter", f"--net=/run/netns/{netns or self.host}", *argv]

    def ip(self, *lines: str, netns: str = "") -> None:
        """Run lines of ip(8) on the host or in another namespace."""
        _ip(*lines, netns=netns or self.host)

    def end(self, process: subprocess.Popen[bytes], number: int = signal.SIGTERM) -> None:
        """Send a signal and wait for the end."""
        process.send_signal(number)
        process.wait(10)
        if process in self._processes:
            self._processes.remove(process)

    def move_server_to_pod(self, pod: int) -> str:
        """Make a pod's namespace the server's: from here on the host has no address on the pods' segment."""
        self.ip(f"addr del {SERVER}/24 dev br0")
        self.ip(f"addr add {SERVER}/24 dev eth0", "link set eth0 up", netns=self.pods[pod])
        return self.pods[pod]

    def start_server(self, *options: str, netns: str = "") -> subprocess.Popen[bytes]:
        """Start dnsmasq; it is ready when it has opened its port."""
        interface = "eth0" if netns else "br0"
        argv = ["dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--port=0", "--no-ping"]
        argv += [f"--interface={interface}"]
        argv += ["--log-facility=-", f"--dhcp-leasefile={self.leases_file}", "--pid-file=", "--user=root", *options]
        ready = self.log("dnsmasq").count("DHCP, IP range")
        process = self.start(argv, "dnsmasq", netns)
        wait_until(lambda: self.log("dnsmasq").count("DHCP, IP range") > ready, "dnsmasq")
        return process

    def start_daemon(self, *flags: str, official: bool = False) -> subprocess.Popen[bytes]:
        """Start a DHCP daemon on `socket_path`; it is ready when it listens."""
        process = self.start(self._daemon_command(official) + list(flags), "daemon")
        wait_until(self._is_listening, "the daemon")
        return process

    def run_daemon(self) -> subprocess.CompletedProcess[str]:
        """Run a daemon that is expected to end by itself."""
        argv = self._inside(self._daemon_command(official=False))
        return subprocess.run(argv, cwd=_REPOSITORY, capture_output=True, text=True, timeout=10)

    def _daemon_command(self, official: bool) -> list[str]:
        return [*([OFFICIAL_PLUGIN] if official else OUR_PLUGIN), "daemon", "-socketpath", self.socket_path]

    def _is_listening(self) -> bool:
        with socket.socket(socket.AF_UNIX) as probe:
            return probe.connect_ex(self.socket_path) == 0

    def log(self, name: str) -> str:
        """What a program has written so far."""
        path = self.directory / name
        return path.read_text() if path.exists() else ""

    def call(
        self, verb: str, pod: int, *, official: bool = False, conf: dict[str, Any] | None = None, args: str = ""
    ) -> subprocess.CompletedProcess[str]:
        """Run the plugin for a pod."""
        return subprocess.run(
            [OFFICIAL_PLUGIN] if official else OUR_PLUGIN, input=json.dumps(self.conf(**(conf or {}))),
            env=self.environment(verb, pod, args), cwd=_REPOSITORY, capture_output=True, text=True, timeout=60,
        )  # fmt: skip

    def start_call(self, verb: str, pod: int) -> subprocess.Popen[bytes]:
        """Start the plugin for a pod and do not wait."""
        conf_file = self.directory / "conf"
        conf_file.write_text(json.dumps(self.conf()))
        with conf_file.open() as stdin:
            process = subprocess.Popen(
                OUR_PLUGIN, stdin=stdin, stdout=subprocess.DEVNULL, env=self.environment(verb, pod), cwd=_REPOSITORY
            )
        self._processes.append(process)
        return process

    def environment(self, verb: str, pod: int, args: str = "") -> dict[str, str]:
        """The variables of one call."""
        netns = f"/run/netns/{self.pods[pod]}"
        names = {"CNI_COMMAND": verb, "CNI_CONTAINERID": f"c{pod}", "CNI_NETNS": netns, "CNI_IFNAME": "eth0"}
        return {**os.environ, **names, "CNI_PATH": str(GO_PLUGINS), "CNI_ARGS": args}

    def conf(self, **ipam: Any) -> dict[str, Any]:
        """A network configuration that uses the daemon of this network."""
        top_level = ("cniVersion", "prevResult", "cni.dev/valid-attachments")
        verbatim: dict[str, Any] = {key: ipam.pop(key) for key in top_level if key in ipam}
        ipam = {"type": "dhcp", "daemonSocketPath": self.socket_path, **ipam}
        return {"cniVersion": "1.0.0", "name": "lan", "type": "bridge", "ipam": ipam, **verbatim}

    def add(self, pod: int, **settings: Any) -> dict[str, Any]:
        """ADD, and put the address on the interface as the calling plugin would; gives the result."""
        done = self.call("ADD", pod, **settings)
        assert done.returncode == 0, done.stdout + self.log("daemon")
        result: dict[str, Any] = json.loads(done.stdout)
        _ip(f"addr add {result['ips'][0]['address']} dev eth0", netns=self.pods[pod])
        return result

    def addresses(self, pod: int) -> list[str]:
        """The IPv4 addresses with prefix length on a pod's interface."""
        shown = subprocess.run(
            ["ip", "-n", self.pods[pod], "-j", "-4", "addr", "show", "dev", "eth0"],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        infos = [info for link in json.loads(shown.stdout) if link for info in link["addr_info"]]
        return [f"{info['local']}/{info['prefixlen']}" for info in infos]

    def server_leases(self) -> dict[str, str]:
        """What the server has written down: client identifier -> address."""
        lines = self.leases_file.read_text().splitlines() if self.leases_file.exists() else []
        fields = [line.split() for line in lines]
        return {bytes.fromhex(entry[4].replace(":", "")[2:]).decode(): entry[2] for entry in fields if len(entry) == 5}

    def server_count(self, text: str) -> int:
        """How often the server's log has this text."""
        return self.log("dnsmasq").count(text)


def _ip(*lines: str, netns: str = "") -> None:
    subprocess.run(
        ["ip", *(["-n", netns] if netns else []), "-batch", "-"],
        input="\n".join(lines),
        text=True,
        check=True,
        capture_output=True,
    )
