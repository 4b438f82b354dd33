"""One real node, and beside it two hosts on the underlay that a test plays by hand.

    pod 10.254.1.2, fd00:10:254:1::2
     |
    node1  udplane up           node2  a peer with a lease,          node3  a stranger:
     |     10.254.1.0/24         |     10.254.2.0/24, but no udplane  |     no lease
     +---------------------------+-- underlay ------------------------+

What a test sends from node2's socket is what a peer's udplane or flannel would send, byte for byte, and what arrives
there is all that leaves node1 for that peer.
"""

import socket
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from dataplane.addresses import Address
from dataplane.engines.registry import ENGINES
from dataplane.forwarding.udp import DEFAULT_PORT
from dataplane.lab.overlay import Daemon, Overlay
from dataplane.lab.topology import Lab, Node, Pod
from tests.engines.conftest import available

PEERS = """
[network]
Network = "10.254.0.0/16"
IPv6Network = "fd00:10:254::/48"
EnableIPv6 = true

[[peer]]
node = "node1"
{key} = "{node1}"
subnets = ["10.254.1.0/24", "fd00:10:254:1::/64"]

[[peer]]
node = "node2"
{key} = "{node2}"
subnets = ["10.254.2.0/24", "fd00:10:254:2::/64"]
"""

FAMILY = {4: socket.AF_INET, 6: socket.AF_INET6}


@pytest.fixture(scope="module", params=ENGINES)
def engine(request: pytest.FixtureRequest) -> str:
    """The name of an engine; a test that asks for it runs once for each."""
    if not available(request.param):
        pytest.skip("the C extension is not built: run ./dev test, or pip install -e .")
    return str(request.param)


@dataclass(slots=True)
class Rig:
    """The node under test and what is played around it."""

    lab: Lab
    daemon: Daemon
    pod: Pod
    underlay: int
    """IP version of the underlay."""
    peer: socket.socket
    """A plain UDP socket on node2, on the overlay's port; receives the outer TOS byte along."""
    stranger: socket.socket
    """The same on node3."""

    @property
    def node(self) -> Node:
        """The node that runs udplane."""
        return self.lab.nodes[0]

    @property
    def node_address(self) -> tuple[str, int]:
        """Where the node takes datagrams."""
        return str(self.node.address(self.underlay)), DEFAULT_PORT

    def drops(self, direction: str) -> dict[str, int]:
        """The node's drops by reason, without the zeros."""
        drops = self.daemon.status()["counters"][direction]["drops"]
        return {reason: count for reason, count in drops.items() if count}

    def pod_socket(self, version: int) -> socket.socket:
        """A UDP socket in the pod, on port 7000; waits for five seconds at most."""
        sock = self.pod.netns.socket(FAMILY[version], socket.SOCK_DGRAM)
        sock.bind((str(self.pod.address(version)), 7000))
        sock.settimeout(5)
        return sock


@pytest.fixture(scope="module", params=[4, 6], ids=["IPv4 underlay", "IPv6 underlay"])
def rig(
    request: pytest.FixtureRequest, engine: str, tun_device: None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Rig]:
    """The rig, once for each engine and each IP version of the underlay."""
    version = int(request.param)
    with ExitStack() as stack:
        lab = stack.enter_context(Lab())
        nodes = [lab.add_node() for _ in range(3)]
        directory = tmp_path_factory.mktemp("rig")
        overlay = stack.enter_context(Overlay(lab, directory, engine=engine, underlay=version))
        overlay.store = f"static:{_peer_file(directory, [node.address(version) for node in nodes])}"
        daemon = overlay.start(nodes[0])
        daemon.wait_until_ready()
        assert daemon.status()["backend"]["engine"] == engine
        pod = lab.add_pod(nodes[0], *daemon.lease())
        peer, stranger = (stack.enter_context(_overlay_socket(node, version)) for node in nodes[1:])
        yield Rig(lab, daemon, pod, version, peer, stranger)


def _peer_file(directory: Path, addresses: list[Address]) -> Path:
    file = directory / "peers.toml"
    key = "public-ip" if addresses[0].version == 4 else "public-ipv6"
    file.write_text(PEERS.format(key=key, node1=addresses[0], node2=addresses[1]))
    return file


def _overlay_socket(node: Node, version: int) -> socket.socket:
    sock = node.netns.socket(FAMILY[version], socket.SOCK_DGRAM)
    sock.bind((str(node.address(version)), DEFAULT_PORT))
    if version == 4:
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_RECVTOS, 1)
    else:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVTCLASS, 1)
    sock.settimeout(5)
    return sock
