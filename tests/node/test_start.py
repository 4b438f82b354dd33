"""A start that has to wait, as health checks, service managers and log shippers see it.

one node on an underlay; its store has no network config at first
"""

import json
import signal
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from dataplane.lab.overlay import UDPLANE
from dataplane.lab.topology import Lab, Node
from tests.node.conftest import udplane
from tests.waiting import wait_until

HEALTH_PORT = 8081


@dataclass(slots=True)
class Started:
    """A node that waits for its network config."""

    node: Node
    directory: Path
    process: subprocess.Popen[bytes]
    supervisor: socket.socket

    @property
    def store(self) -> str:
        return f"sqlite:{self.directory}/store.db"

    def health(self) -> tuple[str, dict[str, Any]]:
        """Status and body of the health check, as a probe gets them."""
        url = f"http://127.0.0.1:{HEALTH_PORT}/healthz"
        done = self.node.netns.run(["curl", "-sS", "-w", "\n%{http_code}", url])
        body, _, status = done.stdout.rpartition("\n")
        return status, json.loads(body)

    def metrics(self) -> str:
        """What Prometheus gets from the same port."""
        return self.node.netns.run(["curl", "-sS", f"http://127.0.0.1:{HEALTH_PORT}/metrics"]).stdout

    def log(self) -> list[dict[str, str]]:
        return [json.loads(line) for line in (self.directory / "log").read_text().splitlines()]

    def phase(self) -> str:
        done = udplane(self.node.netns, "status", "--json", f"--run-dir={self.directory}/run")
        return str(json.loads(done.stdout)["phase"]) if done.returncode == 0 else done.stderr

    def set_config(self, text: str) -> None:
        (self.directory / "net-conf.json").write_text(text)
        done = udplane(self.node.netns, "config", "set", f"{self.directory}/net-conf.json", f"--store={self.store}")
        assert done.returncode == 0, done.stderr


@pytest.fixture
def started(lab: Lab, tun_device: None, tmp_path: Path) -> Iterator[Started]:
    node = lab.add_node()
    files = [f"--run-dir={tmp_path}/run", f"--subnet-file={tmp_path}/subnet.env", f"--store=sqlite:{tmp_path}/store.db"]
    flags = ["--engine=python", "--log-format=json", f"--healthz-port={HEALTH_PORT}", "-healthz-ip=127.0.0.1"]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as supervisor, (tmp_path / "log").open("wb") as log:
        supervisor.bind(str(tmp_path / "notify"))
        supervisor.settimeout(10)
        environment = ["env", f"NOTIFY_SOCKET={tmp_path}/notify"]
        process = node.netns.start([*environment, str(UDPLANE), "up", *files, *flags], log=log)
        try:
            started = Started(node, tmp_path, process, supervisor)
            wait_until(lambda: started.phase() == "waiting for the network config", "the node waits for its config")
            yield started
        finally:
            process.kill()
            process.wait()


def test_a_node_waits_for_its_config_and_then_goes_on(started: Started) -> None:
    assert started.health() == ("503", {"phase": "waiting for the network config", "troubles": []})
    assert "\nudplane_ready 0\n" in started.metrics()
    wait_until(started.log, "the log says what is missing")
    first = started.log()[0]
    assert first["level"] == "warn"
    assert "udplane config set FILE --store sqlite:" in first["message"]
    started.set_config('{"Network": "10.5.0.0/16"}')
    assert started.supervisor.recv(100) == b"READY=1"
    assert started.health() == ("200", {"phase": "ready", "troubles": []})
    assert "\nudplane_ready 1\n" in started.metrics()
    assert started.phase() == "ready"
    assert "ready: 10.5." in started.log()[-1]["message"]
    started.process.send_signal(signal.SIGINT)
    assert started.process.wait(10) == 0
    assert started.log()[-1]["message"].startswith("stopped")


def test_a_node_that_waits_can_be_stopped(started: Started) -> None:
    started.process.terminate()
    assert started.process.wait(10) == 0
    assert not (started.directory / "run" / "control.sock").exists()


def test_a_node_that_waits_can_leave(started: Started) -> None:
    done = udplane(started.node.netns, "leave", f"--run-dir={started.directory}/run")
    assert (done.returncode, done.stdout.splitlines()) == (
        0,
        ["stopped the node", f"the node of {started.directory}/run has no lease; nothing to give back"],
    )
    assert not (started.directory / "run").exists()


def test_a_config_that_this_node_cannot_follow_ends_the_wait(started: Started) -> None:
    started.set_config('{"Network": "10.5.0.0/16", "Backend": {"Type": "pigeon"}}')
    assert started.process.wait(10) == 1
    assert "backend 'pigeon'" in (started.directory / "log").read_text().splitlines()[-1]
