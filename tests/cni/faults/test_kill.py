"""kill -9 between any two steps of ADD and of DEL; then one DEL, or one GC, and the node is as it was.

node: cni0, rules, state                      pod p1: eth0
  ADD --- step --- step --- killed      (every step in turn, in every plugin of the chain)
  DEL or GC
  compare links, addresses, routes, sysctls, rules and state files with those before
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from itertools import count

import pytest

from tests.cni.faults.chain import CHAINS, Chain, settle, state_of
from tests.cni.world.state import State, differences
from tests.cni.world.world import World, install_plugins, require_world

RECOVERIES: dict[str, Callable[[Chain], object]] = {
    "DEL": Chain.delete,
    "GC": Chain.collect,
    "GC after the pod": Chain.collect_without_pod,
}
# These live in the pod alone, where GC, which is told no namespace, does not reach: they have to go with the pod.
COMBINATIONS = [
    *((name, verb, "DEL") for name in CHAINS for verb in ("ADD", "DEL")),
    ("flannel", "ADD", "GC"),
    ("flannel", "DEL", "GC"),
    ("bridge", "ADD", "GC"),
    ("ptp", "ADD", "GC"),
    ("macvlan", "ADD", "GC after the pod"),
    ("tap", "ADD", "GC after the pod"),
    ("sbr", "ADD", "GC after the pod"),
    ("host-device", "ADD", "GC"),
    ("host-device", "DEL", "GC"),
]


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A node that keeps an interpreter warm, for all the calls that are not killed."""
    require_world()
    with World(install_plugins(tmp_path_factory.mktemp("bin"), "--keep-warm", "60")) as world:
        yield world


@pytest.mark.parametrize(("name", "verb", "recovery"), COMBINATIONS)
def test_one_recovery_after_a_kill_restores_the_node(
    name: str, verb: str, recovery: str, node: World, fresh_chain: Callable[[str], Chain]
) -> None:
    chain = fresh_chain(name)
    before = settle(chain, node)
    killed = 0
    for kind in chain.kinds:
        for step in count(1):
            if not chain.call_and_kill(verb, kind, step):
                break
            killed += 1
            RECOVERIES[recovery](chain)
            left = wait_for_state(node, before)
            assert not left, f"{verb} of {kind} killed before step {step}, then {recovery}"
        chain.delete()
    assert killed > len(chain.kinds), "the steps were not seen"


def test_add_killed_on_a_fresh_node_does_not_hinder_the_next(node: World, fresh_chain: Callable[[str], Chain]) -> None:
    """The bridge is made by an ADD that does not live to finish it."""
    after = settle(fresh_chain("flannel"), node)
    for step in count(1):
        chain = fresh_chain("flannel")
        if not chain.call_and_kill("ADD", "flannel", step):
            break
        assert chain.delete().exit == 0
        assert settle(chain, node) == after, f"ADD killed before step {step}"


def wait_for_state(node: World, expected: State) -> dict[str, tuple[object, object]]:
    """What differs from the expected state; the kernel is given 10 s to take a dead namespace's links away."""
    deadline = time.monotonic() + 10
    while (left := differences(expected, state_of(node))) and time.monotonic() < deadline:
        pass
    return left
