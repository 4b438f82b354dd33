"""dummy, vlan, ipvlan and vrf: the plugins whose links not every kernel has."""

from __future__ import annotations

from collections.abc import Iterator

from tests.cni.differential.cases.protocol import MASTER, RESULT
from tests.cni.differential.scenario import (
    DUAL_STACK,
    Call,
    Case,
    Conf,
    Shell,
    Step,
    add,
    check,
    delete,
    host_local,
    life,
    netconf,
)

ROUTED = host_local(routes=[{"dst": "0.0.0.0/0"}, {"dst": "10.50.0.0/16", "gw": "10.9.0.7"}])
DNS: Conf = {"nameservers": ["10.0.0.1"]}

DUMMY: dict[str, Conf] = {
    "plain": {"ipam": host_local()},
    "dual": {"ipam": DUAL_STACK},
    "routes": {"ipam": ROUTED},
    "ipam-fails": {"ipam": {"type": "host-local"}},
}
DUMMY_REFUSED: dict[str, Conf] = {"no-ipam": {}, "ipam-without-type": {"ipam": {}}}

VLAN: dict[str, Conf] = {
    "plain": {"master": "m0", "vlanId": 5, "ipam": host_local()},
    "zero": {"master": "m0", "ipam": host_local()},
    "largest": {"master": "m0", "vlanId": 4094, "ipam": host_local()},
    "dual": {"master": "m0", "vlanId": 5, "ipam": DUAL_STACK},
    "routes": {"master": "m0", "vlanId": 5, "ipam": ROUTED},
    "dns": {"master": "m0", "vlanId": 5, "ipam": host_local(), "dns": DNS},
    "mtu": {"master": "m0", "vlanId": 5, "mtu": 1400, "ipam": host_local()},
    "in-container": {"master": "c0", "vlanId": 5, "linkInContainer": True, "ipam": host_local()},
    "ipam-fails": {"master": "m0", "vlanId": 5, "ipam": {"type": "host-local"}},
    "no-ipam": {"master": "m0", "vlanId": 5},
}
VLAN_REFUSED: dict[str, Conf] = {
    "no-master": {"vlanId": 5, "ipam": host_local()},
    "master-missing": {"master": "nope", "vlanId": 5, "ipam": host_local()},
    "in-container-master-missing": {"master": "nope", "vlanId": 5, "linkInContainer": True, "ipam": host_local()},
    "too-large": {"master": "m0", "vlanId": 4095, "ipam": host_local()},
    "negative": {"master": "m0", "vlanId": -1, "ipam": host_local()},
    "text": {"master": "m0", "vlanId": "5", "ipam": host_local()},
    "mtu-too-large": {"master": "m0", "vlanId": 5, "mtu": 9000, "ipam": host_local()},
    "mtu-negative": {"master": "m0", "vlanId": 5, "mtu": -1, "ipam": host_local()},
}

IPVLAN: dict[str, Conf] = {
    "plain": {"master": "m0", "ipam": host_local()},
    "l3": {"master": "m0", "mode": "l3", "ipam": host_local()},
    "l3s": {"master": "m0", "mode": "l3s", "ipam": host_local()},
    "dual": {"master": "m0", "ipam": DUAL_STACK},
    "routes": {"master": "m0", "ipam": ROUTED},
    "dns": {"master": "m0", "ipam": host_local(), "dns": DNS},
    "mtu": {"master": "m0", "mtu": 1400, "ipam": host_local()},
    "mtu-larger-than-the-masters": {"master": "m0", "mtu": 9000, "ipam": host_local()},
    "in-container": {"master": "c0", "linkInContainer": True, "ipam": host_local()},
    "ipam-fails": {"master": "m0", "ipam": {"type": "host-local"}},
    "no-ipam": {"master": "m0"},
}
IPVLAN_REFUSED: dict[str, Conf] = {
    "mode-unknown": {"master": "m0", "mode": "l4", "ipam": host_local()},
    "master-missing": {"master": "nope", "ipam": host_local()},
    "master-default-none": {"ipam": host_local()},
    "chained-without-interfaces": {"ipam": host_local(), "prevResult": {"cniVersion": "1.0.0"}},
}
INNER = Shell("ip link add c0 type veth peer name c1; ip link set c0 up; ip link set c1 up", "p1")
BRIDGE = netconf("bridge", isGateway=True, ipam=ROUTED)
DUAL_BRIDGE = netconf("bridge", isGateway=True, ipam=DUAL_STACK)
PTP = netconf("ptp", ipam=ROUTED)


