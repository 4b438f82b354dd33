"""What results carry: interfaces and routes with all their attributes, through chains and into the pod's tables."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tests.cni.differential.cases.protocol import MASTER
from tests.cni.differential.scenario import DUAL_STACK, Case, Conf, add, delete, host_local, life, netconf

FULL: Conf = {
    "cniVersion": "1.1.0",
    "interfaces": [
        {"name": "br0", "mac": "c2:c2:c2:c2:00:01", "mtu": 1500},
        {"name": "eth0", "mac": "c2:c2:c2:c2:00:02", "mtu": 1400, "sandbox": "/run/netns/p1",
         "socketPath": "/run/vhost.sock", "pciID": "0000:00:1f.0"},
    ],
    "ips": [
        {"version": "4", "address": "10.9.0.2/24", "gateway": "10.9.0.1", "interface": 1},
        {"version": "6", "address": "fd09::2/64", "interface": 1},
    ],
    "routes": [
        {"dst": "0.0.0.0/0", "gw": "10.9.0.1", "mtu": 1300, "advmss": 1260, "priority": 7, "table": 100, "scope": 0},
        {"dst": "10.50.0.0/16", "scope": 253},
        {"dst": "fd50::/64", "table": 0},
    ],
    "dns": {"nameservers": ["10.9.0.53"], "options": ["a<b"]},
}  # fmt: skip

# Routes of the IPAM plugin that a pod gets, by what they have besides a destination.
ROUTES: dict[str, list[dict[str, Any]]] = {
    "mtu": [{"dst": "10.50.0.0/16", "mtu": 1400}],
    "advmss": [{"dst": "10.50.0.0/16", "advmss": 1200}],
    "priority": [{"dst": "10.50.0.0/16", "priority": 50}, {"dst": "10.50.0.0/16", "priority": 60}],
    "table": [{"dst": "10.50.0.0/16", "table": 100}],
    "table-number-large": [{"dst": "10.50.0.0/16", "table": 10000}],
    "scope-link": [{"dst": "10.50.0.0/16", "scope": 253}],
    "scope-universe": [{"dst": "10.50.0.0/16", "scope": 0}],
    "everything": [{"dst": "10.50.0.0/16", "gw": "10.9.0.7", "mtu": 1400, "advmss": 1200, "priority": 5, "table": 100}],
    "default-in-table": [{"dst": "0.0.0.0/0", "table": 100}],
    "two-gateways": [{"dst": "10.50.0.0/16", "gw": "10.9.0.7"}, {"dst": "10.50.0.0/16", "gw": "10.9.0.8"}],
    "ipv6": [{"dst": "fd50::/64", "mtu": 1300, "priority": 50}, {"dst": "fd51::/64", "table": 100}],
    "ipv6-two-gateways": [{"dst": "fd50::/64", "gw": "fd09::7"}, {"dst": "fd50::/64", "gw": "fd09::8"}],
    "mtu-negative": [{"dst": "10.50.0.0/16", "mtu": -5}],
    "table-negative": [{"dst": "10.50.0.0/16", "table": -5}],
    "scope-too-large": [{"dst": "10.50.0.0/16", "scope": 300}],
    "gateway-unreachable": [{"dst": "10.50.0.0/16", "gw": "10.77.0.1"}],
}


def cases() -> Iterator[Case]:
    """Chained plugins pass everything on in the shape of their version; the others make what the routes say."""
    chained: dict[str, Conf] = {
        "portmap": {}, "loopback": {}, "firewall": {}, "tuning": {"sysctl": {"net.core.somaxconn": "500"}},
    }  # fmt: skip
    for kind, keys in chained.items():
        for version in ("0.3.1", "0.4.0", "1.0.0", "1.1.0"):
            conf = netconf(kind, version, prevResult=FULL | {"cniVersion": version}, **keys)
            yield Case(f"result-{kind}-{version}", add(kind, conf), delete(kind, conf))
    for name, routes in ROUTES.items():
        ipam = DUAL_STACK | {"routes": routes}
        yield Case(f"routes-bridge-{name}", *life("bridge", netconf("bridge", "1.1.0", isGateway=True, ipam=ipam)))
    ipam = host_local(routes=ROUTES["everything"] + ROUTES["priority"] + ROUTES["scope-universe"])
    yield Case("routes-ptp", *life("ptp", netconf("ptp", "1.1.0", ipam=ipam)))
    yield Case("routes-macvlan", MASTER, *life("macvlan", netconf("macvlan", "1.1.0", master="m0", ipam=ipam)))
    static = {"type": "static", "addresses": [{"address": "10.9.0.5/24", "gateway": "10.9.0.1"}]}
    for version in ("0.2.0", "0.4.0", "1.1.0"):
        conf = netconf("any", version, ipam=static | {"routes": FULL["routes"]})
        yield Case(f"routes-static-{version}", *life("static", conf))
