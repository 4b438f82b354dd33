"""Two nodes with pods, their daemons started with the backend that a test names; or one node's backend by itself.

pod1 -- cni0 node1 eth0 --- underlay --- eth0 node2 cni0 -- pod2      10.254.x.0/24, fd00:10:254:x::/64 by lease
"""

import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from ipaddress import ip_network
from typing import Any

import pytest

from dataplane.backends.base import Backend, BackendContext
from dataplane.backends.registry import open_backend
from dataplane.kernel.netdev import external_interface
from dataplane.kernel.wishes import WishedState
from dataplane.lab.netns import Namespace
from dataplane.lab.overlay import NETWORK_CONFIG, Daemon, Overlay
from dataplane.lab.ping import ping
from dataplane.lab.topology import Lab, Node
from dataplane.leases.lease import Change, Lease, LeaseAttrs, LeaseEvent, Subnets
from dataplane.leases.network_config import NetworkConfig
from dataplane.options import NodeOptions
from tests.waiting import wait_until

Start = Callable[..., Overlay]

OWN_SUBNETS = Subnets.of([ip_network("10.254.1.0/24"), ip_network("fd00:10:254:1::/64")])
PEER_SUBNETS = Subnets.of([ip_network("10.254.2.0/24"), ip_network("fd00:10:254:2::/64")])


@pytest.fixture(scope="module")
def start(namespaces: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Start]:
    """Call this with the `Backend` of the network config to get two nodes that know each other."""
    with ExitStack() as stack:

        def build(backend: Mapping[str, Any]) -> Overlay:
            lab = stack.enter_context(Lab())
            overlay = stack.enter_context(Overlay(lab, tmp_path_factory.mktemp("overlay"), engine="python"))
            write_config(overlay, backend)
            for _ in range(2):
                lab.add_node()
            overlay.up(pods_per_node=1)
            for daemon in overlay.daemons:
                knows_peers(daemon, 1)
            return overlay

        yield build


@pytest.fixture
def lab(namespaces: None) -> Iterator[Lab]:
    """An underlay of the test's own, beside the one that `start` may have."""
    with Lab(prefix=f"udp{os.getpid()}-kernel-") as lab:
        yield lab


@pytest.fixture
def node(lab: Lab) -> Iterator[Node]:
    """The first host on the underlay, in whose namespace the test's thread is; backends can be made there."""
    node = lab.add_node()
    with node.netns.entered():
        yield node


def make_backend(config: Mapping[str, Any], **options: Any) -> Backend:
    """A backend of the host in whose namespace the thread is; `config` is the `Backend` of the network config."""
    document = json.dumps(NETWORK_CONFIG | {"Backend": config})

    def fail(error: Exception) -> None:
        raise error

    interface = external_interface("eth0", options.get("public_ip"))
    return open_backend(BackendContext(NodeOptions(**options), NetworkConfig.parse(document), interface, fail))


def take_up(config: Mapping[str, Any], *peers: str) -> Backend:
    """A backend that has its own lease, and peers that published these values."""
    backend = make_backend(config)
    set_up(backend)
    backend.apply([added(value) for value in peers])
    return backend


def set_up(backend: Backend) -> WishedState:
    """Have a backend and the host ready for its own lease, as a node does; returns what is to be looked after."""
    backend.take_up(Lease(OWN_SUBNETS, backend.attrs))
    wished = WishedState(backend.wishes(OWN_SUBNETS))
    wished.fulfil()
    return wished


def look_after(backend: Backend) -> None:
    """Put back what others changed of what `take_up` has set up."""
    WishedState(backend.wishes(OWN_SUBNETS)).look_after()


def added(value: str, subnets: Subnets = PEER_SUBNETS) -> LeaseEvent:
    """The news of a lease, from its value as a store has it."""
    return LeaseEvent(Change.ADDED, Lease(subnets, LeaseAttrs.from_json(value)))


def write_config(overlay: Overlay, backend: Mapping[str, Any]) -> None:
    """What nodes put into a store that has no network config yet."""
    (overlay.directory / "net-conf.json").write_text(json.dumps(NETWORK_CONFIG | {"Backend": backend}))


def knows_peers(daemon: Daemon, count: int) -> None:
    """Wait until a node has so many peers."""
    wait_until(lambda: len(daemon.status()["peers"]) == count, f"{daemon.node.name} has {count} peers")


def restart(overlay: Overlay, number: int) -> Daemon:
    """Start the daemon of a node that was stopped again."""
    daemon = overlay.start(overlay.lab.nodes[number])
    overlay.daemons[number] = daemon
    daemon.wait_until_ready()
    return daemon


def leave(daemon: Daemon) -> str:
    """Let a node leave; returns what it says."""
    return daemon.node.netns.run(daemon.command("leave")).stdout


def pods_reach_each_other(overlay: Overlay, version: int, *, size: int = 56) -> bool:
    """Whether the pods of the two nodes do, with `size` bytes of echo payload."""
    source, target = (daemon.node.pods[0] for daemon in overlay.daemons)
    answers = ping(source.netns, target.address(version), size=size, timeout=0.5)
    return all(answer is not None and answer.echoed for answer in answers)


def shown(netns: Namespace, *command: str) -> list[dict[str, Any]]:
    """What ip(8) or bridge(8) says in a namespace."""
    program, *arguments = command
    result: list[dict[str, Any]] = json.loads(netns.run([program, "-json", *arguments]).stdout or "[]")
    return result


def routes(netns: Namespace) -> dict[str, tuple[str, str]]:
    """The routes that udplane made: destination -> (gateway, device)."""
    found = [shown(netns, "ip", family, "route", "show", "proto", "85") for family in ("-4", "-6")]
    return {route["dst"]: (route["gateway"], route["dev"]) for family in found for route in family}
