"""`udplane capture`, read back by tshark.

pod1 -- cni0 node1 --- underlay --- node2 cni0 -- pod2      captured on node1: udplane0 and eth0
"""

import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from dataplane.lab.overlay import UDPLANE, Daemon, Overlay
from dataplane.lab.ping import ping
from dataplane.lab.topology import Lab
from dataplane.lab.transfer import transfer
from tests.node.conftest import complaint, udplane
from tests.waiting import wait_until

COLUMNS = ("frame.interface_name", "frame.packet_flags_direction", "ip.src", "ip.ttl", "ipv6.src", "ipv6.hlim")
INBOUND, OUTBOUND = "0x00000001", "0x00000002"

pytestmark = pytest.mark.skipif(shutil.which("tshark") is None, reason="needs tshark: apt-get install tshark")


@pytest.fixture(scope="module", params=["python", "native"])
def overlay(
    request: pytest.FixtureRequest, namespaces: None, tun_device: None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Overlay]:
    with Lab() as lab, Overlay(lab, tmp_path_factory.mktemp("overlay"), engine=request.param) as overlay:
        for _ in range(2):
            lab.add_node()
        overlay.up(pods_per_node=1)
        for version in (4, 6):
            wait_until(lambda: pinged(overlay, version), "pods reach each other")  # noqa: B023
        yield overlay


@pytest.fixture
def node1(overlay: Overlay) -> Daemon:
    return overlay.daemons[0]


def pinged(overlay: Overlay, version: int = 4) -> bool:
    source, target = (daemon.node.pods[0] for daemon in overlay.daemons)
    return bool(ping(source.netns, target.address(version), timeout=1))


