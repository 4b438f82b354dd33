"""Departure: what a node takes away from its host and gives back to its store.

Each test begins with a node that runs and ends without it, on an overlay like that of `test_node`.
"""

import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from dataplane.lab.overlay import TUN, UDPLANE, Daemon, Overlay
from dataplane.lab.topology import Lab
from tests.node.conftest import complaint, udplane
from tests.node.test_node import NETWORK, ip_json, ruleset
from tests.waiting import wait_until


@pytest.fixture(scope="module")
def overlay(namespaces: None, tun_device: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Overlay]:
    with Lab() as lab, Overlay(lab, tmp_path_factory.mktemp("overlay"), engine="python") as overlay:
        for _ in range(2):
            lab.add_node()
        overlay.up(pods_per_node=1)
        overlay.daemons[0].stop()
        yield overlay


def restart(overlay: Overlay, number: int) -> Daemon:
    daemon = overlay.start(overlay.lab.nodes[number])
    overlay.daemons[number] = daemon
    daemon.wait_until_ready()
    return daemon


def test_leaving_takes_everything_away(overlay: Overlay) -> None:
    node = restart(overlay, 0)
    wait_until(lambda: overlay.daemons[1].status()["peers"], "the peer knows the node")
    done = udplane(node.node.netns, *node.command("leave")[1:])
    assert done.returncode == 0
    for words in ("stopped the node", "removed the firewall rules", f"removed {TUN}", "gave back the lease of 10.254."):
        assert words in done.stdout
    assert node.process.wait(5) == 0
    assert "flannel" not in ruleset(node)
    assert not any(link["ifname"] == TUN for link in ip_json(node, "link"))
    assert not ip_json(node, "route", "show", NETWORK)
    assert not node.subnet_file.exists()
    assert not (node.directory / "run").exists()
    wait_until(lambda: not overlay.daemons[1].status()["peers"], "the peer forgets the node")
    again = udplane(node.node.netns, *node.command("leave")[1:])
    assert (again.returncode, "nothing to do" in again.stdout) == (0, True)


def test_leaving_works_when_no_node_runs(overlay: Overlay) -> None:
    node = restart(overlay, 0)
    node.process.send_signal(signal.SIGKILL)
    node.process.wait()
    elsewhere = subprocess.run([str(UDPLANE), *node.command("leave")[1:]], capture_output=True, text=True, check=False)
    assert "ran in another network namespace" in complaint(elsewhere)
    assert udplane(node.node.netns, *node.command("leave")[1:]).returncode == 0
    assert "flannel" not in ruleset(node)
    assert not node.subnet_file.exists()
    assert not (node.directory / "run").exists()


def test_leaving_without_the_store_cleans_the_host_and_can_be_repeated(overlay: Overlay) -> None:
    node = restart(overlay, 0)
    node.stop()
    store = Path(overlay.store.removeprefix("sqlite:"))
    hidden = store.with_suffix(".hidden")
    store.rename(hidden)
    store.mkdir()
    try:
        assert "the host is clean, but the lease of" in complaint(udplane(node.node.netns, *node.command("leave")[1:]))
        assert not any(link["ifname"] == TUN for link in ip_json(node, "link"))
    finally:
        store.rmdir()
        hidden.rename(store)
    assert "gave back the lease" in udplane(node.node.netns, *node.command("leave")[1:]).stdout
