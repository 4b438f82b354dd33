"""Every version of the result format, through the life of an attachment: ADD, CHECK, DEL, DEL."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tests.cni.differential.cases.protocol import MASTER, MAY_BE_LACKING
from tests.cni.differential.scenario import (
    DUAL_STACK,
    Case,
    Conf,
    Step,
    add,
    check,
    delete,
    host_local,
    life,
    netconf,
)

VERSIONS = (None, "0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0")
PORTS = {"runtimeConfig": {"portMappings": [{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}]}}
ROUTED = host_local(routes=[{"dst": "0.0.0.0/0"}, {"dst": "10.200.0.0/16", "gw": "10.9.0.9"}])


def chain(kind: str, version: str | None, **keys: Any) -> tuple[Step, ...]:
    """The life of a plugin chained behind bridge."""
    bridge = netconf("bridge", version, bridge="br0", isGateway=True, ipam=host_local())
    conf = netconf(kind, version, **keys)
    steps = (add("bridge", bridge), add(kind, conf, after=True), check(kind, conf), delete(kind, conf, after=True))
    return *steps, delete(kind, conf), delete("bridge", bridge)


def lives(version: str | None) -> dict[str, tuple[Step, ...]]:
    """One life for each kind of result."""

    def conf(kind: str, **keys: Any) -> Conf:
        return netconf(kind, version, **keys)

    static = {"type": "static", "addresses": [{"address": "10.9.0.5/24", "gateway": "10.9.0.1"}]}
    dns = {"nameservers": ["10.9.0.53"], "domain": "pods.example", "search": ["example"], "options": ["ndots:2"]}
    return {
        "bridge": life("bridge", conf("bridge", isGateway=True, ipam=host_local())),
        "bridge-dual": life("bridge", conf("bridge", isGateway=True, ipam=DUAL_STACK)),
        "bridge-dns": life("bridge", conf("bridge", ipam=ROUTED, dns=dns)),
        "bridge-layer2": life("bridge", conf("bridge")),
        "host-local": life("host-local", conf("any", ipam=ROUTED)),
        "host-local-dual": life("host-local", conf("any", ipam=DUAL_STACK)),
        "static": life("static", conf("any", ipam=static, dns=dns)),
        "loopback": life("loopback", conf("loopback"), CNI_IFNAME="lo"),
        "ptp": life("ptp", conf("ptp", ipam=ROUTED)),
        "macvlan": (MASTER, *life("macvlan", conf("macvlan", master="m0", ipam=ROUTED))),
        "dummy": life("dummy", conf("dummy", ipam=ROUTED)),
        "vlan": (MASTER, *life("vlan", conf("vlan", master="m0", vlanId=5, ipam=ROUTED))),
        "ipvlan": (MASTER, *life("ipvlan", conf("ipvlan", master="m0", ipam=ROUTED))),
        "vrf": chain("vrf", version, vrfname="blue"),
        "tap": life("tap", conf("tap", ipam=ROUTED)),
        "host-device": (MASTER, *life("host-device", conf("host-device", device="m0", ipam=ROUTED))),
        "host-device-layer2": (MASTER, *life("host-device", conf("host-device", device="m0"))),
        "sbr": chain("sbr", version),
        "portmap": chain("portmap", version, **PORTS),
        "tuning": chain("tuning", version, sysctl={"net.ipv4.conf.IFNAME.arp_filter": "1"}, mtu=1400),
        "bandwidth": chain("bandwidth", version, ingressRate=8000000, ingressBurst=8000000),
        "firewall": chain("firewall", version),
    }


def cases() -> Iterator[Case]:
    """Each life in each version."""
    for version in VERSIONS:
        for name, steps in lives(version).items():
            needs = (name,) if name in MAY_BE_LACKING else ()
            yield Case(f"version-{version or 'none'}-{name}", *steps, needs=needs)
