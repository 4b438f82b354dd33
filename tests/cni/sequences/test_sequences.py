"""Random sequences of all verbs over several networks and pods, with a model as oracle.

    UDPLANE_CNI_SEQUENCES=1000 ./dev test tests/cni/sequences       many
    UDPLANE_CNI_SEED=4711 ./dev test tests/cni/sequences            the first of them; a failure names it

In the suite there are a few, always the same.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cni.sequences.sequence import Sequence
from tests.cni.test_warm import require_warm
from tests.cni.world.world import World, install_plugins

COUNT = int(os.environ.get("UDPLANE_CNI_SEQUENCES", "6"))
SEED = int(os.environ.get("UDPLANE_CNI_SEED", "1"))
STEPS = 16


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    require_warm()
    with World(install_plugins(Path(tmp_path_factory.mktemp("bin")), "--keep-warm", "60")) as node:
        yield node


@pytest.mark.parametrize("seed", range(SEED, SEED + COUNT))
def test_no_live_pod_is_touched_and_nothing_is_left(seed: int, world: World) -> None:
    sequence = Sequence(world, seed)
    try:
        sequence.run(STEPS)
        left = sequence.end()
    except AssertionError as error:
        raise AssertionError(f"{error}\nafter: " + "\n       ".join(sequence.history)) from error
    assert not left, "\n".join([*left, "after:", *sequence.history])
