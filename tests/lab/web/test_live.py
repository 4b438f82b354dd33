"""What the page asks of a standing place: counters, packets, a shell."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Origin

from dataplane.lab.netns import LabError, Namespace
from dataplane.lab.view import LabView, PodPlace
from dataplane.lab.web import captures, terminals
from dataplane.lab.web.app import Page
from dataplane.lab.web.captures import Captures
from dataplane.lab.web.live import parse_devices, snapshot
from dataplane.lab.web.tasks import walk_arguments, wish
from tests.lab.web.conftest import Served, serving
from tests.waiting import wait_until

NAMES = ("webpod1", "webpod2")
ADDRESSES = ("10.254.1.2/24", "10.254.1.3/24")


@pytest.fixture(scope="module")
def view(namespaces: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabView]:
    """webpod1 eth0 ---- eth0 webpod2"""
    places = [Namespace.create(name) for name in NAMES]
    try:
        places[0].ip(f"link add eth0 type veth peer name eth0 netns {NAMES[1]}")
        for place, address in zip(places, ADDRESSES, strict=True):
            place.ip(f"addr add {address} dev eth0", "link set eth0 up")
        pods = tuple(PodPlace(name, name, (address,)) for name, address in zip(NAMES, ADDRESSES, strict=True))
        directory = tmp_path_factory.mktemp("lab")
        found = LabView("web", str(directory), {}, "", pods=pods)
        found.write()
        yield found
    finally:
        for place in places:
            place.delete()


@pytest.fixture(scope="module")
def lab(view: LabView) -> Iterator[Served]:
    with serving(Page(Path(view.directory))) as found:
        yield found


def send(view: LabView) -> None:
    """One datagram from the first to the second."""
    text = "import socket; socket.socket(type=socket.SOCK_DGRAM).sendto(b'hello', ('10.254.1.3', 9))"
    view.find(NAMES[0]).namespace.run(["python3", "-c", text])


def test_devices_are_read_from_the_kernels_own_table() -> None:
    text = (
        "Inter-|   Receive                            |  Transmit\n face |bytes    packets errs drop fifo frame\n"
        "    lo:  1 1 0 0 0 0 0 0  1 1 0 0 0 0 0 0\n  eth0: 100 2 0 3 0 0 0 0  200 4 0 5 0 0 0 0\nnonsense\n"
    )
    assert parse_devices(text) == {
        "eth0": {"rx_bytes": 100, "rx_packets": 2, "rx_drops": 3, "tx_bytes": 200, "tx_packets": 4, "tx_drops": 5}
    }


def test_counters_move_with_what_is_sent(view: LabView) -> None:
    before = snapshot(view)["links"][f"{NAMES[1]}/eth0"]["rx_packets"]
    send(view)
    wait_until(lambda: snapshot(view)["links"][f"{NAMES[1]}/eth0"]["rx_packets"] > before, "the packet to be counted")


def test_a_capture_over_the_page(lab: Served, view: LabView) -> None:
    status, body = lab.known("POST", "/api/captures", json.dumps({"where": NAMES[1], "device": "eth0"}).encode())
    number = json.loads(body)["id"]
    assert status == 200
    send(view)

    def packets() -> list[dict[str, object]]:
        found = json.loads(lab.known("GET", f"/api/captures/{number}?after=0")[1])["list"]
        return [packet for packet in found if b"hello".hex() in packet["packet"]["hex"]]

    wait_until(packets, "the datagram to be captured")
    assert lab.known("GET", f"/api/captures/{number}.pcapng")[1].startswith(b"\x0a\x0d\x0d\x0a")
    assert lab.known("DELETE", f"/api/captures/{number}")[0] == 200
    assert json.loads(lab.known("GET", "/api/captures")[1]) == {"captures": []}


def test_captures_have_a_bound(view: LabView, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(captures, "MAX_CAPTURES", 2)
    monkeypatch.setattr(captures, "MAX_PACKETS", 3)
    with Captures() as running:
        capture = running.start(view, NAMES[1], "eth0")
        running.start(view, NAMES[0], "eth0")
        with pytest.raises(LabError, match="2 captures run already"):
            running.start(view, NAMES[0], "eth0")
        for _ in range(5):
            send(view)

        def came() -> bool:
            running.drain()
            return capture.count >= 5

        wait_until(came, "all to be captured")
        assert len(capture.packets(0, 100)) == 3
        with pytest.raises(LabError, match="cannot capture on eth7"):
            running.stop(capture.number)
            running.start(view, NAMES[0], "eth7")
        with pytest.raises(LabError, match="nothing in this lab is called"):
            running.start(view, "nowhere", "eth0")


def shell(lab: Served, name: str) -> ClientConnection:
    headers = {"Cookie": f"udplane_lab_{lab.port}={lab.token}"}
    target, origin = f"ws://{lab.host}/ws/terminals/{name}", Origin(f"http://{lab.host}")
    return connect(target, origin=origin, additional_headers=headers)


def read_until(socket: ClientConnection, wanted: bytes) -> bytes:
    """What the terminal prints, up to these bytes."""
    seen = b""
    while wanted not in seen:
        message = socket.recv(timeout=20)
        seen += message if isinstance(message, bytes) else message.encode()
    return seen


def test_a_shell_in_a_pod(lab: Served) -> None:
    with shell(lab, NAMES[0]) as socket:
        socket.send(json.dumps({"type": "size", "rows": 33, "cols": 99}))
        socket.send(json.dumps({"type": "input", "data": "stty size; ip -br addr show eth0; env; exit 3\n"}))
        seen = read_until(socket, b"the shell has ended")
    assert b"33 99" in seen and b"10.254.1.2" in seen and b"status 3" in seen
    assert b"UDPLANE_LAB_WEB" not in seen


def test_a_shell_ends_with_its_page(lab: Served, tmp_path: Path) -> None:
    with shell(lab, NAMES[0]) as socket:
        socket.send(
            json.dumps({"type": "input", "data": f"sleep 1000 & echo $! > '{tmp_path}/pid'; echo started$((1))\n"})
        )
        read_until(socket, b"started1")
    pid = int((tmp_path / "pid").read_text())

    def gone() -> bool:
        try:
            return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
        except OSError:
            return True

    wait_until(gone, "the program to end")


@pytest.mark.parametrize("text", ["{", "[]", '{"type": "size"}', '{"type": "size", "rows": "x", "cols": 1}'])
def test_nonsense_ends_a_shell_quietly(lab: Served, text: str) -> None:
    with shell(lab, NAMES[0]) as socket:
        socket.send(text)
        read_until(socket, b"the shell has ended")


def test_shells_have_a_bound(lab: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(terminals, "MAX_TERMINALS", 0)
    with shell(lab, NAMES[0]) as socket:
        assert socket.recv(timeout=20) == "0 terminals are open already; close one first"
    with shell(lab, "nowhere") as socket:
        assert "nothing in this lab is called 'nowhere'" in str(socket.recv(timeout=20))


def test_a_walk_is_a_command_line() -> None:
    wished = {"from": "pod1", "to": "fd00::1", "proto": "udp", "size": 100, "ttl": 3, "ipv6": True}
    expected = ["pod1", "fd00::1", "--proto", "udp", "--size", "100", "--ttl", "3", "--family", "6"]
    assert walk_arguments(wished) == expected


@pytest.mark.parametrize(
    ("wished", "why"),
    [
        ({}, "'' is no place"),
        ({"from": "-x", "to": "pod1"}, "'-x' is no place"),
        ({"from": "pod1", "to": "--pcap"}, "'--pcap' is neither"),
        ({"from": "pod1", "to": "pod2", "proto": "sctp"}, "one of icmp, tcp, udp"),
        ({"from": "pod1", "to": "pod2", "ttl": True}, "ttl is a number"),
        ({"from": "pod1", "to": "pod2", "size": "1"}, "size is a number"),
    ],
)
def test_a_walk_that_is_none_says_why(wished: dict[str, object], why: str) -> None:
    with pytest.raises(LabError, match=why):
        walk_arguments(wished)


def test_only_some_commands_are_done_outside() -> None:
    assert wish("3", "start", {}) == ["start", "3"]
    assert wish("3", "solve", {"step": 2}) == ["solve", "--step", "2"]
    for number, options in (("3; rm", {}), ("3", {"step": 0})):
        with pytest.raises(LabError):
            wish(number, "solve", options)
