"""Two nodes whose daemons are started anew by the tests, with and without faults; the pods stay.

pod1 -- node1  udplane up --- underlay: plain veth --- udplane up  node2 -- pod2
"""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from bench.integrity import without
from dataplane.lab.overlay import Daemon, Overlay
from dataplane.lab.ping import ping
from dataplane.lab.topology import Lab, Node, Pod
from dataplane.node.control import ControlClient
from dataplane.node.run_directory import RunDirectory
from tests.engines.conftest import available
from tests.offloads.faults import Faults

ALL_ON = ("--no-offload", "")
"""Flags that win over UDPLANE_NO_OFFLOAD, so that these tests say the same in a run without offloads."""


@dataclass(frozen=True, slots=True)
class Pair:
    """The two nodes while their daemons run."""

    daemons: Sequence[Daemon]

    @property
    def nodes(self) -> list[Node]:
        """node1 and node2."""
        return [daemon.node for daemon in self.daemons]

    @property
    def pods(self) -> tuple[Pod, Pod]:
        """pod1 and pod2."""
        first, second = self.nodes
        return first.pods[0], second.pods[0]

    def status(self, node: int) -> Any:
        """What node 0 or 1 tells on its control socket."""
        return ControlClient(RunDirectory(self.daemons[node].directory / "run").control_socket).status()

    def features(self, node: int) -> dict[str, str]:
        """The offloads of a node as its status has them."""
        features: dict[str, str] = self.status(node)["backend"]["features"]
        return features

    def packets(self, node: int, direction: str) -> int:
        """What a node has forwarded, "encap" or "decap"."""
        return int(self.status(node)["counters"][direction]["packets"])

    def drops(self, node: int, direction: str) -> dict[str, int]:
        """What a node has dropped, by reason, but for the multicast that each host sends when a device comes up."""
        drops = self.status(node)["counters"][direction]["drops"]
        return {reason: count for reason, count in drops.items() if count and reason != "no_route"}


Start = Callable[..., AbstractContextManager[Pair]]
"""Starts both daemons with the flags given, for the length of a `with` block."""


@pytest.fixture(scope="package")
def base(tun_device: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Overlay]:
    """The lab with its pods."""
    if not available("native"):
        pytest.skip("the C extension is not built: run ./dev test, or pip install -e .")
    with Lab(prefix=f"udp{os.getpid()}-off-") as lab:
        for _ in range(2):
            lab.add_node()
        with Overlay(lab, tmp_path_factory.mktemp("offloads"), flags=ALL_ON) as overlay:
            overlay.up(pods_per_node=1)
            first, second = (node.pods[0] for node in lab.nodes)
            for version in (4, 6):  # neighbours are known from here on
                assert all(ping(first.netns, second.address(version)))
            yield overlay


@pytest.fixture(scope="package")
def faults(base: Overlay) -> Faults:
    """The faults of all daemons that `start_faulty` starts."""
    return Faults(base.directory)


class Shared:
    """The daemons with every offload, which go on from test to test until one starts others in their place."""

    def __init__(self, base: Overlay) -> None:
        self._base = base
        self._stack = ExitStack()
        self._pair: Pair | None = None

    def pair(self) -> Pair:
        """Those daemons, started if they do not run."""
        if self._pair is None:
            self._pair = Pair(self._stack.enter_context(without(self._base, (), *ALL_ON)))
        return self._pair

    def end(self) -> None:
        """Stop them. May be called again."""
        self._pair = None
        self._stack.close()


@pytest.fixture(scope="package")
def shared(base: Overlay) -> Iterator[Shared]:
    shared = Shared(base)
    yield shared
    shared.end()


@pytest.fixture
def pair(shared: Shared) -> Pair:
    """Daemons with every offload."""
    return shared.pair()


@pytest.fixture
def start(base: Overlay, shared: Shared) -> Start:
    """Start both daemons, without faults."""

    @contextmanager
    def started(*flags: str) -> Iterator[Pair]:
        shared.end()
        with without(base, (), *flags) as daemons:
            yield Pair(daemons)

    return started


@pytest.fixture
def start_faulty(base: Overlay, shared: Shared, faults: Faults) -> Start:
    """Start both daemons so that they meet the faults."""

    @contextmanager
    def started(*flags: str) -> Iterator[Pair]:
        shared.end()
        with ExitStack() as stack:
            with faults.within():
                daemons = stack.enter_context(without(base, (), *(flags or ALL_ON)))
            yield Pair(daemons)

    faults.clear()
    return started
