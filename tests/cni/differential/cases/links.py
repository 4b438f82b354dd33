"""loopback, ptp and macvlan: the plugins that make or set up a link of the pod's own."""

from __future__ import annotations

from collections.abc import Iterator

from tests.cni.differential.cases.protocol import MASTER
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

CHOSEN_MAC = "c2:c2:c2:c2:44:66"
STATIC: Conf = {"type": "static", "addresses": [{"address": "10.9.0.9/24", "gateway": "10.9.0.1"}]}

PTP: dict[str, Conf] = {
    "plain": {"ipam": host_local()},
    "default-route": {"ipam": host_local(routes=[{"dst": "0.0.0.0/0"}])},
    "masquerade": {"ipam": host_local(), "ipMasq": True},
    "masquerade-nftables": {"ipam": DUAL_STACK, "ipMasq": True, "ipMasqBackend": "nftables"},
    "masquerade-backend": {"ipam": host_local(), "ipMasq": True, "ipMasqBackend": "other"},
    "mtu": {"ipam": host_local(), "mtu": 1400},
    "dns": {"ipam": host_local(), "dns": {"nameservers": ["10.0.0.1"]}},
    "routes": {"ipam": host_local(routes=[{"dst": "10.50.0.0/16"}, {"dst": "10.51.0.0/16", "gw": "10.9.0.1"}])},
    "static": {"ipam": STATIC},
    "dual": {"ipam": DUAL_STACK},
    "no-ipam": {},
    "ipam-fails": {"ipam": {"type": "host-local"}},
    "ipam-without-gateway": {"ipam": {"type": "static", "addresses": [{"address": "10.9.0.9/24"}]}},
    "mtu-text": {"ipam": host_local(), "mtu": "x"},
}

MACVLAN: dict[str, Conf] = {
    "bridge": {"master": "m0", "mode": "bridge", "ipam": host_local()},
    "private": {"master": "m0", "mode": "private", "ipam": host_local()},
    "vepa": {"master": "m0", "mode": "vepa", "ipam": host_local()},
    "passthru": {"master": "m0", "mode": "passthru", "ipam": host_local()},
    "mode-unknown": {"master": "m0", "mode": "other", "ipam": host_local()},
    "mtu": {"master": "m0", "mtu": 1400, "ipam": host_local()},
    "mtu-too-large": {"master": "m0", "mtu": 9000, "ipam": host_local()},
    "mtu-negative": {"master": "m0", "mtu": -1, "ipam": host_local()},
    "master-missing": {"master": "nope", "ipam": host_local()},
    "master-default-none": {"ipam": host_local()},
    "mac": {"master": "m0", "mac": CHOSEN_MAC, "ipam": host_local()},
    "runtime-mac": {"master": "m0", "runtimeConfig": {"mac": CHOSEN_MAC}, "ipam": host_local()},
    "args-cni-mac": {"master": "m0", "args": {"cni": {"mac": CHOSEN_MAC}}, "ipam": host_local()},
    "mac-invalid": {"master": "m0", "mac": "x", "ipam": host_local()},
    "queue-length": {"master": "m0", "bcqueuelen": 2000, "ipam": host_local()},
    "queue-length-negative": {"master": "m0", "bcqueuelen": -1, "ipam": host_local()},
    "link-in-container-missing": {"master": "m0", "linkInContainer": True, "ipam": host_local()},
    "dual": {"master": "m0", "ipam": DUAL_STACK},
    "layer2": {"master": "m0"},
    "routes": {"master": "m0", "ipam": host_local(routes=[{"dst": "0.0.0.0/0"}])},
    "ipam-fails": {"master": "m0", "ipam": {"type": "host-local"}},
    "dns": {"master": "m0", "ipam": host_local(), "dns": {"nameservers": ["10.0.0.1"]}},
}


def cases() -> Iterator[Case]:
    """All cases of the three plugins."""
    for name, keys in PTP.items():
        yield Case(f"ptp-{name}", *life("ptp", netconf("ptp", **keys)))
    for name, keys in MACVLAN.items():
        yield Case(f"macvlan-{name}", MASTER, *life("macvlan", netconf("macvlan", **keys)))
    for name, steps in (ptp_situations() | macvlan_situations() | loopback_situations()).items():
        yield Case(name, *steps, pods=("p1", "p2"))


