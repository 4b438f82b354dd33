"""What the fault tests share: a node with udplane's plugins, and the things a node has before its first pod."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.cni.differential.cases.protocol import MAY_BE_LACKING
from tests.cni.faults.chain import CHAINS, Chain
from tests.cni.world.kernel import require_kernel
from tests.cni.world.world import World, install_plugins, require_world


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    require_world()
    with World(install_plugins(tmp_path_factory.mktemp("bin"))) as world:
        yield world


@pytest.fixture
def fresh_chain(node: World) -> Callable[[str], Chain]:
    """Gives one of CHAINS on a freshly booted node with the pod p1, a subnet.env, and m0 for macvlan."""

    def prepare(name: str) -> Chain:
        require_kernel(node, *(kind for kind in MAY_BE_LACKING if kind in {conf["type"] for conf in CHAINS[name]}))
        node.reset("p1")
        node.sh("ip link add m0 type veth peer name m1; ip link set m0 up; ip link set m1 up")
        node.write_subnet_env()
        return Chain(node, *CHAINS[name])

    return prepare