@contextmanager
def capturing(node: Daemon, output: Path, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A capture that listens when the block begins, and has ended with status 0 when it is left: by itself if it has a
    `--count`, else told to.
    """
    command = [str(UDPLANE), *node.command("capture")[1:], "-w", str(output), *arguments]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        assert process.stderr.readline().startswith("capturing udplane0 (inner) and UDP port 8285 of eth0 (outer)")
        try:
            yield process
        finally:
            if "--count" not in arguments:
                process.send_signal(signal.SIGINT)
            rest = process.communicate(timeout=20)[1]
        assert process.returncode == 0, rest


def read(file: Path, *display_filter: str) -> list[list[str]]:
    """The packets as tshark sees them, UDP port 8285 decoded as IP; the columns are COLUMNS."""
    command = ["tshark", "-n", "-r", str(file), "-d", "udp.port==8285,ip", "-T", "fields", "-E", "occurrence=a"]
    command += [word for column in COLUMNS for word in ("-e", column)]
    done = subprocess.run([*command, *display_filter], capture_output=True, text=True, check=True, timeout=60)
    return [line.split("\t") for line in done.stdout.splitlines()]


def test_a_ping_is_seen_on_both_sides_with_what_the_node_changed(
    overlay: Overlay, node1: Daemon, tmp_path: Path
) -> None:
    with capturing(node1, tmp_path / "x.pcapng", "--filter", "icmp", "--count", "4"):
        assert pinged(overlay)
    here, there = (str(node.address(4)) for node in overlay.lab.nodes)
    pod, peer = (str(daemon.node.pods[0].address(4)) for daemon in overlay.daemons)
    rows = sorted(row[:4] for row in read(tmp_path / "x.pcapng"))
    assert rows == sorted(
        [
            ["udplane0", OUTBOUND, pod, "63"],
            ["eth0", OUTBOUND, f"{here},{pod}", "64,62"],
            ["eth0", INBOUND, f"{there},{peer}", "64,62"],
            ["udplane0", INBOUND, peer, "61"],
        ]
    )


def test_ipv6_is_captured_too(overlay: Overlay, node1: Daemon, tmp_path: Path) -> None:
    pod = str(overlay.daemons[0].node.pods[0].address(6))
    with capturing(node1, tmp_path / "x.pcapng", "--filter", f"icmp and host {pod}", "--count", "4"):
        assert pinged(overlay, 6)
    rows = read(tmp_path / "x.pcapng")
    assert [row[5] for row in rows if row[0] == "udplane0"] == ["63", "61"]


def test_only_the_nodes_own_port_is_captured_outside(overlay: Overlay, node1: Daemon, tmp_path: Path) -> None:
    """Other traffic of the underlay passes meanwhile, among it UDP of other ports, in both families."""
    with capturing(node1, tmp_path / "x.pcapng"):
        peer = overlay.lab.nodes[1]
        for family, version in ((socket.AF_INET, 4), (socket.AF_INET6, 6)):
            with node1.node.netns.socket(family, socket.SOCK_DGRAM) as sender:
                for port in (8284, 8286, 53):
                    sender.sendto(b"other", (str(peer.address(version)), port))
        assert ping(node1.node.netns, peer.address(4))
        assert pinged(overlay)
    assert {row[0] for row in read(tmp_path / "x.pcapng")} == {"udplane0", "eth0"}
    assert not read(tmp_path / "x.pcapng", "frame.interface_name == eth0 and not udp.port == 8285")


def test_outer_packets_are_those_of_the_wire(overlay: Overlay, node1: Daemon, tmp_path: Path) -> None:
    """However many datagrams cross the device at once: each is shown with one whole inner packet."""
    source, target = (daemon.node.pods[0] for daemon in overlay.daemons)
    with capturing(node1, tmp_path / "x.pcapng", "--filter", "tcp", "--count", "400"):
        transfer(source.netns, target.netns, target.address(4), seconds=0.3)
    outside = "frame.interface_name == eth0"
    assert read(tmp_path / "x.pcapng", outside)
    assert not read(tmp_path / "x.pcapng", f"{outside} and frame.len > 1514")
    assert not read(tmp_path / "x.pcapng", f"{outside} and not tcp")
    assert not read(tmp_path / "x.pcapng", "_ws.malformed")


def test_packets_are_in_order_of_time(overlay: Overlay, node1: Daemon, tmp_path: Path) -> None:
    """Both sides of the tunnel are busy, and each is read many packets at a time."""
    source, target = (daemon.node.pods[0] for daemon in overlay.daemons)
    with capturing(node1, tmp_path / "x.pcapng"):
        transfer(source.netns, target.netns, target.address(4), seconds=0.3)
    assert {row[0] for row in read(tmp_path / "x.pcapng")} == {"udplane0", "eth0"}
    assert not read(tmp_path / "x.pcapng", "frame.time_delta < 0")


def test_a_capture_goes_through_a_pipe_as_it_happens(overlay: Overlay, node1: Daemon) -> None:
    command = [str(UDPLANE), *node1.command("capture")[1:], "-w", "-", "--filter", "icmp"]
    with (
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as capture,
        subprocess.Popen(
            ["tshark", "-l", "-n", "-c", "1", "-r", "-"], stdin=capture.stdout, stdout=subprocess.PIPE, text=True
        ) as reader,
    ):
        assert capture.stderr is not None and reader.stdout is not None
        assert capture.stderr.readline().startswith(b"capturing")
        assert pinged(overlay)
        assert "Echo (ping) request" in reader.stdout.readline()
        capture.send_signal(signal.SIGTERM)
        assert capture.wait(10) == 0


def test_a_reader_that_leaves_ends_the_capture_quietly(overlay: Overlay, node1: Daemon) -> None:
    command = [str(UDPLANE), *node1.command("capture")[1:], "-w", "-"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as capture:
        assert capture.stdout is not None and capture.stderr is not None
        assert capture.stderr.readline().startswith(b"capturing")
        capture.stdout.close()
        wait_until(lambda: pinged(overlay) and capture.poll() is not None, "the capture has ended")
        assert b"Traceback" not in capture.stderr.read()


def test_a_capture_ends_by_itself(node1: Daemon, tmp_path: Path) -> None:
    done = udplane(node1.node.netns, *node1.command("capture")[1:], "-w", str(tmp_path / "x"), "--seconds", "0.1")
    assert done.returncode == 0
    assert "captured " in done.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["-w", "/dev/full"], "cannot write the capture to /dev/full: No space left on device"),
        (["-w", "/nonexistent/x"], "cannot write the capture to /nonexistent/x: No such file or directory"),
        (["-w", "/"], "cannot write the capture to /: Is a directory"),
    ],
)
def test_what_cannot_be_written_is_one_line(node1: Daemon, arguments: list[str], words: str) -> None:
    done = udplane(node1.node.netns, *node1.command("capture")[1:], *arguments, "--seconds", "5")
    assert words in complaint(done)


def test_a_wrong_filter_is_wrong_usage(node1: Daemon) -> None:
    done = udplane(node1.node.netns, *node1.command("capture")[1:], "-w", "/dev/null", "--filter", "host", "nobody")
    assert "--filter: host nobody" in complaint(done, status=2)


def test_without_a_node_there_is_nothing_to_capture(tmp_path: Path, node1: Daemon) -> None:
    done = udplane(node1.node.netns, "capture", "-w", "/dev/null", "--run-dir", str(tmp_path))
    assert "no node runs" in complaint(done)
