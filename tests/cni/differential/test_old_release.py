"""udplane's plugins beside an official release of 2022, Debian 12's: the plain life of an attachment with each plugin.

That release is what stable distributions carry. What it does otherwise than the current one stands in intended/old.py.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.cni.differential.cases.table import ALL_CASES
from tests.cni.differential.intended.old import OLD
from tests.cni.differential.intended.table import INTENDED
from tests.cni.differential.record import Record
from tests.cni.differential.scenario import Case
from tests.cni.differential.twin import Twin
from tests.cni.world.world import OLD_GO_PLUGINS, World, install_plugins, require_world

LIVES = (
    "bridge", "bridge-dual", "host-local", "static", "loopback", "ptp", "macvlan", "portmap", "tuning", "bandwidth",
    "firewall",
)  # fmt: skip
SAMPLE = [case for case in ALL_CASES if case.name in {f"version-1.0.0-{life}" for life in LIVES}]


@pytest.fixture(scope="module")
def twin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Twin]:
    require_world(OLD_GO_PLUGINS)
    ours = install_plugins(tmp_path_factory.mktemp("bin"), "--keep-warm", "60")
    with World(OLD_GO_PLUGINS) as go, World(ours) as udplane:
        yield Twin(go, udplane)


@pytest.mark.parametrize("case", SAMPLE, ids=repr)
def test_same_as_an_old_release(case: Case, twin: Twin, record: Record) -> None:
    record.judge(case.name, twin.run(case), (*OLD, *INTENDED))


@pytest.mark.alone("judges what all cases have seen")
def test_every_difference_of_old_releases_still_occurs(record: Record) -> None:
    coverage = record.read()
    if not coverage.cases.issuperset(case.name for case in SAMPLE):
        pytest.skip("only part of the cases ran: run the whole file to check the list of differences")
    stale = {entry.name for entry in OLD} - coverage.intended
    assert not stale, "remove from intended/old.py what no longer differs:\n" + "\n".join(sorted(stale))
