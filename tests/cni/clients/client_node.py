"""A node on which a real container runtime runs: its files, and the skip when the runtime is not installed."""

from __future__ import annotations

import json
import shutil
from typing import Any

import pytest

from tests.cni.world.world import World, require_world

ROOTFS = "/run/rootfs"
CONF_DIR = "/etc/cni/net.d"
# Command -> Debian packages that bring it.
PACKAGES = {
    "podman": "podman runc conmon",
    "containerd": "containerd runc",
    "ctr": "containerd runc",
    "busybox": "busybox-static",
}

FLANNEL_CHAIN: dict[str, Any] = {
    "cniVersion": "0.3.1",
    "name": "cbr0",
    "plugins": [
        {"type": "flannel", "delegate": {"hairpinMode": True, "isDefaultGateway": True}},
        {"type": "portmap", "capabilities": {"portMappings": True}},
    ],
}


def require_client(*commands: str) -> None:
    """Skip the calling test, with the remedy, unless these runtimes are here."""
    require_world()
    missing = [command for command in commands if shutil.which(command) is None]
    if missing:
        packages = " ".join(sorted({package for command in missing for package in PACKAGES[command].split()}))
        pytest.skip(f"needs {', '.join(missing)}: apt-get install --no-install-recommends {packages}")


def prepare_node(world: World, conflist: dict[str, Any]) -> None:
    """A root file system of busybox in ROOTFS, and `conflist` as the only network configuration."""
    applets = "sh ip ping wget httpd nc sleep cat"
    world.sh(
        f"mkdir -p {ROOTFS}; cd {ROOTFS}; mkdir -p bin etc proc sys dev tmp root www; cp /bin/busybox bin/; "
        f"for applet in {applets}; do ln -sf busybox bin/$applet; done; echo hello > www/index.html; "
        f"rm -rf {CONF_DIR}"
    )
    world.write(f"{CONF_DIR}/10-test.conflist", json.dumps(conflist))


def leftovers(world: World) -> dict[str, list[str]]:
    """What of pods is still on the node: links, rules, reservations and saved states, or {} if nothing is."""
    state = world.snapshot()
    links = [link["ifname"] for link in state["netns"]["node"]["links"] if link["ifname"].startswith("veth")]
    rules = [rule for table in state["rules"].values() for rule in per_pod_rules(table)]
    files = [path for path in state["files"] if is_per_pod(path)]
    return {kind: found for kind, found in {"links": links, "rules": rules, "files": files}.items() if found}


def per_pod_rules(table: dict[str, list[str]] | list[str]) -> list[str]:
    """Rules, of an iptables or another nft table, that name one pod, which their comment tells by an `id:`."""
    rules = table if isinstance(table, list) else [rule for chain in table.values() for rule in chain]
    return [rule for rule in rules if " id: " in rule]


def is_per_pod(path: str) -> bool:
    """Whether a state file belongs to one pod: a reservation or flannel's saved delegate."""
    directory, _, name = path.rpartition("/")
    is_reservation = directory.startswith("/var/lib/cni/networks/") and name[0].isdigit()
    return is_reservation or directory == "/var/lib/cni/flannel"
