"""Who may speak for a node where the kernel's vxlan devices take what comes: nobody but nodes, in either family.

    pod1 -- cni0 node1 --- underlay --- node2 cni0 -- pod2      10.254.x.0/24, fd00:10:254:x::/64 by lease

A vxlan device does not ask who sent a datagram, so all depends on the guard of the host that it comes from.
"""

import json
from collections.abc import Iterator

import pytest

from dataplane.lab.overlay import NETWORK_CONFIG, Overlay
from dataplane.lab.topology import Lab
from tests.adversary.test_membership import NOBODY, SEND, arrives, guarded, inner, require_guard, run
from tests.node.test_looking_after import pods_reach_each_other
from tests.waiting import wait_until

VXLAN_PORT = 8472


@pytest.fixture(scope="module", params=["nftables", "iptables"])
def overlay(
    request: pytest.FixtureRequest, namespaces: None, tun_device: None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Overlay]:
    flags = [f"--firewall={request.param}", "--iptables-resync=1"]
    with Lab() as lab, Overlay(lab, tmp_path_factory.mktemp("overlay"), flags=flags, name_address=False) as overlay:
        config = NETWORK_CONFIG | {"Backend": {"Type": "vxlan"}}
        (overlay.directory / "net-conf.json").write_text(json.dumps(config))
        for _ in range(2):
            lab.add_node()
        overlay.up(pods_per_node=1)
        require_guard(overlay.daemons[0], request.param)
        wait_until(lambda: pods_reach_each_other(overlay), "the pods reach each other")
        yield overlay


@pytest.mark.parametrize("version", [4, 6])
def test_pods_and_users_cannot_speak_for_a_node(overlay: Overlay, version: int) -> None:
    from scapy.layers.l2 import Ether

    node1, node2 = overlay.daemons
    near, far = node1.node.pods[0], node2.node.pods[0]
    device = {4: "flannel.1", 6: "flannel-v6.1"}[version]
    (link,) = json.loads(node2.node.netns.run(["ip", "-json", "link", "show", device]).stdout)
    ethernet = Ether(src="02:00:00:00:00:01", dst=link["address"], type={4: 0x0800, 6: 0x86DD}[version])
    frame = f"0800000000000100{bytes(ethernet).hex()}{inner(near, far, version)}"
    attack = (SEND, str(node2.node.address(version)), str(VXLAN_PORT), frame)
    before = guarded(node1)
    assert arrives(far, lambda: run(node1.node.netns, *attack), version), "root's arrives"
    assert not arrives(far, lambda: run(near.netns, *attack), version)
    assert not arrives(far, lambda: run(node1.node.netns, *attack, user=NOBODY), version)
    assert guarded(node1) == before + 2
