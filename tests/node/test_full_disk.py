"""The file system with a node's run directory and subnet file is full: a node whose traffic flows does not end."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from dataplane.lab.overlay import Daemon, Overlay
from dataplane.lab.topology import Lab
from tests.node.test_looking_after import health
from tests.waiting import wait_until


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 KiB."""
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "udplane-test", tmp_path],
        capture_output=True,
        text=True,
        check=False,
    )
    if mounted.returncode:
        pytest.skip(f"needs to mount a file system of its own: run as root ({mounted.stderr.strip()})")
    yield tmp_path
    subprocess.run(["umount", "--lazy", tmp_path], check=True)


@pytest.fixture
def overlay(
    namespaces: None, tun_device: None, disk: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Overlay]:
    directory = tmp_path_factory.mktemp("overlay")
    flags = ["--iptables-resync=1", "--lease-seconds=10", "--engine=python"]
    with Lab() as lab, Overlay(lab, directory, flags=flags) as overlay:
        (disk / "run").mkdir()
        (directory / "node1").mkdir()
        (directory / "node1" / "run").symlink_to(disk / "run")
        (directory / "node1" / "subnet.env").symlink_to(disk / "subnet.env")
        yield overlay


def fill(disk: Path) -> Path:
    """Take what is left of the file system; returns the file that has it."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file, pytest.raises(OSError, match="No space left"):
        while True:
            file.write(bytes(512))
    return filler


def expiry(node: Daemon) -> str:
    return str(node.status()["lease"]["expires"])


def test_a_full_disk_ends_nothing(overlay: Overlay, disk: Path) -> None:
    node = overlay.start(overlay.lab.add_node())
    node.wait_until_ready()
    filler, before = fill(disk), expiry(node)
    note = disk / "run" / "node.json"
    wait_until(lambda: expiry(node) != before, "the lease is renewed", seconds=20)
    wait_until(lambda: "cannot write" in node.log.read_text(), "the node says what it cannot write")
    assert health(node)[0] == 200
    words = "node.json: No space left on device"
    wait_until(lambda: words in " ".join(node.status()["host"]["lesser_troubles"]), "status says it, too")
    subnets = node.lease()[0]

    node.process.kill()
    node.process.wait()
    node = overlay.start(node.node)
    node.wait_until_ready()
    assert node.lease()[0] == subnets

    filler.unlink()
    wait_until(lambda: not node.status()["host"]["lesser_troubles"], "the note is written")
    assert json.loads(note.read_text())["lease"]["key"]
    assert "Traceback" not in node.log.read_text()
