"""Call plugins on a World as a runtime does, and look at what they leave. See tests/cni/world for the World."""

from __future__ import annotations

import json
from typing import Any

from tests.cni.world.world import World, cni_env

HOST_LOCAL = {"type": "host-local", "subnet": "10.9.0.0/24"}
DUAL_STACK = {"type": "host-local", "ranges": [[{"subnet": "10.9.0.0/24"}], [{"subnet": "fd00:9::/64"}]]}


def conf(kind: str, **keys: Any) -> dict[str, Any]:
    return {"cniVersion": "1.1.0", "name": "net1", "type": kind, **keys}


def call(node: World, verb: str, netconf: dict[str, Any], pod: str = "p1", **env: str | None) -> dict[str, Any]:
    done = node.plugin(netconf["type"], verb, netconf, cni_env(verb, pod, **env))
    assert done.exit == 0, done
    result: dict[str, Any] = done.json if done.stdout else {}
    return result


def refused(node: World, verb: str, netconf: dict[str, Any], pod: str = "p1", **env: str | None) -> dict[str, Any]:
    done = node.plugin(netconf["type"], verb, netconf, cni_env(verb, pod, **env))
    assert done.exit == 1, done
    error: dict[str, Any] = done.json
    return error


def collect(node: World, netconf: dict[str, Any], *alive: str) -> None:
    """GC: of the network's pods only these are alive."""
    valid = [{"containerID": f"container-{pod}", "ifname": "eth0"} for pod in alive]
    call(node, "GC", {**netconf, "cni.dev/valid-attachments": valid})


def links(node: World) -> list[str]:
    return [link["ifname"] for link in json.loads(node.sh("ip -j link"))]


def reservations(node: World) -> list[str]:
    names = node.sh("ls /var/lib/cni/networks/net1 2>/dev/null || true").split()
    return [name for name in names if name[0].isdigit() or ":" in name]


def rules(node: World) -> str:
    return node.sh("iptables-save; ip6tables-save")


def wired(node: World, pod: str = "p1") -> dict[str, Any]:
    """Wire a pod by ptp; gives the result for the plugins after it."""
    result = call(node, "ADD", conf("ptp", ipam=DUAL_STACK), pod)
    return {"prevResult": result}
