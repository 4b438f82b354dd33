"""sbr: the plugin that changes the ways out of a pod."""

from __future__ import annotations

from collections.abc import Iterator

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
    netconf,
)

ROUTES = [{"dst": "0.0.0.0/0"}, {"dst": "10.50.0.0/16", "gw": "10.9.0.7"}]
TWO_SUBNETS: Conf = {
    "type": "static",
    "addresses": [{"address": "10.9.0.5/24", "gateway": "10.9.0.1"}, {"address": "10.8.0.5/24", "gateway": "10.8.0.1"},
                  {"address": "fd09::5/64", "gateway": "fd09::1"}],
    "routes": [{"dst": "10.60.0.0/16", "gw": "10.8.0.9"}],
}  # fmt: skip
ONE_SUBNET_TWICE: Conf = {
    "type": "static",
    "addresses": [{"address": "10.9.0.5/24", "gateway": "10.9.0.1"}, {"address": "10.9.0.6/24"}],
}
FAR_GATEWAY: Conf = {
    "type": "static",
    "addresses": [{"address": "10.9.0.5/32"}],
    "routes": [{"dst": "169.254.1.1/32", "scope": 253}, {"dst": "10.60.0.0/16", "gw": "169.254.1.1"}],
}
BRIDGE = netconf("bridge", isGateway=True, ipam=host_local())

WIRINGS: dict[str, Conf] = {
    "bridge": BRIDGE,
    "routes": netconf("bridge", isGateway=True, ipam=host_local(routes=ROUTES)),
    "dual": netconf("bridge", isGateway=True, ipam=DUAL_STACK),
    "two-subnets": netconf("bridge", ipam=TWO_SUBNETS),
    "one-subnet-twice": netconf("bridge", ipam=ONE_SUBNET_TWICE),
    "far-gateway": netconf("bridge", ipam=FAR_GATEWAY),
    "ptp": netconf("ptp", ipam=host_local()),
    "layer2": netconf("bridge"),
}
TABLES: dict[str, Conf] = {
    "table": {"table": 200},
    "table-large": {"table": 70000},
    "table-zero": {"table": 0},
    "table-negative": {"table": -1},
    "table-too-large": {"table": 1 << 33},
    "table-text": {"table": "x"},
}


def chain(wiring: Conf, kind: str, conf: Conf) -> tuple[Step, ...]:
    """The life of a plugin chained behind another: its DEL comes twice, as runtimes call it."""
    before = (add(wiring["type"], wiring), add(kind, conf, after=True), check(kind, conf))
    return *before, delete(kind, conf), delete(kind, conf, after=True), delete(wiring["type"], wiring)


def cases() -> Iterator[Case]:
    """All cases of sbr."""
    for name, wiring in WIRINGS.items():
        yield Case(f"sbr-{name}", *chain(wiring, "sbr", netconf("sbr")))
    for name, keys in TABLES.items():
        yield Case(f"sbr-{name}", *chain(BRIDGE, "sbr", netconf("sbr", **keys)))
    for name, steps in situations().items():
        yield Case(name, *steps)


def situations() -> dict[str, tuple[Step, ...]]:
    """sbr after more than one plugin, or without any, and what it finds in the pod."""
    conf = netconf("sbr")
    wired = (add("bridge", BRIDGE), add("sbr", conf, after=True))
    second = netconf("bridge", bridge="cni1", isGateway=True, ipam=host_local("10.7.0.0/24")) | {"name": "net2"}
    conf2 = conf | {"name": "net2"}
    told = {
        "cniVersion": "1.0.0",
        "interfaces": [{"name": "eth0", "sandbox": "/run/netns/p1"}, {"name": "other"}],
        "ips": [{"address": "10.9.0.2/24", "interface": 0}, {"address": "10.3.0.3/24", "interface": 1}],
    }
    return {
        "sbr-two-interfaces": (
            *wired, add("bridge", second, CNI_IFNAME="eth1"), add("sbr", conf2, after=True, CNI_IFNAME="eth1"),
            delete("sbr", conf2, CNI_IFNAME="eth1"), delete("sbr", conf),
        ),
        "sbr-again": (*wired, delete("sbr", conf), delete("bridge", BRIDGE), *wired),
        "sbr-tables-in-use": (
            add("bridge", BRIDGE), Shell("ip rule add from 10.1.1.1 lookup 100; ip -6 rule add from fd01::1 lookup 101",
                                         "p1"), add("sbr", conf, after=True), delete("sbr", conf),
        ),
        "sbr-table-with-routes": (
            add("bridge", BRIDGE), Shell("ip route add 10.4.0.0/16 dev eth0 table 100", "p1"),
            add("sbr", conf, after=True), delete("sbr", conf),
        ),
        "sbr-not-chained": (add("sbr", conf), Call("sbr", "CHECK", conf), delete("sbr", conf)),
        "sbr-interface-missing": (add("sbr", conf | {"prevResult": told}), delete("sbr", conf)),
        "sbr-address-of-another-interface": (
            add("bridge", BRIDGE), add("sbr", conf | {"prevResult": told}), delete("sbr", conf),
        ),
        "sbr-gateway-out-of-reach": (
            add("bridge", BRIDGE),
            add("sbr", conf | {"prevResult": told | {"ips": [{"address": "10.9.0.2/24", "gateway": "192.0.2.1"}]}}),
        ),
        "sbr-del-without-netns": (*wired, delete("sbr", conf, CNI_NETNS="")),
        "sbr-del-netns-gone": (*wired, delete("sbr", conf, CNI_NETNS="/run/netns/gone")),
        "sbr-del-after-interface-is-gone": (*wired, Shell("ip link del eth0", "p1"), delete("sbr", conf, after=True)),
        "sbr-del-leaves-other-rules": (
            *wired, Shell("ip rule add from 10.9.0.2 to 10.1.0.0/16 lookup 7; ip rule add from 10.1.1.1 lookup 7",
                          "p1"), delete("sbr", conf),
        ),
        "sbr-check-rule-missing": (
            *wired, Shell("ip rule del from 10.9.0.2", "p1"), check("sbr", conf),
        ),
    }  # fmt: skip
