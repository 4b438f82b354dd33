"""Who may speak for a node: attacks on the overlay port by pods, by users of a node's host and by strangers.

    pod1 -- cni0 node1 --- underlay --- node2 cni0 -- pod2      10.254.x.0/24, fd00:10:254:x::/64 by lease
                              |
                           stranger 192.168.0.203               a host that is no node

Each attack sends a datagram that node2, or node1, would deliver to a pod if it took it for a node's. What root on a
node sends arrives, which shows that the datagrams are good.
"""

import socket
import sys
from collections.abc import Callable, Iterator

import pytest

from dataplane.forwarding.udp import DEFAULT_PORT
from dataplane.lab.netns import Namespace
from dataplane.lab.overlay import Daemon, Overlay
from dataplane.lab.ping import ping
from dataplane.lab.topology import Lab, Node, Pod
from tests.conftest import needs_whole_system
from tests.waiting import wait_until

PORT = 9999
NOBODY = ["setpriv", "--reuid=65534", "--bounding-set=-all", "--inh-caps=-all"]
SEND = (
    "import socket, sys; address = sys.argv[1], int(sys.argv[2]);"
    "family = socket.AF_INET6 if ':' in sys.argv[1] else socket.AF_INET;"
    "socket.socket(family, socket.SOCK_DGRAM).sendto(bytes.fromhex(sys.argv[3]), address)"
)
RAW = (
    "import socket, sys; sock = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW);"
    "sock.sendto(bytes.fromhex(sys.argv[2]), (sys.argv[1], 0))"
)


@pytest.fixture(scope="module", params=["nftables", "iptables"])
def overlay(
    request: pytest.FixtureRequest, namespaces: None, tun_device: None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Overlay]:
    flags = [f"--firewall={request.param}", "--iptables-resync=1"]
    with Lab() as lab, Overlay(lab, tmp_path_factory.mktemp("overlay"), engine="python", flags=flags) as overlay:
        for _ in range(2):
            lab.add_node()
        overlay.up(pods_per_node=1)
        wait_until(lambda: overlay.daemons[0].status()["peers"][0]["reachable"], "node1 knows node2")
        require_guard(overlay.daemons[0], request.param)
        near, far = (daemon.node.pods[0] for daemon in overlay.daemons)
        wait_until(lambda: answered(near, far), "the pods reach each other")
        yield overlay


def require_guard(daemon: Daemon, firewall: str) -> None:
    """Skip where the guard is not whole since a user namespace lacks what it is made of."""
    if daemon.status()["firewall"]["guard_lacking"]:
        needs_whole_system(f"what the guard with {firewall} is made of")


@pytest.fixture(scope="module")
def stranger(overlay: Overlay) -> Node:
    return overlay.lab.add_node()


def answered(source: Pod, target: Pod) -> bool:
    (answer,) = ping(source.netns, target.address(4), timeout=0.5)
    return answer is not None


def inner(source: Pod, target: Pod, version: int = 4) -> str:
    """A UDP datagram from one pod to another, as hexadecimal digits."""
    from scapy.layers.inet import IP, UDP
    from scapy.layers.inet6 import IPv6

    header = IP if version == 4 else IPv6
    packet = header(src=str(source.address(version)), dst=str(target.address(version)))
    return bytes(packet / UDP(sport=1, dport=PORT) / b"forged").hex()


def forged(source: str, target: str, payload: str) -> str:
    """An outer datagram from any address, as hexadecimal digits."""
    from scapy.layers.inet import IP, UDP

    return bytes(
        IP(src=source, dst=target) / UDP(sport=DEFAULT_PORT, dport=DEFAULT_PORT) / bytes.fromhex(payload)
    ).hex()


def run(netns: Namespace, code: str, *arguments: str, user: list[str] | None = None) -> None:
    """Run a few lines of Python; what the kernel refuses is what is hoped for."""
    if user:
        needs_whole_system("a second user")
    netns.run([*(user or []), sys.executable, "-I", "-c", code, *arguments], check=False)


def arrives(pod: Pod, attack: Callable[[], None], version: int = 4) -> bool:
    """Whether a pod gets the datagram of an attack."""
    family = socket.AF_INET if version == 4 else socket.AF_INET6
    with pod.netns.socket(family, socket.SOCK_DGRAM) as sock:
        sock.bind((str(pod.address(version)), PORT))
        sock.settimeout(0.4)
        attack()
        try:
            return sock.recv(100) == b"forged"
        except TimeoutError:
            return False


def guarded(daemon: Daemon) -> int:
    return int(daemon.status()["firewall"]["guard_dropped"])


@pytest.mark.parametrize("version", [4, 6])
def test_a_user_of_a_nodes_host_cannot_speak_for_it(overlay: Overlay, version: int) -> None:
    node1, node2 = overlay.daemons
    near, far = node1.node.pods[0], node2.node.pods[0]
    to, packet = str(node2.node.address(4)), inner(near, far, version)
    before = guarded(node1)
    assert arrives(far, lambda: run(node1.node.netns, SEND, to, str(DEFAULT_PORT), packet), version), "root's arrives"
    assert not arrives(far, lambda: run(node1.node.netns, SEND, to, str(DEFAULT_PORT), packet, user=NOBODY), version)
    assert guarded(node1) == before + 1