def ptp_situations() -> dict[str, tuple[Step, ...]]:
    """ptp with more than one netconf or pod."""
    conf = netconf("ptp", ipMasq=True, ipam=host_local())
    return {
        "ptp-two-pods": (add("ptp", conf), add("ptp", conf, "p2"), delete("ptp", conf), delete("ptp", conf, "p2")),
        "ptp-second-add": (add("ptp", conf), add("ptp", conf), delete("ptp", conf)),
        "ptp-del-without-netns": (add("ptp", conf), delete("ptp", conf, CNI_NETNS="")),
        "ptp-del-after-interface-is-gone": (
            add("ptp", conf), Shell("ip link del eth0", "p1"), delete("ptp", conf),
        ),
        "ptp-del-before-add": (delete("ptp", conf),),
        "ptp-check-without-result": (add("ptp", conf), Call("ptp", "CHECK", conf)),
        "ptp-check-address-missing": (add("ptp", conf), Shell("ip addr flush dev eth0", "p1"), check("ptp", conf)),
        "ptp-check-interface-missing": (add("ptp", conf), Shell("ip link del eth0", "p1"), check("ptp", conf)),
    }  # fmt: skip


def macvlan_situations() -> dict[str, tuple[Step, ...]]:
    """macvlan with more than one netconf or pod, and what it finds on the node."""
    conf = netconf("macvlan", master="m0", ipam=host_local())
    default_route = Shell("ip addr add 192.0.2.1/24 dev m0; ip route add default via 192.0.2.2")
    return {
        "macvlan-two-pods": (MASTER, add("macvlan", conf), add("macvlan", conf, "p2"), delete("macvlan", conf)),
        "macvlan-second-add": (MASTER, add("macvlan", conf), add("macvlan", conf), delete("macvlan", conf)),
        "macvlan-default-master": (
            MASTER, default_route, *life("macvlan", netconf("macvlan", ipam=host_local())),
        ),
        "macvlan-link-in-container": (
            Shell("ip link add m0 type veth peer name m1; ip link set m0 up; ip link set m1 up", "p1"),
            *life("macvlan", netconf("macvlan", master="m0", linkInContainer=True, ipam=host_local())),
        ),
        "macvlan-mac-argument": (
            MASTER, *life("macvlan", netconf("macvlan", master="m0", ipam=STATIC), CNI_ARGS=f"MAC={CHOSEN_MAC}"),
        ),
        "macvlan-del-without-netns": (MASTER, add("macvlan", conf), delete("macvlan", conf, CNI_NETNS="")),
        "macvlan-del-after-interface-is-gone": (
            MASTER, add("macvlan", conf), Shell("ip link del eth0", "p1"), delete("macvlan", conf),
        ),
        "macvlan-del-after-master-is-gone": (
            MASTER, add("macvlan", conf), Shell("ip link del m0"), delete("macvlan", conf),
        ),
        "macvlan-check-without-result": (MASTER, add("macvlan", conf), Call("macvlan", "CHECK", conf)),
        "macvlan-check-address-missing": (
            MASTER, add("macvlan", conf), Shell("ip addr flush dev eth0", "p1"), check("macvlan", conf),
        ),
    }  # fmt: skip


def loopback_situations() -> dict[str, tuple[Step, ...]]:
    """loopback, as containerd calls it."""
    conf = netconf("loopback", "0.3.1")
    newest = netconf("loopback")
    return {
        "loopback-containerd": (add("loopback", conf, CNI_IFNAME="lo"), delete("loopback", conf, CNI_IFNAME="lo")),
        "loopback-del-without-netns": (add("loopback", conf, CNI_IFNAME="lo"),
                                       delete("loopback", conf, CNI_IFNAME="lo", CNI_NETNS="")),
        "loopback-other-interface-name": (add("loopback", newest), delete("loopback", newest)),
        "loopback-check-down": (
            add("loopback", newest, CNI_IFNAME="lo"), Shell("ip link set lo down", "p1"),
            check("loopback", newest, CNI_IFNAME="lo"),
        ),
        "loopback-foreign-address": (Shell("ip link set lo up; ip addr add 10.3.3.3/32 dev lo", "p1"),
                                     add("loopback", newest, CNI_IFNAME="lo")),
        "loopback-chained": (
            add("loopback", newest | {"prevResult": {"cniVersion": "1.0.0", "ips": [{"address": "10.9.0.2/24"}]}},
                CNI_IFNAME="lo"),
        ),
    }  # fmt: skip
