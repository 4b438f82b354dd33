"""Official and udplane's plugins on one node with one state: what one adds, the other checks and deletes.

build/tools/forky    the official ones of the current release       one node, one /var/lib/cni, one set of rules
/usr/lib/cni         those of an old one
/opt/cni/bin         udplane's                                      pod p1: eth0
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cni.differential.cases.protocol import MAY_BE_LACKING
from tests.cni.differential.scenario import DUAL_STACK, Conf, host_local, netconf
from tests.cni.world.kernel import require_kernel
from tests.cni.world.state import State, comparable, differences, without_counters
from tests.cni.world.world import (
    BIN_DIR,
    GO_PLUGINS,
    OLD_GO_PLUGINS,
    Done,
    World,
    cni_env,
    install_plugins,
    require_world,
)

PORTS = {"runtimeConfig": {"portMappings": [{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}]}}
LIMITS = {"ingressRate": 8000000, "ingressBurst": 8000000, "egressRate": 8000000, "egressBurst": 8000000}
BRIDGE = netconf("bridge", isGateway=True, ipMasq=True, ipam=host_local())
DUAL_BRIDGE = netconf("bridge", isGateway=True, ipMasq=True, ipam=DUAL_STACK)

# Chains of which each plugin's DEL and CHECK meet what the other maker's ADD made.
CHAINS: dict[str, tuple[Conf, ...]] = {
    "host-local": (netconf("host-local", ipam=DUAL_STACK),),
    "bridge": (BRIDGE,),
    "bridge-dual": (DUAL_BRIDGE,),
    "bridge-0.3.1": (netconf("bridge", "0.3.1", isGateway=True, ipMasq=True, ipam=host_local()),),
    "ptp": (netconf("ptp", ipMasq=True, ipam=host_local()),),
    "macvlan": (netconf("macvlan", master="m0", ipam=host_local()),),
    "vlan": (netconf("vlan", master="m0", vlanId=5, ipam=host_local()),),
    "ipvlan": (netconf("ipvlan", master="m0", ipam=host_local()),),
    "dummy": (netconf("dummy", ipam=host_local()),),
    "vrf": (BRIDGE, netconf("vrf", vrfname="blue")),
    "tap": (netconf("tap", ipam=host_local()),),
    "host-device": (netconf("host-device", device="m0", ipam=host_local()),),
    "portmap": (DUAL_BRIDGE, netconf("portmap", **PORTS)),
    "sbr": (BRIDGE, netconf("sbr")),
    "tuning": (BRIDGE, netconf("tuning", mtu=1400, mac="c2:c2:c2:c2:00:05")),
    "bandwidth": (BRIDGE, netconf("bandwidth", **LIMITS)),
    "firewall": (BRIDGE, netconf("firewall")),
}
MAKERS = {"official": str(GO_PLUGINS), "old": str(OLD_GO_PLUGINS), "udplane": BIN_DIR}
DIRECTIONS = [(one, "udplane") for one in ("official", "old")] + [("udplane", one) for one in ("official", "old")]
SINCE_1_2 = ("tap", "dummy")
"""Plugins that the old release does not have."""
# What the official plugins cannot know of: an index that udplane's make anew when they see that the store was changed,
# and what firewall and host-device remember until GC.
UNKNOWN_TO_OFFICIAL = ("/networks/.udplane/", "/run/cni/firewall", "/run/cni/host-device")
STORE = "/var/lib/cni/networks/net1"


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    require_world()
    with World(install_plugins(tmp_path_factory.mktemp("bin"))) as world:
        yield world


def call(node: World, maker: str, verb: str, conf: Conf) -> Done:
    directory = MAKERS[maker]
    return node.plugin(conf["type"], verb, conf, {"CNI_PATH": directory}, directory)


def add(node: World, maker: str, chain: tuple[Conf, ...]) -> Any:
    """The chain's result."""
    extra: Conf = {}
    for conf in chain:
        done = call(node, maker, "ADD", conf | extra)
        assert done.exit == 0, done.stdout
        extra = {"prevResult": done.json}
    return extra["prevResult"]


