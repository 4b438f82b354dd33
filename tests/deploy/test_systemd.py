"""The units for systemd: systemd's own judgement of them, and what a node tells the systemd that started it."""

import contextlib
import os
import re
import shutil
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import pytest

from dataplane.lab.overlay import UDPLANE
from dataplane.lab.topology import Lab
from dataplane.options import NodeOptions
from dataplane.stores.base import StoreOptions
from tests.deploy.manifest import DEPLOY

UNITS = DEPLOY / "systemd"
PROGRAM = "/opt/udplane/bin/udplane"

FLANNELD_UNIT = """
[Unit]
Description=flannel's daemon, as packages for hosts without Kubernetes start it

[Service]
Type=notify
EnvironmentFile=-/etc/default/flanneld
ExecStart=/usr/bin/true $FLANNEL_OPTIONS
"""


def systemd_analyze(*arguments: str, units: Path) -> subprocess.CompletedProcess[str]:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("needs systemd-analyze: run `sudo apt-get install systemd`")
    return subprocess.run(
        ["systemd-analyze", *arguments],
        env={**os.environ, "SYSTEMD_UNIT_PATH": f"{units}:"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def program(units: Path) -> Path:
    """The program that the units start."""
    return units / "udplane"


@pytest.fixture
def units(tmp_path: Path) -> Path:
    """The units with this checkout's program, by a path without the checkout's blanks, beside a unit of flanneld."""
    shutil.copytree(UNITS, tmp_path / "units")
    program(tmp_path / "units").symlink_to(UDPLANE)
    for path in ("udplane.service", "flanneld.service.d/udplane.conf"):
        unit = tmp_path / "units" / path
        unit.write_text(unit.read_text().replace(PROGRAM, str(program(tmp_path / "units"))))
    (tmp_path / "units" / "flanneld.service").write_text(FLANNELD_UNIT)
    return tmp_path / "units"


@pytest.mark.parametrize("name", ["udplane.service", "flanneld.service"])
def test_systemd_finds_no_fault(units: Path, name: str) -> None:
    done = systemd_analyze("verify", str(units / name), units=units)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_drop_in_takes_effect(units: Path) -> None:
    """So that the test above judges the drop-in too."""
    drop_in = units / "flanneld.service.d" / "udplane.conf"
    drop_in.write_text(drop_in.read_text().replace(str(program(units)), "/nonexistent"))
    assert (
        "/nonexistent is not executable"
        in systemd_analyze("verify", str(units / "flanneld.service"), units=units).stderr
    )


def test_the_node_is_shut_in(units: Path) -> None:
    """systemd's exposure goes from 0 to 10; a service that says nothing has 9.6."""
    done = systemd_analyze("security", "--offline=true", str(units / "udplane.service"), units=units)
    (exposure,) = re.findall(r"Overall exposure level for udplane.service: ([0-9.]+)", done.stdout)
    assert float(exposure) < 2.5, done.stdout


def test_the_settings_name_variables_that_there_are() -> None:
    names = re.findall(r"^#?(UDPLANE_[A-Z_]+)=", (UNITS / "default").read_text(), re.MULTILINE)
    flags = {option.name for options in (NodeOptions, StoreOptions) for option in fields(options)}
    known = {f"UDPLANE_{name.upper()}" for name in flags} | {"UDPLANE_OPTIONS"}
    assert names
    assert set(names) <= known


class Supervisor:
    """The receiving end of systemd's notification socket."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._socket.settimeout(20)

    def hears(self) -> str:
        return self._socket.recv(100).decode()

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def supervisor(tmp_path: Path) -> Iterator[Supervisor]:
    with contextlib.closing(Supervisor(tmp_path / "notify")) as supervisor:
        yield supervisor


def test_a_node_says_that_it_is_ready_alive_and_stopping(
    supervisor: Supervisor, namespaces: None, tun_device: None, tmp_path: Path
) -> None:
    (tmp_path / "net-conf.json").write_text('{"Network": "10.5.0.0/16"}')
    files = {"store": f"sqlite:{tmp_path / 'leases.db'}", "net-config-path": tmp_path / "net-conf.json"}
    files |= {"run-dir": tmp_path / "run", "subnet-file": tmp_path / "subnet.env"}
    flags = [f"--{name}={value}" for name, value in files.items()]
    notified = [f"NOTIFY_SOCKET={supervisor.path}", "WATCHDOG_USEC=100000"]
    with Lab(prefix=f"sd{os.getpid()}-") as lab, (tmp_path / "log").open("wb") as log:
        command = ["env", *notified, str(UDPLANE), "up", "--engine=python", *flags]
        process = lab.add_node().netns.start(command, log=log)
        assert supervisor.hears() == "READY=1"
        assert [supervisor.hears() for _ in range(5)] == ["WATCHDOG=1"] * 5
        process.terminate()
        while (message := supervisor.hears()) == "WATCHDOG=1":
            pass
        assert message == "STOPPING=1"
        assert process.wait(10) == 0