def cases() -> Iterator[Case]:
    """All cases of the four plugins."""
    kinds: list[tuple[str, dict[str, Conf], tuple[str, ...]]] = [
        ("dummy", DUMMY, ("dummy",)), ("dummy", DUMMY_REFUSED, ()), ("vlan", VLAN, ("vlan",)),
        ("vlan", VLAN_REFUSED, ()), ("ipvlan", IPVLAN, ("ipvlan",)), ("ipvlan", IPVLAN_REFUSED, ()),
    ]  # fmt: skip
    for kind, confs, needs in kinds:
        for name, keys in confs.items():
            yield Case(f"{kind}-{name}", MASTER, INNER, *life(kind, netconf(kind, **keys)), needs=needs)
    for name, steps in (dummy_situations() | vlan_situations() | ipvlan_situations() | vrf_situations()).items():
        yield Case(name, *steps, pods=("p1", "p2"), needs=(name.partition("-")[0],))
    vrf = netconf("vrf", vrfname="blue")
    yield Case("vrf-refused-not-chained", add("vrf", vrf), Call("vrf", "CHECK", vrf), delete("vrf", vrf))
    yield Case("vrf-refused-no-name", add("vrf", netconf("vrf", prevResult=RESULT)))
    yield Case("vrf-refused-table", add("vrf", netconf("vrf", vrfname="blue", table=-1, prevResult=RESULT)))
    yield Case("vrf-refused-old-version", add("vrf", netconf("vrf", "0.3.0", vrfname="blue", prevResult=RESULT)))


def dummy_situations() -> dict[str, tuple[Step, ...]]:
    """dummy with more than one pod, and what it finds in the pod."""
    conf = netconf("dummy", ipam=host_local())
    return {
        "dummy-two-pods": (add("dummy", conf), add("dummy", conf, "p2"), delete("dummy", conf)),
        "dummy-interface-exists": (
            Shell("ip link add eth0 type dummy", "p1"), add("dummy", conf), delete("dummy", conf),
        ),
        "dummy-name-that-the-node-has-too": (Shell("ip link add eth0 type dummy"), *life("dummy", conf)),
        "dummy-del-without-netns": (add("dummy", conf), delete("dummy", conf, CNI_NETNS="")),
        "dummy-del-with-result": (add("dummy", conf), delete("dummy", conf, after=True)),
        "dummy-check-without-result": (add("dummy", conf), Call("dummy", "CHECK", conf)),
        "dummy-check-down": (add("dummy", conf), Shell("ip link set eth0 down", "p1"), check("dummy", conf)),
        "dummy-check-other-kind": (
            add("dummy", conf), Shell("ip link del eth0; ip link add eth0 type veth peer name eth9", "p1"),
            check("dummy", conf),
        ),
        "dummy-check-interface-missing": (add("dummy", conf), Shell("ip link del eth0", "p1"), check("dummy", conf)),
    }  # fmt: skip


