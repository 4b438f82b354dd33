"""The worlds of a file's tests, each made when the first test asks for it."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import cache

import pytest

from tests.lab.walks.worlds import World, world


@pytest.fixture(scope="module")
def worlds(tun_device: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], World]]:
    with ExitStack() as stack:
        yield cache(lambda name: stack.enter_context(world(name, tmp_path_factory.mktemp("world"))))


@pytest.fixture
def each_world(request: pytest.FixtureRequest, worlds: Callable[[str], World]) -> World:
    """The one that the test is parametrized with."""
    return worlds(request.param)
