"""The underlay changes below running nodes: another address, another MTU, no address at all.

pod1 -- cni0 node1 --- underlay --- node2 cni0 -- pod2      10.254.x.0/24, fd00:10:254:x::/64 by lease
"""

import json
import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from dataplane.lab.overlay import NETWORK_CONFIG, Daemon, Overlay
from dataplane.lab.topology import Lab
from dataplane.node.subnet_file import SubnetFile
from tests.node.test_looking_after import BACKENDS, health, pods_reach_each_other, sh
from tests.waiting import wait_until


@pytest.fixture(scope="module", params=BACKENDS)
def overlay(
    request: pytest.FixtureRequest, namespaces: None, tun_device: None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Overlay]:
    with (
        Lab() as lab,
        Overlay(lab, tmp_path_factory.mktemp("overlay"), flags=["--iptables-resync=1"], name_address=False) as overlay,
    ):
        config = NETWORK_CONFIG | {"Backend": {"Type": request.param}}
        (overlay.directory / "net-conf.json").write_text(json.dumps(config))
        for _ in range(2):
            lab.add_node()
        overlay.up(pods_per_node=1)
        wait_until(lambda: pods_reach_each_other(overlay), "the pods reach each other")
        yield overlay


@pytest.fixture
def connection(overlay: Overlay) -> Iterator[tuple[socket.socket, socket.socket]]:
    """A TCP connection between the pods."""
    near, far = (daemon.node.pods[0] for daemon in overlay.daemons)
    with ExitStack() as stack:
        listener = stack.enter_context(far.netns.socket(socket.AF_INET, socket.SOCK_STREAM))
        listener.bind((str(far.address(4)), 0))
        listener.listen()
        client = stack.enter_context(near.netns.socket(socket.AF_INET, socket.SOCK_STREAM))
        client.settimeout(20)
        client.connect(listener.getsockname())
        server = stack.enter_context(listener.accept()[0])
        server.settimeout(20)
        yield client, server


def address_at_peer(overlay: Overlay) -> str:
    """Where node2 sends packets for node1."""
    (peer,) = overlay.daemons[1].status()["peers"]
    return str(peer["address"])


def subnets(daemon: Daemon) -> list[str]:
    lease: list[str] = daemon.status()["lease"]["subnets"]
    return lease


def echoes(client: socket.socket, server: socket.socket) -> None:
    client.sendall(b"ping")
    assert server.recv(4) == b"ping"
    server.sendall(b"pong")
    assert client.recv(4) == b"pong"


def test_a_new_address_is_published_and_connections_live_on(
    overlay: Overlay, connection: tuple[socket.socket, socket.socket]
) -> None:
    node = overlay.daemons[0]
    before = subnets(node)
    for new, old in (("192.168.0.77", "192.168.0.201"), ("192.168.0.201", "192.168.0.77")):
        echoes(*connection)
        router = "ip route replace default via 192.168.0.1"
        sh(node, f"ip addr flush dev eth0 scope global; ip addr add {new}/24 dev eth0; {router}")
        sh(node, "ip addr add fd00:192:168::201/64 dev eth0 nodad; ip route replace default via fd00:192:168::1")
        wait_until(lambda: address_at_peer(overlay) == new, f"node2 knows {new}")  # noqa: B023
        wait_until(lambda: pods_reach_each_other(overlay), "the pods reach each other")
        echoes(*connection)
        assert f"it was {old} on eth0" in node.log.read_text()
    assert subnets(node) == before
    assert health(node)[0] == 200


def test_without_an_address_the_node_is_not_well(overlay: Overlay) -> None:
    node = overlay.daemons[0]
    sh(node, "ip addr flush dev eth0 scope global")
    wait_until(lambda: health(node)[0] == 503, "the health check fails")
    (trouble, *_) = health(node)[1]["troubles"]
    assert "eth0 has no usable" in trouble
    assert trouble in " ".join(node.node.netns.run(node.command("status")).stdout.split())
    sh(node, "ip addr add 192.168.0.201/24 dev eth0; ip addr add fd00:192:168::201/64 dev eth0 nodad")
    sh(node, "ip route replace default via 192.168.0.1; ip route replace default via fd00:192:168::1")
    wait_until(lambda: health(node)[0] == 200, "the health check is well again")
    wait_until(lambda: pods_reach_each_other(overlay), "the pods reach each other")


def test_another_mtu_of_the_underlay_reaches_device_and_subnet_file(overlay: Overlay) -> None:
    node = overlay.daemons[0]
    before = SubnetFile.parse(node.subnet_file.read_bytes()).mtu

    def mtu() -> int:
        return SubnetFile.parse(node.subnet_file.read_bytes()).mtu

    sh(node, "ip link set eth0 mtu 1400")
    wait_until(lambda: mtu() == before - 100, "pods get the smaller MTU")
    sh(node, "ip link set eth0 mtu 1500")
    wait_until(lambda: mtu() == before, "pods get the larger MTU")
    wait_until(lambda: pods_reach_each_other(overlay), "the pods reach each other")


@pytest.mark.parametrize("named", [True, False])
def test_an_address_is_followed_to_a_bridge(namespaces: None, tun_device: None, tmp_path: Path, named: bool) -> None:
    """Somebody makes the interface the port of a bridge and moves its address there, as for virtual machines.

    The bridge has another address already. With --public-ip nothing else would do; without it what peers know stays.
    """
    flags = ["--iptables-resync=1", "--iface="]
    lab = Lab(prefix=f"br{os.getpid()}-", versions=(4,))
    with lab, Overlay(lab, tmp_path, engine="python", flags=flags, name_address=named) as overlay:
        (tmp_path / "net-conf.json").write_text('{"Network": "10.254.0.0/16"}')
        node = overlay.start(lab.add_node())
        node.wait_until_ready()
        bridge = "ip link add br0 type bridge; ip addr add 192.168.0.99/24 dev br0; ip link set br0 up"
        sh(node, f"{bridge}; ip link set eth0 master br0; ip addr flush dev eth0")
        wait_until(lambda: health(node)[0] == 503, "the address is missed")
        sh(node, "ip addr add 192.168.0.201/24 dev br0; ip route replace default via 192.168.0.1 dev br0")
        wait_until(lambda: node.status()["backend"]["interface"] == "br0", "the node follows")
        assert node.status()["backend"]["address"] == "192.168.0.201"
        wait_until(lambda: health(node)[0] == 200, "the health check is well")