def test_a_pod_cannot_speak_for_its_node(overlay: Overlay) -> None:
    """Its datagrams are masqueraded into the node's address."""
    node1, node2 = overlay.daemons
    near, far = node1.node.pods[0], node2.node.pods[0]
    before = guarded(node1)
    for user in (None, NOBODY):
        to = str(node2.node.address(4))
        assert not arrives(far, lambda: run(near.netns, SEND, to, str(DEFAULT_PORT), inner(near, far), user=user))  # noqa: B023
    assert guarded(node1) == before + 2


def test_a_pod_cannot_speak_for_another_node_to_its_own(overlay: Overlay) -> None:
    """It forges the other node's address, which needs CAP_NET_RAW; containers have that by default."""
    node1, node2 = overlay.daemons
    near, far = node1.node.pods[0], node2.node.pods[0]
    own, other = str(node1.node.address(4)), str(node2.node.address(4))
    before = guarded(node1)
    outer = forged(other, own, inner(far, near))
    assert not arrives(near, lambda: run(near.netns, RAW, own, outer))
    assert guarded(node1) == before + 1


def test_a_pod_cannot_speak_for_any_node_to_another(overlay: Overlay) -> None:
    node1, node2 = overlay.daemons
    near, far = node1.node.pods[0], node2.node.pods[0]
    for source in (node1.node.address(4), node2.node.address(4), near.address(4)):
        outer = forged(str(source), str(node2.node.address(4)), inner(near, far))
        assert not arrives(far, lambda: run(near.netns, RAW, str(node2.node.address(4)), outer))  # noqa: B023


def test_rules_of_others_do_not_let_them_through(overlay: Overlay) -> None:
    """Docker and kube-proxy put entries that accept before all others, whenever they start."""
    node1, node2 = overlay.daemons
    near, far = node1.node.pods[0], node2.node.pods[0]
    to, packet = str(node2.node.address(4)), inner(near, far)
    before = guarded(node1)
    for chain in ("INPUT", "FORWARD", "OUTPUT"):
        node1.node.netns.run(["iptables", "-I", chain, "-j", "ACCEPT"])
    assert not arrives(far, lambda: run(near.netns, SEND, to, str(DEFAULT_PORT), packet))
    assert not arrives(far, lambda: run(node1.node.netns, SEND, to, str(DEFAULT_PORT), packet, user=NOBODY))
    for chain in ("INPUT", "FORWARD", "OUTPUT"):
        node1.node.netns.run(["iptables", "-D", chain, "-j", "ACCEPT"])
    assert guarded(node1) == before + 2


def test_a_stranger_on_the_underlay_is_counted(overlay: Overlay, stranger: Node) -> None:
    node1, node2 = overlay.daemons
    near, far = node1.node.pods[0], node2.node.pods[0]

    def unknown() -> int:
        return int(node2.status()["counters"]["decap"]["drops"]["unknown_sender"])

    before = unknown()
    to = str(node2.node.address(4))
    assert not arrives(far, lambda: run(stranger.netns, SEND, to, str(DEFAULT_PORT), inner(near, far)))
    wait_until(lambda: unknown() == before + 1, "it is counted")


def test_other_ports_and_other_hosts_are_left_alone(overlay: Overlay, stranger: Node) -> None:
    """The guard is about members' overlay port: an operator may have chosen one that pods use elsewhere."""
    node1, node2 = overlay.daemons
    near = node1.node.pods[0]
    for host, port in ((stranger, DEFAULT_PORT), (node2.node, 4444)):
        with host.netns.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.bind((str(host.address(4)), port))
            sock.settimeout(5)
            for netns in (near.netns, node1.node.netns):
                run(netns, SEND, str(host.address(4)), str(port), b"hello".hex(), user=NOBODY)
                assert sock.recv(100) == b"hello"


def test_a_member_that_comes_later_is_guarded_and_one_that_leaves_is_not(overlay: Overlay) -> None:
    node1 = overlay.daemons[0]
    late = overlay.start(overlay.lab.add_node())
    late.wait_until_ready()
    address = str(late.node.address(4))
    wait_until(lambda: address in rules(node1), "the new member is guarded")
    late.node.netns.run(late.command("leave"))
    assert "guard" not in rules(late).lower()
    wait_until(lambda: address not in rules(node1), "one that has left is forgotten")


def rules(daemon: Daemon) -> str:
    """All rules of a node's host."""
    shown = [daemon.node.netns.run([program], check=False).stdout for program in ("iptables-save", "ip6tables-save")]
    return daemon.node.netns.run(["nft", "list", "ruleset"]).stdout + "".join(shown)
