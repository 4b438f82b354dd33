"""Two nodes on a wire, a pod on each, and the ways for the pods to reach each other that are compared.

    podA eth0 - cni0 | nodeA | eth0 ----------- eth0 | nodeB | cni0 - eth0 podB
    10.42.1.2          192.168.0.201     192.168.0.202          10.42.2.2

The wire is one veth pair. On plain veth a super-packet of 64 KiB crosses in one piece, which flatters every path that
uses offloads; a `wire_like` pair has them switched off, so that each packet crosses at the size of the wire, as on a
network card without segmentation offload.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from pathlib import Path

from dataplane.lab.netns import LabError, Namespace
from dataplane.lab.topology import Node, Pod, wire_pod

NETWORK = IPv4Network("10.42.0.0/16")
SUBNETS = (IPv4Network("10.42.1.0/24"), IPv4Network("10.42.2.0/24"))
UNDERLAY = (IPv4Interface("192.168.0.201/24"), IPv4Interface("192.168.0.202/24"))
UNDERLAY_MTU = 1500
VXLAN_OVERHEAD = 50
UDP_OVERHEAD = 28
START_TIMEOUT = 15.0

NO_SEGMENTATION_OFFLOAD = [
    *("tx-udp-segmentation", "off", "tso", "off", "gso", "off"),
    *("tx-udp_tnl-segmentation", "off", "tx-udp_tnl-csum-segmentation", "off", "gro", "on"),
]
"""Arguments of ethtool -K that make a veth behave like a network card without segmentation offload."""


@dataclass(slots=True)
class Pair:
    """Two nodes with a pod each, and the processes (if any) that carry packets between them."""

    nodes: tuple[Node, Node]
    pods: tuple[Pod, ...] = ()
    daemons: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def target(self) -> IPv4Address:
        """The address of the second pod, which servers listen on."""
        return self.pods[1].addresses[0].ip  # type: ignore[return-value]  # the pair is IPv4 only


Setup = Callable[[Pair, Path, ExitStack], int]
"""Makes the nodes carry pods' packets to each other, and returns the MTU for the pods."""


def plain(pair: Pair, _directory: Path, _cleanup: ExitStack) -> int:
    """Routing without encapsulation: what flannel calls host-gw, the most that the host can do."""
    for i, node in enumerate(pair.nodes):
        node.netns.ip(f"route add {SUBNETS[1 - i]} via {UNDERLAY[1 - i].ip}")
    return UNDERLAY_MTU


def vxlan(pair: Pair, _directory: Path, _cleanup: ExitStack) -> int:
    """The kernel's vxlan, set up as flannel does: a neighbour, a forwarding entry and a route for each peer."""
    macs = [f"02:42:00:00:00:0{i + 1}" for i in range(2)]
    for i, node in enumerate(pair.nodes):
        peer, base = UNDERLAY[1 - i].ip, SUBNETS[1 - i].network_address
        node.netns.ip(
            f"link add vxlan0 address {macs[i]} type vxlan"
            f" id 1 dev eth0 local {UNDERLAY[i].ip} dstport 8472 nolearning",
            f"addr add {SUBNETS[i].network_address}/32 dev vxlan0",
            f"link set vxlan0 up mtu {UNDERLAY_MTU - VXLAN_OVERHEAD}",
            f"neigh add {base} lladdr {macs[1 - i]} dev vxlan0",
            f"route add {SUBNETS[1 - i]} via {base} dev vxlan0 onlink",
        )
        node.netns.run(["bridge", "fdb", "append", macs[1 - i], "dev", "vxlan0", "dst", str(peer)])
    return UNDERLAY_MTU - VXLAN_OVERHEAD


def udplane(*options: str) -> Setup:
    """`udplane up` on both nodes, with these options besides the ones that it needs to run here."""

    def setup(pair: Pair, directory: Path, cleanup: ExitStack) -> int:
        peers = directory / "peers.toml"
        peers.write_text(_static_peers())
        for i, node in enumerate(pair.nodes):
            run_dir = directory / f"node{i}"
            run_dir.mkdir()
            log = cleanup.enter_context((run_dir / "log").open("wb"))
            daemon = node.netns.start(_up(peers, run_dir, *options), log=log)
            cleanup.callback(_stop, daemon)
            pair.daemons.append(daemon)
        for i, daemon in enumerate(pair.daemons):
            _await_subnet_file(directory / f"node{i}", daemon)
        return UNDERLAY_MTU - UDP_OVERHEAD

    return setup


