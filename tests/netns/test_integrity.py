"""Whatever the offloads do, what arrives in a pod is what the other pod sent, and what crosses the wire is well-formed.

    pod1 - node1 --- underlay: no segmentation offload; may lose, duplicate and reorder --- node2 - pod2

`python -m bench.integrity` does the same with every combination of offloads and gigabytes of data.
"""

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from bench.impair import impair
from bench.integrity import BAD_WIRE, OFFLOADS, check_combination, check_order, check_tcp, check_udp, two_nodes, without
from dataplane.forwarding.udp import DEFAULT_PORT
from dataplane.lab.overlay import Overlay
from tests.conftest import needs_whole_system
from tests.engines.conftest import available
from tests.waiting import wait_until

N_BYTES = 15_000_000
COMBINATIONS = [(), ("tso", "uso"), ("gso", "gro"), OFFLOADS]

SHARK = [
    *("-d", f"udp.port=={DEFAULT_PORT},ip", "-o", "ip.check_checksum:TRUE"),
    *("-o", "tcp.check_checksum:TRUE", "-o", "udp.check_checksum:TRUE", "-o", "ip.defragment:FALSE"),
]
"""Options of tshark to look into the tunnel and verify every checksum in it."""

BAD = '_ws.malformed || ip.checksum.status == "Bad" || tcp.checksum.status == "Bad" || udp.checksum.status == "Bad"'


@pytest.fixture(scope="module")
def native_engine() -> None:
    """The native engine, which alone has offloads."""
    if not available("native"):
        pytest.skip("the C extension is not built: run ./dev test, or pip install -e .")
    if not shutil.which("ethtool"):
        pytest.skip("needs ethtool: apt-get install -y ethtool")


@pytest.fixture(scope="module")
def good_wire(native_engine: None, tun_device: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Overlay]:
    """Two nodes on a wire that does no harm."""
    with two_nodes(tmp_path_factory.mktemp("good")) as overlay:
        yield overlay


@pytest.fixture(scope="module")
def bad_wire(native_engine: None, tun_device: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Overlay]:
    """Two nodes on a wire that loses, duplicates and reorders."""
    with two_nodes(tmp_path_factory.mktemp("bad"), prefix=f"udp{os.getpid()}-bad-") as overlay:
        impair(overlay.lab.underlay, ("node1", "node2"), BAD_WIRE)
        yield overlay


@pytest.mark.parametrize("off", COMBINATIONS, ids=lambda off: f"without {','.join(off) or 'none'}")
def test_everything_arrives_in_order_on_a_good_wire(good_wire: Overlay, off: tuple[str, ...]) -> None:
    udp = check_combination(good_wire, off, N_BYTES).udp
    check_order(udp)
    assert udp.arrived > udp.sent / 2


@pytest.mark.parametrize("off", COMBINATIONS, ids=lambda off: f"without {','.join(off) or 'none'}")
def test_what_arrives_over_a_bad_wire_is_what_was_sent(bad_wire: Overlay, off: tuple[str, ...]) -> None:
    udp = check_combination(bad_wire, off, N_BYTES).udp
    assert udp.arrived < udp.sent
    assert udp.repeated > 0


@pytest.mark.skipif(not shutil.which("tshark"), reason="needs tshark and tcpdump: apt-get install -y tshark tcpdump")
def test_the_wire_carries_nothing_malformed(good_wire: Overlay, tmp_path: Path) -> None:
    """With checksums computed before the wire, every header of every packet in a capture of it verifies."""
    capture = tmp_path / "wire.pcap"
    first, second = (node.pods[0] for node in good_wire.lab.nodes)
    for node in good_wire.lab.nodes:
        node.netns.run(["ethtool", "-K", "eth0", "tx", "off"])
    with without(good_wire, ()), _tcpdump(good_wire, capture):
        for version in (4, 6):
            check_tcp(first, second, version, 2_000_000)
            check_udp(first, second, version, runs=16)
    shark = ["tshark", "-r", str(capture), *SHARK]
    n_tcp = _lines([*shark, "-Y", "tcp.len > 0"])
    assert n_tcp > 1000, "too few packets with TCP data were captured to say anything"
    assert _lines([*shark, "-Y", BAD]) == 0


@contextmanager
def _tcpdump(overlay: Overlay, capture: Path) -> Iterator[None]:
    """Capture what crosses the port of node1 for the length of the block."""
    needs_whole_system("a tcpdump that may change its groups")
    said = capture.with_suffix(".log")
    with said.open("wb") as log:
        command = ["tcpdump", "-i", "node1", "-B", "16384", "-Z", "root", "-w", str(capture)]
        dump = overlay.lab.underlay.start(command, log=log)
    try:
        wait_until(lambda: "listening on" in said.read_text(), "tcpdump to listen")
        yield
    finally:
        dump.send_signal(signal.SIGINT)
        dump.wait()


def _lines(command: list[str]) -> int:
    """The number of packets that tshark prints."""
    return len(subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout.splitlines())
