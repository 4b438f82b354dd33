"""tap and host-device: the plugins whose interface is a device that a program, or the node, has as well."""

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
    life,
    netconf,
)

CHOSEN_MAC = "c2:c2:c2:c2:55:01"
ROUTED = host_local(routes=[{"dst": "0.0.0.0/0"}, {"dst": "10.50.0.0/16", "gw": "10.9.0.7"}])
DNS: Conf = {"nameservers": ["10.0.0.1"]}

TAP: dict[str, Conf] = {
    "layer2": {},
    "plain": {"ipam": host_local()},
    "dual": {"ipam": DUAL_STACK},
    "routes": {"ipam": ROUTED},
    "dns": {"ipam": host_local(), "dns": DNS},
    "mtu": {"ipam": host_local(), "mtu": 1400},
    "mtu-too-small": {"mtu": 1},
    "mtu-negative": {"mtu": -1},
    "mtu-text": {"mtu": "x"},
    "mac": {"mac": CHOSEN_MAC},
    "runtime-mac": {"mac": "c2:c2:c2:c2:55:02", "runtimeConfig": {"mac": CHOSEN_MAC}},
    "args-cni-mac": {"args": {"cni": {"mac": CHOSEN_MAC}}},
    "args-text": {"args": "x"},
    "mac-invalid": {"mac": "x"},
    "multi-queue": {"multiQueue": True},
    "owner": {"owner": 1000},
    "owner-negative": {"owner": -1},
    "group": {"group": 1001},
    "owner-and-group": {"owner": 1000, "group": 1001},
    "owner-and-group-multi-queue": {"owner": 0, "group": 0, "multiQueue": True},
    "owner-and-group-mtu-mac": {"owner": 1000, "group": 1001, "mtu": 1400, "mac": CHOSEN_MAC},
    "owner-and-group-mac-invalid": {"owner": 1000, "group": 1001, "mac": "x"},
    "bridge-missing": {"bridge": "br9"},
    "bridge-that-is-none": {"bridge": "lo"},
    "selinux-context-without-selinux": {"selinuxContext": "system_u:system_r:container_t:s0"},
    "ipam-fails": {"ipam": {"type": "host-local"}},
    "ipam-missing": {"ipam": {"type": "nope"}},
}


def cases() -> Iterator[Case]:
    """All cases of the two plugins."""
    for name, keys in TAP.items():
        yield Case(f"tap-{name}", *life("tap", netconf("tap", **keys)))
    for name, steps in tap_situations().items():
        yield Case(name, *steps, pods=("p1", "p2"))


def tap_situations() -> dict[str, tuple[Step, ...]]:
    """tap with more than one netconf or pod, and what it finds in the pod."""
    conf = netconf("tap", ipam=host_local())
    bridged = netconf("tap", bridge="br0")
    link_is_there = Shell("ip link add eth0 type veth peer name eth9", "p1")
    return {
        "tap-two-pods": (add("tap", conf), add("tap", conf, "p2"), delete("tap", conf), delete("tap", conf, "p2")),
        "tap-interface-exists": (link_is_there, add("tap", conf), delete("tap", conf)),
        "tap-name-that-the-node-has-too": (Shell("ip link add eth0 type veth peer name eth9"), *life("tap", conf)),
        "tap-bridge": (Shell("ip link add br0 type bridge", "p1"), *life("tap", bridged)),
        "tap-mac-argument": life("tap", netconf("tap"), CNI_ARGS=f"MAC={CHOSEN_MAC}"),
        "tap-argument-unknown": life("tap", netconf("tap"), CNI_ARGS="FOO=bar"),
        "tap-del-without-netns": (add("tap", conf), delete("tap", conf, CNI_NETNS="")),
        "tap-del-after-interface-is-gone": (add("tap", conf), Shell("ip link del eth0", "p1"), delete("tap", conf)),
        "tap-del-with-result": (add("tap", conf), delete("tap", conf, after=True)),
        "tap-check-without-result": (add("tap", conf), Call("tap", "CHECK", conf)),
        "tap-check-address-missing": (add("tap", conf), Shell("ip addr flush dev eth0", "p1"), check("tap", conf)),
        "tap-check-interface-missing": (add("tap", conf), Shell("ip link del eth0", "p1"), check("tap", conf)),
        "tap-check-layer2-interface-missing": (
            add("tap", netconf("tap")), Shell("ip link del eth0", "p1"), check("tap", netconf("tap")),
        ),
    }  # fmt: skip
