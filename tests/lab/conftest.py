"""A lab for the tests of the instruments: plain routing between the nodes, no overlay yet.

pod1 pod2            pod3 pod4        10.254.1.2, .3            10.254.2.2, .3
  |   |                |   |
cni0 node1           cni0 node2       routes to each other's pod subnet by the underlay address
      |                    |
      +----- underlay -----+
"""

from collections.abc import Iterator
from ipaddress import ip_network

import pytest

from dataplane.lab.topology import Lab

MTU = 1500


@pytest.fixture(scope="module")
def routed_lab(namespaces: None) -> Iterator[Lab]:
    with Lab() as lab:
        for number in (1, 2):
            node = lab.add_node()
            for _ in range(2):
                lab.add_pod(node, [ip_network(f"10.254.{number}.0/24"), ip_network(f"fd00:10:254:{number}::/64")], MTU)
        for node, peer in (lab.nodes, lab.nodes[::-1]):
            for pod_address in peer.pods[0].addresses:
                node.netns.ip(f"route add {pod_address.network} via {peer.address(pod_address.version)}")
        yield lab
