"""A world for the tests of a file, made anew for each name that they are parametrized with."""

from collections.abc import Iterator

import pytest

from tests.lab.walks.worlds import World, world


@pytest.fixture(scope="module")
def each_world(
    request: pytest.FixtureRequest, tun_device: None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[World]:
    with world(request.param, tmp_path_factory.mktemp("world")) as made:
        yield made