def delete(node: World, maker: str, chain: tuple[Conf, ...], result: Any) -> State:
    """DEL with the result, as runtimes do since 0.4.0; the state afterwards."""
    for conf in reversed(chain):
        done = call(node, maker, "DEL", conf | {"prevResult": result})
        assert (done.exit, done.stdout) == (0, "")
    state = without_counters(comparable(node.snapshot("p1")))
    return {path: value for path, value in state.items() if not any(part in path for part in UNKNOWN_TO_OFFICIAL)}


def warmed_up(node: World, makers: tuple[str, str], chain: tuple[Conf, ...]) -> State:
    """A node on which these makers' plugins have come and gone, so that what they leave on purpose is there."""
    for maker in makers:
        if maker != "udplane":
            require_world(Path(MAKERS[maker]))
    require_kernel(node, *(kind for kind in MAY_BE_LACKING if kind in {conf["type"] for conf in chain}))
    node.reset("p1")
    node.sh("ip link add m0 type veth peer name m1; ip link set m0 up; ip link set m1 up")
    for maker in makers:
        state = delete(node, maker, chain, add(node, maker, chain))
    return state


def directions_of(name: str) -> list[tuple[str, str]]:
    """Who adds and who comes after; the old release lacks some plugins."""
    return [direction for direction in DIRECTIONS if name not in SINCE_1_2 or "old" not in direction]


@pytest.mark.parametrize(
    ("name", "adder", "deleter"), [(name, *direction) for name in CHAINS for direction in directions_of(name)]
)
def test_delete_what_the_other_added(name: str, adder: str, deleter: str, node: World) -> None:
    before = warmed_up(node, (adder, deleter), CHAINS[name])
    result = add(node, adder, CHAINS[name])
    assert differences(before, delete(node, deleter, CHAINS[name], result)) == {}


CHECKED = [name for name in CHAINS if name != "bridge-0.3.1"]  # CHECK is not of 0.3.1
# The official portmap's looks for a comment without the interface, the old one's finds fault with its own ADD, and the
# bridge's with what sbr moves.
ONE_WAY = ("portmap", "sbr")


@pytest.mark.parametrize(
    ("name", "adder", "checker"),
    [
        (name, *direction)
        for name in CHECKED
        for direction in directions_of(name)
        if name not in ONE_WAY or direction[1] == "udplane"
    ],
)
def test_check_what_the_other_added(name: str, adder: str, checker: str, node: World) -> None:
    warmed_up(node, (adder, checker), CHAINS[name])
    result = add(node, adder, CHAINS[name])
    for conf in CHAINS[name]:
        done = call(node, checker, "CHECK", conf | {"prevResult": result})
        assert (done.exit, done.stdout) == (0, ""), conf["type"]


def test_both_allocate_from_one_store_at_once(node: World) -> None:
    require_world(GO_PLUGINS)
    node.reset()
    conf = netconf("any", ipam=host_local())
    env = " ".join(f"{key}={value}" for key, value in cni_env("ADD", CNI_CONTAINERID="c$1").items())
    alternate = f'if [ $(($1 % 2)) = 0 ]; then dir="{GO_PLUGINS}"; else dir="{BIN_DIR}"; fi'
    script = f'{alternate}; {env} "$dir/host-local" < /run/conf > /run/out-$1 || cat /run/out-$1 >&2'
    node.write("/run/conf", json.dumps(conf))
    done = node.run("sh", "-c", f"seq 60 | xargs -P 8 -n 1 sh -c '{script}' sh")
    assert (done.exit, done.stderr) == (0, "")
    reserved = node.sh(f"cd {STORE}; ls | grep '^10\\.'").split()
    owners = node.sh(f"cd {STORE}; for f in 10.*; do head -n 1 $f; done").replace("\r", "").split()
    assert len(reserved) == 60
    assert sorted(owners) == sorted(f"c{number}" for number in range(1, 61))
