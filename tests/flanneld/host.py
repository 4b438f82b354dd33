"""A node of a Kubernetes cluster, on which a test starts `udplane flanneld`.

node1  API server stand-in on 127.0.0.1       eth0 192.168.0.201, MTU 1452 --- underlay
       node object "alpha", podCIDR 10.244.0.0/24
"""

import json
import os
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from dataplane.lab.netns import Namespace
from dataplane.lab.overlay import UDPLANE
from dataplane.lab.topology import Lab
from tests.stores.kube_server import KubeServer, kube_server
from tests.waiting import wait_until

HEALTH_PORT = 8286


@dataclass(slots=True)
class Flanneld:
    """The daemon while it runs."""

    process: subprocess.Popen[bytes]
    log: Path

    def says(self, words: str) -> None:
        """Wait until its log has these words."""
        wait_until(lambda: words in self.log.read_text(), f"the log says {words!r}")

    def stop(self) -> int:
        """End it as a supervisor would; returns the exit status."""
        self.process.terminate()
        return self.process.wait(10)


@dataclass(slots=True)
class Host:
    """The node of the drawing, and the files of one test in `directory`."""

    netns: Namespace
    server: KubeServer
    directory: Path
    stack: ExitStack
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def subnet_file(self) -> Path:
        return self.directory / "subnet.env"

    @property
    def net_config(self) -> Path:
        return self.directory / "net-conf.json"

    def configure(self, **more: object) -> None:
        """Put the network config where the daemon looks for it."""
        aside = self.net_config.with_suffix(".new")
        aside.write_text(json.dumps({"Network": "10.244.0.0/16", "Backend": {"Type": "udp"}} | more))
        aside.replace(self.net_config)

    def start(self, *arguments: str) -> Flanneld:
        """Start the daemon on the node, with leases from the API server."""
        return self.start_with("-kube-subnet-mgr", f"-net-config-path={self.net_config}", *self.api_flags(), *arguments)

    def start_with(self, *arguments: str) -> Flanneld:
        """Start the daemon on the node, with the places of its files and its health checks, and these flags."""
        places = ["--subnet-file", str(self.subnet_file), "--healthz-ip=127.0.0.1", f"-healthz-port={HEALTH_PORT}"]
        variables = {"UDPLANE_RUN_DIR": str(self.directory / "run"), **self.environment}
        return self.run([str(UDPLANE), "flanneld", *places, *arguments], variables)

    def run(self, command: Sequence[str], variables: Mapping[str, str]) -> Flanneld:
        """Start a daemon by any command line, with the python engine, which is the lightest."""
        settings = {"UDPLANE_ENGINE": "python", "NODE_NAME": "alpha", **variables}
        log = self.directory / "log"
        with log.open("ab") as output:
            argv = ["env", *(f"{name}={text}" for name, text in settings.items()), *command]
            daemon = Flanneld(self.netns.start(argv, log=output), log)
        self.stack.callback(daemon.stop)
        return daemon

    def api_flags(self) -> list[str]:
        """How the daemon finds the API server of the drawing."""
        return ["--kubeconfig-file", str(self._kubeconfig()), "--kube-api-url", self.server.url]

    def wait_until_ready(self, daemon: Flanneld) -> None:
        """Return when /readyz says so."""
        wait_until(lambda: self.health("readyz") == (200, "flanneld is ready") or daemon.process.poll(), "ready")
        assert daemon.process.poll() is None, daemon.log.read_text()

    def health(self, check: str) -> tuple[int, str]:
        """Status and text of a health check, (0, "") when nobody answers."""
        url = f"http://127.0.0.1:{HEALTH_PORT}/{check}"
        done = self.netns.run(["curl", "-s", "-w", "\n%{http_code}", url], check=False)
        text, _, status = done.stdout.rpartition("\n")
        return int(status), text

    def shown(self, command: str) -> list[str]:
        """What a tool prints on the node, line by line, without indentation."""
        return [line.strip() for line in self.netns.run(command.split()).stdout.splitlines() if line.strip()]

    def _kubeconfig(self) -> Path:
        """Who the node is, and a server that nobody answers at: --kube-api-url says where it really is."""
        path = self.directory / "kubeconfig"
        context = {"name": "c", "context": {"cluster": "c", "user": "u"}}
        cluster = {"name": "c", "cluster": {"server": "http://127.0.0.1:1"}}
        user = {"name": "u", "user": {"token": "first"}}
        config = {"current-context": "c", "contexts": [context], "clusters": [cluster], "users": [user]}
        path.write_text(json.dumps(config))
        return path


@contextmanager
def kubernetes_host(directory: Path) -> Iterator[Host]:
    """The node of the drawing, until the end of the block."""
    with ExitStack() as stack:
        lab = stack.enter_context(Lab(prefix=f"udp{os.getpid()}-fl-", versions=(4,)))
        netns = lab.add_node().netns
        netns.ip("link set eth0 mtu 1452")
        with netns.entered():
            server = stack.enter_context(kube_server())
        server.put_node("alpha", ["10.244.0.0/24"])
        yield Host(netns, server, directory, stack)
        assert server.violations == []
