"""One network of udp nodes on an underlay of both families.

    pod1 -- node1 (python)  \
    pod2 -- node2 (numpy)    +-- IPv4 datagrams
    pod3 -- node3 (native)  /
            node4 (python)  ---- IPv6 datagrams: another underlay, to which there is no way

Every pod has an IPv4 and an IPv6 address.
"""

import itertools
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from dataplane.lab.overlay import Daemon, Overlay
from dataplane.lab.ping import ping
from dataplane.lab.topology import Lab
from tests.backends.conftest import knows_peers

ENGINES = ("python", "numpy", "native")


@pytest.fixture(scope="module")
def daemons(namespaces: None, tun_device: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Daemon]]:
    """The daemons of node1 to node4, the first three with a pod each."""
    directory = tmp_path_factory.mktemp("mixed")
    with Lab() as lab, ExitStack() as stack:
        kinds = [(engine, 4) for engine in ENGINES] + [("python", 6)]
        overlays = [
            stack.enter_context(Overlay(lab, directory, engine=engine, underlay=version)) for engine, version in kinds
        ]
        daemons = [overlay.start(lab.add_node()) for overlay in overlays]
        for daemon in daemons:
            daemon.wait_until_ready()
        for daemon in daemons[: len(ENGINES)]:
            lab.add_pod(daemon.node, *daemon.lease())
        for daemon in daemons:
            knows_peers(daemon, len(daemons) - 1)
        yield daemons


@pytest.mark.parametrize("version", [4, 6])
def test_every_pod_reaches_every_other(daemons: list[Daemon], version: int) -> None:
    pods = [daemon.node.pods[0] for daemon in daemons if daemon.node.pods]
    assert len(pods) == len(ENGINES)
    for source, target in itertools.permutations(pods, 2):
        (answer,) = ping(source.netns, target.address(version))
        assert answer is not None
        assert answer.echoed, f"{source.name} to {target.name}: {answer}"


def test_a_node_on_the_other_underlay_is_named(daemons: list[Daemon]) -> None:
    *others, lone = daemons
    for daemon in others:
        (trouble,) = (peer["trouble"] for peer in daemon.status()["peers"] if not peer["reachable"])
        assert trouble == "it has no IPv4 address, which this node's underlay needs"
    assert [peer["reachable"] for peer in lone.status()["peers"]] == [False] * len(others)
    text = lone.node.netns.run(lone.command("peers")).stdout
    assert text.count("no way: it has no IPv6 address") == len(others)
