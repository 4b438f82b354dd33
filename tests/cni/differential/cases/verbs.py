"""GC and STATUS, the verbs of 1.1.0, of every plugin with something to collect, or something to be ready for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tests.cni.differential.cases.protocol import MASTER
from tests.cni.differential.scenario import Call, Case, Conf, Step, add, delete, host_local, netconf

PORTS = {"runtimeConfig": {"portMappings": [{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}]}}
BRIDGE = netconf("bridge", "1.1.0", isGateway=True, ipam=host_local())

# Chains of which one pod is alive and another is not.
CHAINS: dict[str, tuple[Conf, ...]] = {
    "host-local": (netconf("host-local", "1.1.0", ipam=host_local()),),
    "bridge": (netconf("bridge", "1.1.0", isGateway=True, ipMasq=True, ipam=host_local()),),
    "bridge-nftables": (netconf("bridge", "1.1.0", ipMasq=True, ipMasqBackend="nftables", ipam=host_local()),),
    "ptp": (netconf("ptp", "1.1.0", ipMasq=True, ipam=host_local()),),
    "macvlan": (netconf("macvlan", "1.1.0", master="m0", ipam=host_local()),),
    "portmap": (BRIDGE, netconf("portmap", "1.1.0", **PORTS)),
    "portmap-nftables": (BRIDGE, netconf("portmap", "1.1.0", backend="nftables", **PORTS)),
    "firewall": (BRIDGE, netconf("firewall", "1.1.0")),
    "tuning": (BRIDGE, netconf("tuning", "1.1.0", mtu=1400)),
    "bandwidth": (BRIDGE, netconf("bandwidth", "1.1.0", ingressRate=8000000, ingressBurst=8000000)),
}
STATUS: dict[str, Conf] = {
    "bridge-no-ipam": netconf("bridge", "1.1.0"),
    "bridge-ipam-unknown": netconf("bridge", "1.1.0", ipam={"type": "no-such-plugin"}),
    "bridge-refused": netconf("bridge", "1.1.0", mtu="x", ipam=host_local()),
    "ptp-no-ipam": netconf("ptp", "1.1.0"),
    "ptp-refused": netconf("ptp", "1.1.0", mtu="x", ipam=host_local()),
    "macvlan-layer2": netconf("macvlan", "1.1.0", master="m0"),
    "macvlan-refused": netconf("macvlan", "1.1.0", master="m0", mtu="x", ipam=host_local()),
    "host-local-refused": netconf("host-local", "1.1.0", ipam={"type": "host-local"}),
    "static-refused": netconf("static", "1.1.0", ipam={"type": "static", "addresses": 5}),
    "portmap-refused": netconf("portmap", "1.1.0", markMasqBit=77),
    "tuning-refused": netconf("tuning", "1.1.0", mtu="x"),
    "firewall-refused": netconf("firewall", "1.1.0", backend=5),
}


def cases() -> Iterator[Case]:
    """Each chain with one of its two pods alive, with all, and with a GC that lists nothing."""
    for name, chain in CHAINS.items():
        yield Case(f"gc-{name}", *collected(chain, [attachment("p2")]), pods=("p1", "p2"))
    yield Case("gc-nobody-is-listed", *collected(CHAINS["bridge"], None), pods=("p1", "p2"))
    yield Case("gc-all-are-alive", *collected(CHAINS["bridge"], [attachment("p1"), attachment("p2")]),
               pods=("p1", "p2"))  # fmt: skip
    for name, conf in STATUS.items():
        yield Case(f"status-{name}", MASTER, Call(conf["type"], "STATUS", conf))


def attachment(pod: str) -> dict[str, str]:
    """An attachment as GC lists it."""
    return {"containerID": f"container-{pod}", "ifname": "eth0"}


def collected(chain: tuple[Conf, ...], alive: Any) -> tuple[Step, ...]:
    """Two pods, a GC with the living ones, and the DEL of both."""
    steps: list[Step] = [MASTER] if chain[0]["type"] == "macvlan" else []
    for pod in ("p1", "p2"):
        steps += [add(conf["type"], conf, pod, after=conf is not chain[0]) for conf in chain]
    steps += [Call(conf["type"], "GC", conf | {"cni.dev/valid-attachments": alive}) for conf in chain]
    for pod in ("p1", "p2"):
        steps += [delete(conf["type"], conf, pod, after=True) for conf in reversed(chain)]
    return tuple(steps)
