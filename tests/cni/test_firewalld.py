"""firewall where firewalld runs: a stand-in for it on a real D-Bus daemon, which the official plugin asks as well."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cni.node import call, collect, conf, refused, rules, wired
from tests.cni.world.world import BIN_DIR, GO_PLUGINS, World, cni_env

STAND_IN = Path(__file__).with_name("firewalld_stand_in.py")
STATE = "/run/firewalld-stand-in"
BUS = """<busconfig><type>system</type><listen>unix:path=/run/dbus/system_bus_socket</listen><auth>EXTERNAL</auth>
<policy context="default"><allow user="*"/><allow own="*"/><allow send_type="method_call"/><allow send_destination="*"/>
<allow receive_sender="*"/></policy></busconfig>
"""
PROGRAMS = "/run/programs"
WITH_FIREWALLD = {"PATH": f"{PROGRAMS}:/usr/sbin:/usr/bin:/sbin:/bin"}
FIREWALLD = conf("firewall", backend="firewalld")


@pytest.fixture
def firewalld(node: World) -> Iterator[World]:
    """The node with a bus, and the stand-in on it."""
    pytest.importorskip("jeepney", reason="needs jeepney: pip install jeepney")
    missing = [program for program in ("dbus-daemon", "busctl") if shutil.which(program) is None]
    if missing:
        pytest.skip(f"needs {', '.join(missing)}: apt-get install dbus systemd")
    node.write("/run/bus.conf", BUS)
    node.sh(f"mkdir -p /run/dbus {PROGRAMS}; ln -s /bin/true {PROGRAMS}/firewalld")
    bus = node.start("dbus-daemon", "--nofork", "--config-file=/run/bus.conf", log="/run/bus.log")
    node.sh("timeout 20 sh -c 'until test -S /run/dbus/system_bus_socket; do sleep 0.02; done'")
    stand_in = node.start(sys.executable, str(STAND_IN), STATE, log="/run/stand-in.log")
    owned = "busctl call org.freedesktop.DBus / org.freedesktop.DBus GetNameOwner s org.fedoraproject.FirewallD1"
    node.sh(f"timeout 20 sh -c 'until {owned}; do sleep 0.02; done' || cat /run/stand-in.log /run/bus.log >&2")
    yield node
    for pid in (stand_in, bus):
        node.stop(pid)


def sources(node: World) -> dict[str, list[str]]:
    zones: dict[str, list[str]] = json.loads(node.sh(f"cat {STATE}"))
    return zones


def calls(node: World) -> list[str]:
    lines = node.sh(f"cat {STATE}.calls; : >{STATE}.calls").splitlines()
    return [line for line in lines if not line.startswith("querySource")]


def addresses(chained: dict[str, Any]) -> list[str]:
    ips = [ip["address"].partition("/")[0] for ip in chained["prevResult"]["ips"]]
    return [f"{ip}/{128 if ':' in ip else 32}" for ip in ips]


def test_the_same_calls_as_the_official_plugin(firewalld: World) -> None:
    if not (GO_PLUGINS / "firewall").exists():
        pytest.skip(f"needs the official plugins in {GO_PLUGINS}")
    chained = wired(firewalld)
    made = {}
    for directory in (str(GO_PLUGINS), BIN_DIR):
        for verb in ("ADD", "ADD", "CHECK", "DEL"):
            done = firewalld.plugin("firewall", verb, {**FIREWALLD, **chained}, directory=directory)
            assert done.exit == 0, (directory, verb, done)
        made[directory] = calls(firewalld)
    assert made[BIN_DIR] == made[str(GO_PLUGINS)] != []


@pytest.mark.parametrize("zone", ["trusted", "public"])
def test_a_pods_addresses_are_sources_of_the_zone(zone: str, firewalld: World) -> None:
    chained = wired(firewalld)
    netconf = {**FIREWALLD, "firewalldZone": zone}
    before = rules(firewalld)
    call(firewalld, "ADD", {**netconf, **chained})
    assert sources(firewalld)[zone] == addresses(chained)
    assert rules(firewalld) == before
    call(firewalld, "CHECK", {**netconf, **chained})
    for _ in range(2):
        call(firewalld, "DEL", FIREWALLD, CNI_NETNS="")
    assert sources(firewalld)[zone] == []
    assert firewalld.sh("ls /run/cni/firewall") == ""


@pytest.mark.parametrize("backend", ["", "iptables", "firewalld"])
def test_who_is_asked_without_a_backend(backend: str, firewalld: World) -> None:
    """firewalld, where it runs."""
    chained = wired(firewalld)
    netconf = conf("firewall", backend=backend)
    call(firewalld, "ADD", {**netconf, **chained}, **WITH_FIREWALLD)
    by_iptables = backend == "iptables"
    assert bool(sources(firewalld)["trusted"]) != by_iptables
    assert ("CNI-FORWARD" in rules(firewalld)) == by_iptables
    call(firewalld, "DEL", conf("firewall", backend="iptables"))
    assert sources(firewalld)["trusted"] == []
    assert addresses(chained)[0] not in rules(firewalld)


def test_isolation_is_made_by_iptables(firewalld: World) -> None:
    bridge = conf("bridge", isGateway=True, ipam={"type": "host-local", "subnet": "10.9.0.0/24"})
    chained = {"prevResult": call(firewalld, "ADD", bridge)}
    call(firewalld, "ADD", {**FIREWALLD, "ingressPolicy": "same-bridge", **chained})
    assert "CNI-ISOLATION-STAGE-1" in rules(firewalld)
    assert "CNI-FORWARD" not in rules(firewalld)
    assert sources(firewalld)["trusted"] == addresses(chained)


def test_gc_and_what_goes_wrong(firewalld: World) -> None:
    kept, gone = wired(firewalld, "p1"), wired(firewalld, "p2")
    for pod, chained in (("p1", kept), ("p2", gone)):
        call(firewalld, "ADD", {**FIREWALLD, **chained}, pod)
    collect(firewalld, conf("firewall"), "p1")
    assert sources(firewalld)["trusted"] == addresses(kept)
    assert "failed to find the address" in refused(firewalld, "CHECK", {**FIREWALLD, **gone}, "p2")["msg"]
    error = refused(firewalld, "ADD", {**FIREWALLD, "firewalldZone": "nowhere", **gone}, "p2")
    assert error["msg"].startswith(f"failed to add the address {addresses(gone)[0]} to nowhere zone: ")
    assert "INVALID_ZONE" in error["msg"]
    assert len(firewalld.sh("ls /run/cni/firewall").split()) == 1


def test_a_pod_can_go_where_nobody_can_ask_firewalld(node: World) -> None:
    chained = wired(node)
    if hidden := shutil.which("busctl"):
        node.sh(f"mount --bind /dev/null {hidden}")
    try:
        assert "busctl, which is not installed" in refused(node, "ADD", {**FIREWALLD, **chained})["msg"]
        assert node.sh("ls /run/cni/firewall") == ""
        call(node, "DEL", {**FIREWALLD, **chained})
    finally:
        if hidden:
            node.sh(f"umount {hidden}")


def test_without_firewalld(node: World) -> None:
    chained = wired(node)
    assert "failed to add the address" in refused(node, "ADD", {**FIREWALLD, **chained})["msg"]
    env = cni_env("STATUS", CNI_CONTAINERID=None, CNI_NETNS=None, CNI_IFNAME=None)
    done = node.plugin("firewall", "STATUS", FIREWALLD, env)
    assert (done.exit, done.json["code"], done.json["msg"]) == (1, 50, "firewalld is not running")
    call(node, "DEL", FIREWALLD)
    assert node.sh("ls /run/cni/firewall") == ""