def vlan_situations() -> dict[str, tuple[Step, ...]]:
    """vlan with more than one netconf or pod, and what it finds on the node and in the pod."""
    conf = netconf("vlan", master="m0", vlanId=5, ipam=host_local())
    other = netconf("vlan", master="m0", vlanId=6, ipam=host_local())
    taken = Shell("ip link add eth0 type veth peer name eth9", "p1")
    return {
        "vlan-two-pods": (MASTER, add("vlan", conf), add("vlan", other, "p2"), delete("vlan", conf)),
        "vlan-that-is-taken": (MASTER, add("vlan", conf), add("vlan", conf, "p2"), delete("vlan", conf, "p2")),
        "vlan-interface-exists": (MASTER, taken, add("vlan", conf), delete("vlan", conf)),
        "vlan-del-without-netns": (MASTER, add("vlan", conf), delete("vlan", conf, CNI_NETNS="")),
        "vlan-del-after-master-is-gone": (MASTER, add("vlan", conf), Shell("ip link del m0"), delete("vlan", conf)),
        "vlan-del-with-result": (MASTER, add("vlan", conf), delete("vlan", conf, after=True)),
        "vlan-check-without-result": (MASTER, add("vlan", conf), Call("vlan", "CHECK", conf)),
        "vlan-check-other-vlan": (MASTER, add("vlan", conf), check("vlan", other)),
        "vlan-check-other-mtu": (MASTER, add("vlan", conf), check("vlan", conf | {"mtu": 1300})),
        "vlan-check-other-master": (MASTER, add("vlan", conf), check("vlan", conf | {"master": "nope"})),
        "vlan-check-other-mac": (
            MASTER, add("vlan", conf), Shell("ip link set eth0 address c2:c2:c2:c2:66:01", "p1"), check("vlan", conf),
        ),
        "vlan-check-other-kind": (
            MASTER, add("vlan", conf), Shell("ip link del eth0; ip link add eth0 type veth peer name eth9", "p1"),
            check("vlan", conf),
        ),
        "vlan-check-interface-missing": (
            MASTER, add("vlan", conf), Shell("ip link del eth0", "p1"), check("vlan", conf),
        ),
        "vlan-status": (MASTER, Call("vlan", "STATUS", conf | {"cniVersion": "1.1.0"})),
        "vlan-status-master-missing": (Call("vlan", "STATUS", conf | {"cniVersion": "1.1.0"}),),
    }  # fmt: skip


def ipvlan_situations() -> dict[str, tuple[Step, ...]]:
    """ipvlan with more than one netconf or pod, and what it finds on the node and in the pod."""
    conf = netconf("ipvlan", master="m0", ipam=host_local())
    default_route = Shell("ip addr add 192.0.2.1/24 dev m0; ip route add default via 192.0.2.2")
    told: Conf = {
        "cniVersion": "1.0.0",
        "interfaces": [{"name": "m0"}],
        "ips": [{"address": "10.9.0.5/24", "gateway": "10.9.0.1"}],
        "routes": [{"dst": "0.0.0.0/0"}],
        "dns": DNS,
    }
    chained = netconf("ipvlan", prevResult=told)
    two_interfaces = netconf("ipvlan", prevResult=told | {"interfaces": [{"name": "m0"}, {"name": "m1"}]})
    taken = Shell("ip link add eth0 type veth peer name eth9", "p1")
    return {
        "ipvlan-two-pods": (MASTER, add("ipvlan", conf), add("ipvlan", conf, "p2"), delete("ipvlan", conf)),
        "ipvlan-default-master": (MASTER, default_route, *life("ipvlan", netconf("ipvlan", ipam=host_local()))),
        "ipvlan-chained": (MASTER, add("ipvlan", chained), delete("ipvlan", chained)),
        "ipvlan-chained-with-ipam": (
            MASTER, add("ipvlan", chained | {"ipam": host_local()}), delete("ipvlan", chained),
        ),
        "ipvlan-chained-two-interfaces": (MASTER, add("ipvlan", two_interfaces)),
        "ipvlan-interface-exists": (MASTER, taken, add("ipvlan", conf), delete("ipvlan", conf)),
        "ipvlan-del-without-netns": (MASTER, add("ipvlan", conf), delete("ipvlan", conf, CNI_NETNS="")),
        "ipvlan-del-after-master-is-gone": (
            MASTER, add("ipvlan", conf), Shell("ip link del m0"), delete("ipvlan", conf),
        ),
        "ipvlan-del-with-result": (MASTER, add("ipvlan", conf), delete("ipvlan", conf, after=True)),
        "ipvlan-check-without-result": (MASTER, add("ipvlan", conf), Call("ipvlan", "CHECK", conf)),
        "ipvlan-check-other-mode": (MASTER, add("ipvlan", conf), check("ipvlan", conf | {"mode": "l3"})),
        "ipvlan-check-other-master": (MASTER, add("ipvlan", conf), check("ipvlan", conf | {"master": "nope"})),
        "ipvlan-check-other-kind": (
            MASTER, add("ipvlan", conf), Shell("ip link del eth0; ip link add eth0 type veth peer name eth9", "p1"),
            check("ipvlan", conf),
        ),
        "ipvlan-status": (MASTER, Call("ipvlan", "STATUS", conf | {"cniVersion": "1.1.0"})),
        "ipvlan-status-master-missing": (Call("ipvlan", "STATUS", conf | {"cniVersion": "1.1.0"}),),
    }  # fmt: skip


