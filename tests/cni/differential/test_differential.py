"""udplane's plugins beside the official Go plugins: the same calls on two twin nodes must have the same outcome.

    world "Go"                               world "udplane"
    /opt/cni/bin = release 1.9.1             /opt/cni/bin = python -m cni.install
    node: cni0, veths, rules, state          node: cni0, veths, rules, state
    pods: /run/netns/p1, p2                  pods: /run/netns/p1, p2
          \\________________ the same CNI_* and stdin ________________/

Compared after every call: exit status, standard output byte for byte, links, addresses, routes, queueing and sysctls of
the node and of each pod, firewall rules, and every state file with its mode. What udplane does otherwise on purpose
stands in intended/; a difference that is not there fails, and so does an entry that has come true nowhere. The warm
interpreter is what differs most from a plugin that simply starts, so it is the one that is compared; the other tests of
the plugins do without.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.cni.differential.cases.table import ALL_CASES
from tests.cni.differential.intended.entry import matches
from tests.cni.differential.intended.table import INTENDED
from tests.cni.differential.record import Record
from tests.cni.differential.scenario import Case
from tests.cni.differential.twin import Twin
from tests.cni.world.kernel import require_kernel
from tests.cni.world.world import GO_PLUGINS, World, install_plugins, require_world


@pytest.fixture(scope="module")
def twin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Twin]:
    require_world(GO_PLUGINS)
    ours = install_plugins(tmp_path_factory.mktemp("bin"), "--keep-warm", "60")
    with World(GO_PLUGINS) as go, World(ours) as udplane:
        yield Twin(go, udplane)


def marked(case: Case) -> Any:
    """The case as a parameter; with needs, it is one for other kernels too."""
    return pytest.param(case, id=case.name, marks=[pytest.mark.kernels] if case.needs else [])


@pytest.mark.parametrize("case", [*map(marked, ALL_CASES)])
def test_same_as_official_plugins(case: Case, twin: Twin, record: Record) -> None:
    try:
        require_kernel(twin.kernel, *case.needs)
    except pytest.skip.Exception:
        record.skipped(case.name)
        raise
    record.judge(case.name, twin.run(case), INTENDED)


@pytest.mark.alone("judges what all cases have seen")
def test_every_intended_difference_still_occurs(record: Record) -> None:
    coverage = record.read()
    if len(coverage.cases | coverage.skipped) < len(ALL_CASES):
        pytest.skip("only part of the cases ran: run the whole file to check the list of intended differences")
    judged = [entry for entry in INTENDED if not any(matches(case, entry.cases) for case in coverage.skipped)]
    stale = {entry.name for entry in judged} - coverage.intended
    assert not stale, "remove from intended/ what no longer differs:\n" + "\n".join(sorted(stale))