@contextmanager
def build(prefix: str, setup: Setup, directory: Path, *, wire_like: bool) -> Iterator[Pair]:
    """A pair whose namespaces begin with `prefix`, taken down at the end; `directory` is for its daemons' files."""
    directory.mkdir(parents=True)
    with ExitStack() as cleanup:

        def namespace(name: str) -> Namespace:
            made = Namespace.create(prefix + name)
            cleanup.callback(made.delete)
            return made

        nodes = [Node(f"node{i}", namespace(f"node{i}"), (address,)) for i, address in enumerate(UNDERLAY)]
        _wire(nodes[0], nodes[1], wire_like=wire_like)
        pair = Pair((nodes[0], nodes[1]))
        with ExitStack() as daemons:
            mtu = setup(pair, directory, daemons)
            pods = [wire_pod(node, f"pod{i}", namespace(f"pod{i}"), [SUBNETS[i]], mtu) for i, node in enumerate(nodes)]
            pair.pods = tuple(pods)
            _limit_super_packets(pair, directory)
            yield pair


def _wire(a: Node, b: Node, *, wire_like: bool) -> None:
    a.netns.ip(f"link add eth0 mtu {UNDERLAY_MTU} type veth peer name eth0 mtu {UNDERLAY_MTU} netns {b.netns.name}")
    for node, address in zip((a, b), UNDERLAY, strict=True):
        node.netns.ip(f"addr add {address} dev eth0", "link set eth0 up", "route add default dev eth0")
        if wire_like:
            node.netns.run(["ethtool", "-K", "eth0", *NO_SEGMENTATION_OFFLOAD])


def _limit_super_packets(pair: Pair, directory: Path) -> None:
    """Give each pod's interface the gso_max_size that its node publishes, as the bridge plugin does."""
    for i, (node, pod) in enumerate(zip(pair.nodes, pair.pods, strict=True)):
        subnet_file = directory / f"node{i}" / "subnet.env"
        lines = subnet_file.read_text().splitlines() if subnet_file.exists() else []
        size = dict(line.split("=", 1) for line in lines).get("UDPLANE_GSO_MAX_SIZE")
        if size:
            limits = f"gso_max_size {size}"  # IPv4 follows, as long as it is below 64 KiB
            pod.netns.ip(f"link set eth0 {limits}")
            node.netns.ip(f"link set {pod.host_device} {limits}")


def _static_peers() -> str:
    """The peers file of both nodes."""
    peers = [
        f'[[peer]]\npublic-ip = "{address.ip}"\nsubnets = ["{subnet}"]\n'
        for address, subnet in zip(UNDERLAY, SUBNETS, strict=True)
    ]
    return f'[network]\nNetwork = "{NETWORK}"\n\n' + "\n".join(peers)


def _up(peers: Path, run_dir: Path, *options: str) -> list[str]:
    command = [sys.executable, "-I", "-m", "dataplane.cli", "up"]
    files = ["--store", f"static:{peers}", "--run-dir", str(run_dir), "--subnet-file", str(run_dir / "subnet.env")]
    return [*command, *files, "--iface", "eth0", *options]


def _await_subnet_file(run_dir: Path, daemon: subprocess.Popen[bytes]) -> None:
    """Wait until the node says by its subnet file that it is ready."""
    end = time.monotonic() + START_TIMEOUT
    while not (run_dir / "subnet.env").exists():
        if daemon.poll() is not None or time.monotonic() > end:
            said = (run_dir / "log").read_text().strip().splitlines() or ["nothing"]
            raise LabError(f"udplane up did not come up in {run_dir.name}; it said: {said[-1]}")
        time.sleep(0.02)


def _stop(daemon: subprocess.Popen[bytes]) -> None:
    if daemon.poll() is None:
        os.kill(daemon.pid, signal.SIGTERM)
        try:
            daemon.wait(10)
        except subprocess.TimeoutExpired:
            daemon.kill()
            daemon.wait()
