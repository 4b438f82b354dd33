"""What the tests of the plugins share: the plugins, installed once, and a node to run them on."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from cni.lib.start_state import UMASK
from tests.cni.world.world import World, install_plugins, require_world


@pytest.fixture(scope="session", autouse=True)
def plugins_umask() -> Iterator[None]:
    """Of a plugin's code that runs in this process: the one that a plugin gives itself."""
    former = os.umask(UMASK)
    yield
    os.umask(former)


@pytest.fixture(scope="session")
def plugin_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bin directory with udplane's plugins."""
    return install_plugins(tmp_path_factory.mktemp("bin"))


@pytest.fixture(scope="module")
def shared_node(plugin_dir: Path) -> Iterator[World]:
    """A node that the tests of one module share; each resets it."""
    require_world()
    with World(plugin_dir) as world:
        yield world


@pytest.fixture
def node(shared_node: World) -> World:
    """The node as if freshly booted, with two pods, p1 and p2."""
    shared_node.reset("p1", "p2")
    return shared_node
