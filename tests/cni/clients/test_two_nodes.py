"""Two nodes with udplane between them, a pod made by containerd on each, and traffic from pod to pod.

node 1                                            node 2
containerd --CRI-- test --CRI-- containerd
pod eth0 -- cni0 -- udplane0 == UDP over eth0 == udplane0 -- cni0 -- pod eth0
                    `udplane up` writes subnet.env, the flannel plugin reads it
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.cni.clients.client_node import FLANNEL_CHAIN, ROOTFS, leftovers, prepare_node, require_client
from tests.cni.clients.containerd_node import cri
from tests.cni.world.world import World, install_plugins

UDPLANE = Path(sys.executable).with_name("udplane")
NETWORK = {"Network": "10.78.0.0/16", "Backend": {"Type": "udp"}}
SUBNET_ENV = "/run/flannel/subnet.env"


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[tuple[World, World]]:
    """Two nodes on one cable, 192.0.2.1 and 192.0.2.2, each with a running udplane of one network."""
    require_client("containerd", "ctr", "busybox")
    if not UDPLANE.exists():
        pytest.skip(f"needs udplane beside {sys.executable}: run ./dev test, or pip install -e .")
    plugins = install_plugins(tmp_path / "bin", "--keep-warm", "60")
    (tmp_path / "network.json").write_text(json.dumps(NETWORK))
    with World(plugins) as first, World(plugins) as second, ExitStack() as running:
        cable = ["ip", "link", "add", "eth0", "netns", str(first.pid), "type", "veth"]
        subprocess.run([*cable, "peer", "name", "eth0", "netns", str(second.pid)], check=True)
        for number, node in enumerate((first, second), 1):
            prepare_node(node, FLANNEL_CHAIN)
            node.sh(f"ip addr add 192.0.2.{number}/24 dev eth0; ip link set eth0 up")
            running.enter_context(udplane(node, tmp_path))
        for node in (first, second):
            wait_until(node, f"[ -e {SUBNET_ENV} ]", "/run/udplane.log")
        yield first, second


@contextmanager
def udplane(node: World, place: Path) -> Iterator[None]:
    """`udplane up` on the node, with the leases of both nodes in one file."""
    config = ("--store", f"sqlite:{place}/store.db", "--net-config-path", f"{place}/network.json", "--iface", "eth0")
    pid = node.start(str(UDPLANE), "up", *config, "--ip-masq", log="/run/udplane.log")
    try:
        yield
    finally:
        node.stop(pid)


def wait_until(node: World, condition: str, log: str) -> None:
    """Wait up to 20 s for a shell condition; what `log` says is the explanation when it does not come."""
    output = node.sh(f"timeout 20 sh -c 'until {condition}; do sleep 0.05; done' || tail -n 20 {log}")
    assert output == ""


def pod_namespace(node: World) -> str:
    """The name in /run/netns of the only pod."""
    [name] = node.sh("ls /run/netns").split()
    return name


def test_pods_on_two_nodes_reach_each_other(nodes: tuple[World, World]) -> None:
    pytest.importorskip("grpc", reason="needs grpcio: pip install grpcio")
    with cri(nodes[0]) as here, cri(nodes[1]) as there:
        near, far = here.run_pod("near", []), there.run_pod("far", [])
        near_address, far_address = here.pod_address(near), there.pod_address(far)
        assert near_address.rpartition(".")[0] != far_address.rpartition(".")[0]
        ping(nodes[0], far_address)
        ping(nodes[1], near_address)
        fetch(nodes, far_address)
        here.remove_pod(near)
        there.remove_pod(far)
    assert [leftovers(node) for node in nodes] == [{}, {}]


def ping(node: World, address: str) -> None:
    """Three echo requests from the node's pod, each answered; the first may have to wait for the peer's lease."""
    done = node.run("ping", "-c", "3", "-W", "5", "-i", "0.2", address, pod=pod_namespace(node))
    assert done.exit == 0, done.stdout + done.stderr
    assert "3 received" in done.stdout


def fetch(nodes: tuple[World, World], address: str) -> None:
    """A megabyte over HTTP from the second node's pod to the first's."""
    near, far = nodes
    far.sh(f"head -c 1000000 /dev/urandom > {ROOTFS}/www/megabyte")
    enter = ("nsenter", f"--net=/run/netns/{pod_namespace(far)}")
    server = far.start(*enter, "busybox", "httpd", "-f", "-h", f"{ROOTFS}/www", log="/run/httpd.log")
    url = f"http://{address}/megabyte"
    get = (
        f"timeout 20 sh -c 'until busybox wget -q -O /run/megabyte {url}; do sleep 0.05; done'; md5sum < /run/megabyte"
    )
    received = near.sh(get, pod=pod_namespace(near))
    far.stop(server)
    assert received == far.sh(f"md5sum < {ROOTFS}/www/megabyte")
