"""The networks of the random sequences: what an administrator may configure them to, and change at any time."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

Conf = dict[str, Any]

VERSION = "1.1.0"
MASTER = "m0"
FIRST_PORT = 8000


def host_local(number: int, *, dual_stack: bool = True) -> Conf:
    """Ranges of a network's own."""
    ranges = [[{"subnet": f"10.{number}.0.0/24"}], [{"subnet": f"fd00:{number}::/64"}]]
    return {"type": "host-local", "ranges": ranges if dual_stack else ranges[:1]}


def bridge(random: Random) -> Conf:
    """A bridge that routes for its pods."""
    return {
        "type": "bridge",
        "bridge": "cni0",
        "isDefaultGateway": True,
        "ipMasq": random.random() < 0.7,
        "ipMasqBackend": random.choice(["iptables", "nftables"]),
        "macspoofchk": random.random() < 0.4,
        "hairpinMode": random.random() < 0.5,
        "mtu": random.choice([0, 1400]),
        "ipam": host_local(9),
    }


def plain_bridge(_: Random) -> Conf:
    """A second bridge, without rules."""
    return {"type": "bridge", "bridge": "br1", "isGateway": True, "ipam": host_local(10, dual_stack=False)}


def ptp(random: Random) -> Conf:
    """A routed pod."""
    backend = random.choice(["iptables", "nftables"])
    return {"type": "ptp", "ipMasq": random.random() < 0.7, "ipMasqBackend": backend, "ipam": host_local(11)}


def macvlan(_: Random) -> Conf:
    """A pod with a MAC address of its own on the node's interface."""
    return {"type": "macvlan", "master": MASTER, "ipam": host_local(12, dual_stack=False)}


def tap(_: Random) -> Conf:
    """A pod with a device for a virtual machine."""
    return {"type": "tap", "mtu": 1400, "ipam": host_local(13)}


def host_device(_: Random) -> Conf:
    """A pod with one of the node's own interfaces; which one, `for_attachment` says."""
    return {"type": "host-device", "ipam": host_local(14, dual_stack=False)}


def flannel(random: Random) -> Conf:
    """The overlay's network; its ranges come from subnet.env."""
    delegate = {"bridge": "cbr0", "isDefaultGateway": True, "hairpinMode": random.random() < 0.5}
    return {"type": "flannel", "delegate": delegate}


MAIN: dict[str, Callable[[Random], Conf]] = {
    "bridged": bridge,
    "plain": plain_bridge,
    "routed": ptp,
    "mac": macvlan,
    "virtual": tap,
    "device": host_device,
    "overlay": flannel,
}
IN_POD = ("mac", "virtual")
"""Networks whose pods have nothing on the node but a reservation: GC does not reach what is in a pod."""
ONCE = ("routed",)
"""Where a pod can be once only, as with the official plugins: a second route to ptp's subnet would be the first one."""
RATE = {"ingressRate": 8000000, "ingressBurst": 8000000, "egressRate": 8000000, "egressBurst": 8000000}


def chained(random: Random, network: str) -> list[Conf]:
    """Plugins that may follow the main one."""
    portmap: Conf = {
        "type": "portmap",
        "backend": random.choice(["iptables", "nftables"]),
        "snat": random.random() < 0.5,
    }
    firewall: Conf = {"type": "firewall", "backend": random.choice(["iptables", "nftables"])}
    tuning: Conf = {
        "type": "tuning",
        "mtu": 1300,
        "promisc": random.random() < 0.5,
        "sysctl": {"net.core.somaxconn": "500"},
    }
    choice: list[Conf] = (
        [tuning] if network in (*IN_POD, "device") else [tuning, portmap, firewall, {"type": "bandwidth", **RATE}]
    )
    return [conf for conf in choice if random.random() < 0.4]


def random_chain(random: Random, network: str) -> list[Conf]:
    """One configuration that the network may have."""
    chain = [MAIN[network](random), *chained(random, network)]
    return [{"cniVersion": VERSION, "name": network, **conf} for conf in chain]


def device(number: int) -> str:
    """The node's interface for the attachment of that number."""
    return f"hd{number}"


def for_attachment(conf: Conf, number: int) -> Conf:
    """What differs from attachment to attachment: the host port, the node's interface."""
    if conf["type"] == "host-device":
        return {**conf, "device": device(number)}
    mapping = {"hostPort": FIRST_PORT + number, "containerPort": 80, "protocol": "tcp"}
    return {**conf, "runtimeConfig": {"portMappings": [mapping]}} if conf["type"] == "portmap" else conf