def vrf_situations() -> dict[str, tuple[Step, ...]]:
    """vrf behind bridge: alone, with a table, with another interface, and what it finds in the pod."""
    conf = netconf("vrf", vrfname="blue")
    table = conf | {"table": 50}
    wired = (add("bridge", BRIDGE), add("vrf", conf, after=True))
    second = netconf("bridge", bridge="cni1", isGateway=True, ipam=host_local("10.7.0.0/24")) | {"name": "net2"}
    conf2 = conf | {"name": "net2"}

    def life_of(wiring: Conf, netconf: Conf) -> tuple[Step, ...]:
        start = (add(wiring["type"], wiring), add("vrf", netconf, after=True), check("vrf", netconf))
        return *start, delete("vrf", netconf, after=True), delete("vrf", netconf), delete(wiring["type"], wiring)

    return {
        "vrf-plain": life_of(BRIDGE, conf),
        "vrf-dual": life_of(DUAL_BRIDGE, conf),
        "vrf-table": life_of(BRIDGE, table),
        "vrf-ptp": life_of(PTP, conf),
        "vrf-two-interfaces": (
            *wired, add("bridge", second, CNI_IFNAME="eth1"), add("vrf", conf2, after=True, CNI_IFNAME="eth1"),
            delete("vrf", conf2, CNI_IFNAME="eth1"), delete("vrf", conf),
        ),
        "vrf-two-vrfs": (
            *wired, add("bridge", second, CNI_IFNAME="eth1"),
            add("vrf", conf2 | {"vrfname": "red"}, after=True, CNI_IFNAME="eth1"), delete("vrf", conf),
        ),
        "vrf-exists": (
            Shell("ip link add blue type vrf table 50; ip link set blue up", "p1"), add("bridge", BRIDGE),
            add("vrf", conf, after=True), delete("vrf", conf),
        ),
        "vrf-exists-with-another-table": (
            Shell("ip link add blue type vrf table 51", "p1"), add("bridge", BRIDGE), add("vrf", table, after=True),
        ),
        "vrf-name-of-no-vrf": (
            Shell("ip link add blue type veth peer name eth9", "p1"), add("bridge", BRIDGE),
            add("vrf", conf, after=True), check("vrf", conf), delete("vrf", conf),
        ),
        "vrf-interface-is-a-port-already": (
            add("bridge", BRIDGE), Shell("ip link add br0 type bridge; ip link set eth0 master br0", "p1"),
            add("vrf", conf, after=True),
        ),
        "vrf-interface-missing": (add("vrf", conf | {"prevResult": RESULT}), delete("vrf", conf)),
        "vrf-name-too-long": (add("bridge", BRIDGE), add("vrf", conf | {"vrfname": "sixteen-letters-"}, after=True)),
        "vrf-netns-gone": (
            add("vrf", conf | {"prevResult": RESULT}, CNI_NETNS="/run/netns/gone"),
            delete("vrf", conf, CNI_NETNS="/run/netns/gone"), delete("vrf", conf, CNI_NETNS=""),
        ),
        "vrf-del-after-interface-is-gone": (*wired, Shell("ip link del eth0", "p1"), delete("vrf", conf)),
        "vrf-check-not-a-port": (*wired, Shell("ip link set eth0 nomaster", "p1"), check("vrf", conf)),
        "vrf-check-gone": (*wired, Shell("ip link del blue", "p1"), check("vrf", conf)),
    }  # fmt: skip
