"""A daemon that is killed, and a store that is gone, do not cut the pods' connections.

pod1 --- node1  udplane up --- underlay --- udplane up  node2 --- pod2
              \\______ leases.db, one file for both ______/
"""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from dataplane.lab.overlay import Daemon, Overlay
from dataplane.lab.ping import ping
from dataplane.lab.topology import Lab
from dataplane.lab.transfer import transfer
from tests.waiting import wait_until

TRANSFER_SECONDS = 5.0


@pytest.fixture(scope="module")
def overlay(engine: str, tun_device: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Overlay]:
    with Lab() as lab:
        for _ in range(2):
            lab.add_node()
        with Overlay(lab, tmp_path_factory.mktemp("restart"), engine=engine) as running:
            running.up(pods_per_node=1)
            yield running


def sent_bytes(daemon: Daemon) -> int:
    return int(daemon.status()["counters"]["encap"]["bytes"])


def test_a_tcp_transfer_lives_through_kill_and_start(overlay: Overlay, capsys: pytest.CaptureFixture[str]) -> None:
    """All bytes arrive. The stall is as long as the daemon is away, and what TCP waits before it tries again."""
    pod1, pod2 = (node.pods[0] for node in overlay.lab.nodes)
    daemon = overlay.daemons[0]
    before = sent_bytes(daemon)
    with ThreadPoolExecutor(max_workers=1) as pool:
        moving = pool.submit(transfer, pod1.netns, pod2.netns, pod2.address(4), seconds=TRANSFER_SECONDS, timeout=30)
        wait_until(lambda: sent_bytes(daemon) - before > 1_000_000, "the transfer is under way")
        daemon.process.kill()
        killed = time.monotonic()
        daemon.process.wait()
        overlay.daemons[0] = overlay.start(daemon.node)
        overlay.daemons[0].wait_until_ready()
        away = time.monotonic() - killed
        result = moving.result()
    assert sent_bytes(overlay.daemons[0]) > 100_000, "the transfer ended before the new daemon took part in it"
    waited = max(0.0, result.longest_stall - away)
    with capsys.disabled():
        print(
            f"\n{result.n_bytes / 1e6:.0f} MB arrived; longest stall {result.longest_stall:.2f} s: "
            f"the daemon was away for {away:.2f} s, then TCP waited {waited:.2f} s for its next retransmission"
        )


def test_another_engine_takes_over_the_device(overlay: Overlay) -> None:
    """What one engine asked of the TUN (offloads, say) does not hinder the next."""
    pod1, pod2 = (node.pods[0] for node in overlay.lab.nodes)
    mine = overlay.daemons[0]
    mine.stop()
    other = Overlay(overlay.lab, overlay.directory, engine="python")
    with other:
        daemon = other.start(mine.node)
        daemon.wait_until_ready()
        assert daemon.status()["backend"]["engine"] == "python"
        for sender, receiver in ((pod1, pod2), (pod2, pod1)):
            assert transfer(sender.netns, receiver.netns, receiver.address(4), seconds=0.3).n_bytes > 0
    overlay.daemons[0] = overlay.start(mine.node)
    overlay.daemons[0].wait_until_ready()
    assert transfer(pod1.netns, pod2.netns, pod2.address(6), seconds=0.3).n_bytes > 0


def test_traffic_goes_on_without_the_store(overlay: Overlay) -> None:
    """The store's file is moved out of reach and back. The nodes say so, and forward as before."""
    pod1, pod2 = (node.pods[0] for node in overlay.lab.nodes)
    database = overlay.directory / "leases.db"
    aside = database.with_name("aside")
    aside.mkdir()
    files = sorted(overlay.directory.glob("leases.db*"))
    move(files, aside)
    database.mkdir()  # not a file: no new store can be made in its place
    try:
        wait_until(lambda: all(store_troubles(overlay)), "both nodes say that the store is out of reach")
        for address in pod2.addresses:
            replies = ping(pod1.netns, address.ip, count=20)
            assert all(reply is not None and reply.echoed for reply in replies)
    finally:
        database.rmdir()
        move(sorted(aside.iterdir()), overlay.directory)
    wait_until(lambda: not any(store_troubles(overlay)), "both nodes say that the store is back")


def store_troubles(overlay: Overlay) -> list[str]:
    """What each node says is wrong with its store."""
    return [daemon.status()["store"]["trouble"] for daemon in overlay.daemons]


def move(files: list[Path], directory: Path) -> None:
    for file in files:
        file.rename(directory / file.name)
