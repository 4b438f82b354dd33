"""The harness tested on itself: the official plugins on both nodes agree, and a planted difference is found.

Each planted difference is a wrapper around one official plugin, on the second node alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cni.differential.cases.bridge import conf
from tests.cni.differential.cases.table import ALL_CASES
from tests.cni.differential.scenario import Case, add, delete
from tests.cni.differential.twin import Twin
from tests.cni.world.kernel import require_kernel
from tests.cni.world.world import GO_PLUGINS, World, require_world

# There the official tuning prints where its memory has the value, instead of the value.
BY_CHANCE = ("tuning-check-all-multicast", "tuning-check-queue-length")
SAMPLE = [case for case in ALL_CASES if case.name not in BY_CHANCE][::25]
MASQUERADE = conf(isGateway=True, ipMasq=True)
LIFE = Case("planted", add("bridge", MASQUERADE), delete("bridge", MASQUERADE))

# What the wrapper does after the real plugin -> the path of the difference it must cause.
PLANTED = {
    "exit 3": "exit",
    "echo": "stdout",
    "ip link set cni0 mtu 1400": "node/links/cni0/mtu",
    "nsenter --net=$CNI_NETNS ip addr add 10.9.0.200/32 dev eth0": "p1/links/eth0/addresses",
    "ip route add 203.0.113.0/24 dev cni0": "node/routes",
    "nsenter --net=$CNI_NETNS sysctl -q net.ipv4.conf.eth0.arp_filter=1": "p1/sysctls/ipv4/conf/eth0/arp_filter",
    "iptables -t nat -A POSTROUTING -s 203.0.113.1 -j ACCEPT": "rules/ip nat/POSTROUTING",
    "nft add table inet planted": "rules/inet planted/listing",
    "touch /var/lib/cni/networks/planted": "files//var/lib/cni/networks/planted",
    "chmod 600 /var/lib/cni/networks/net1/lock": "files//var/lib/cni/networks/net1/lock",
    "tc qdisc add dev cni0 root handle 5: pfifo": "node/qdiscs/cni0/pfifo 5:",
}


def test_cases_have_names_of_their_own_and_are_many() -> None:
    names = [case.name for case in ALL_CASES]
    assert len(names) == len(set(names))
    assert len(names) >= 400


@pytest.fixture(scope="module")
def go_twins() -> Iterator[Twin]:
    require_world(GO_PLUGINS)
    with World(GO_PLUGINS) as first, World(GO_PLUGINS) as second:
        yield Twin(first, second)


@pytest.mark.parametrize("case", SAMPLE, ids=repr)
def test_official_plugins_agree_with_themselves(case: Case, go_twins: Twin) -> None:
    require_kernel(go_twins.kernel, *case.needs)
    assert [str(difference) for difference in go_twins.run(case)] == []


@pytest.fixture(scope="module")
def planted_twins(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Twin, Path]]:
    """Two nodes, the second of which takes its plugins from a directory that the test fills."""
    require_world(GO_PLUGINS)
    plugins = tmp_path_factory.mktemp("planted")
    (plugins / "host-local").symlink_to(GO_PLUGINS / "host-local")
    with World(GO_PLUGINS) as first, World(plugins) as second:
        yield Twin(first, second), plugins


@pytest.mark.parametrize("command", PLANTED)
def test_planted_difference_is_found(command: str, planted_twins: tuple[Twin, Path]) -> None:
    twin, plugins = planted_twins
    wrapper = plugins / "bridge"
    wrapper.write_text(f'#!/bin/sh\n"{GO_PLUGINS}/bridge"\nif [ "$CNI_COMMAND" = ADD ]; then {command}; fi\n')
    wrapper.chmod(0o755)
    found = {difference.path for difference in twin.run(LIFE) if difference.step == "1 ADD bridge"}
    assert PLANTED[command] in found
