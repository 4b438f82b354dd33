"""What is timed: chains of plugins as runtimes call them, with what udplane's time may be at most.

The goals are those of an installation without options.
"""

from dataclasses import dataclass
from typing import Any

Conf = dict[str, Any]

# kube-flannel's version. A runtime caches no result for it, so DEL gets none.
VERSION = "0.3.1"
BIG_STORE = "big"
RESERVATIONS = 5000
POD_NETWORK = "10.78.0.0/16"
NODE_SUBNET = "10.78.5.1/24"


@dataclass(frozen=True, slots=True)
class Task:
    """A chain for one pod, or for many at once, on each side. `limit` is the greatest ratio that was set as a goal."""

    name: str
    official: tuple[Conf, ...]
    udplane: tuple[Conf, ...]
    limit: float | None = None
    pods: int = 1


def conf(kind: str, network: str = "bench", **keys: Any) -> Conf:
    """A netconf."""
    return {"cniVersion": VERSION, "name": network, "type": kind, **keys}


def bridge(**keys: Any) -> Conf:
    """A bridge that is the pods' gateway."""
    return conf("bridge", bridge="bench0", isGateway=True, ipam={"type": "host-local", "subnet": "10.9.0.0/16"}, **keys)


PORTMAP = conf("portmap", runtimeConfig={"portMappings": [{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}]})
FLANNEL = conf("flannel", delegate={"isDefaultGateway": True, "hairpinMode": True})
# The flannel plugin is not among Debian's. The official side is given what it would delegate, and is spared its start.
DELEGATED = conf(
    "bridge",
    isGateway=True,
    isDefaultGateway=True,
    hairpinMode=True,
    ipMasq=True,
    mtu=1472,
    ipam={"type": "host-local", "ranges": [[{"subnet": "10.78.5.0/24"}]], "routes": [{"dst": POD_NETWORK}]},
)
BIG = conf("host-local", BIG_STORE, ipam={"type": "host-local", "subnet": "10.20.0.0/16"})
CHAINS = ((DELEGATED, PORTMAP), (FLANNEL, PORTMAP))

TASKS = (
    Task("loopback", (conf("loopback"),), (conf("loopback"),)),
    Task("bridge + host-local", (bridge(),), (bridge(),), 1.0),
    Task("the same with masquerade", (bridge(ipMasq=True),), (bridge(ipMasq=True),), 0.6),
    Task("flannel chain, masquerade, a port", *CHAINS, limit=0.45),
    Task("50 pods at once, the same chain", *CHAINS, limit=0.4, pods=50),
    Task(f"host-local, {RESERVATIONS:,} reservations", (BIG,), (BIG,), 0.2),
)
