"""containerd: `ctr run --cni`, and the CRI that a kubelet drives, on the chain that kube-flannel installs.

This system's containerd, and a current one, 2.x, where `./dev test` could unpack it.

    containerd --CRI-- test (as the kubelet)        pod 1 .. pod 20
        |                                             eth0 10.78.5.x
        '-- flannel -> bridge -> host-local, portmap     |
            cni0 10.78.5.1/24 ----------- veths ---------'
            subnet.env: 10.78.5.0/24 of 10.78.0.0/16

containerd runs the loopback plugin and the chain of one pod at the same time, gives port mappings keys in capitals, and
calls DEL three times a pod, all but the first without a network namespace.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.cni.clients.client_node import (
    FLANNEL_CHAIN,
    ROOTFS,
    leftovers,
    prepare_node,
    require_client,
)
from tests.cni.clients.containerd_node import SOCKET, containerd, cri
from tests.cni.clients.cri import RuntimeService
from tests.cni.world.world import REPO, World, install_plugins

PODS = 20
CURRENT = REPO / "build/tools/forky/usr/bin"


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    require_client("containerd", "ctr", "busybox")
    with World(install_plugins(tmp_path_factory.mktemp("bin"), "--keep-warm", "60")) as world:
        prepare_node(world, FLANNEL_CHAIN)
        world.write_subnet_env()
        yield world


@pytest.fixture(params=["of this system", "current"])
def programs(request: pytest.FixtureRequest) -> str:
    """The directory of containerd and what it starts."""
    if request.param == "of this system":
        return "/usr/bin"
    if not (CURRENT / "containerd").exists():
        pytest.skip(f"needs a current containerd in {CURRENT}: ./dev test unpacks it on Debian")
    return str(CURRENT)


def test_ctr_run_wires_and_unwires_a_container(programs: str, node: World) -> None:
    script = "ip -4 addr show eth0; ping -c 2 -W 2 10.78.5.1"
    with containerd(node, programs):
        options = f"--rm --cni --rootfs --cgroup '' {ROOTFS} t1 /bin/sh -c '{script}'"
        output = node.sh(f"ctr -a {SOCKET} run {options}")
    assert "inet 10.78.5." in output
    assert "2 packets received" in output
    assert leftovers(node) == {}


def test_twenty_pods_at_once_over_cri(programs: str, node: World) -> None:
    pytest.importorskip("grpc", reason="needs grpcio: pip install grpcio")
    with cri(node, programs) as runtime, ThreadPoolExecutor(PODS) as pool:
        sandboxes = list(pool.map(lambda number: run_pod(runtime, number), range(PODS)))
        addresses = list(pool.map(runtime.pod_address, sandboxes))
        rules = node.snapshot()["rules"]["ip nat"]
        list(pool.map(runtime.remove_pod, sandboxes))
    assert len(set(addresses)) == PODS
    assert all(address.startswith("10.78.5.") for address in addresses)
    for number, address in enumerate(addresses):
        assert any(f"--dport {20000 + number} -j DNAT --to-destination {address}:80" in rule
                   for chain in rules.values() for rule in chain)  # fmt: skip
    for chain in ("PREROUTING", "OUTPUT", "POSTROUTING"):
        assert len(rules[chain]) == len(set(rules[chain])), f"duplicate rules in {chain}"
    assert leftovers(node) == {}


def run_pod(runtime: RuntimeService, number: int) -> str:
    """A pod that publishes port 80 as 20000 + number."""
    return runtime.run_pod(f"pod-{number}", [(20000 + number, 80)])
