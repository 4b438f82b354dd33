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


HOST_DEVICE: dict[str, Conf] = {
    "layer2": {"device": "m0"},
    "plain": {"device": "m0", "ipam": host_local()},
    "dual": {"device": "m0", "ipam": DUAL_STACK},
    "routes": {"device": "m0", "ipam": ROUTED},
    "dns": {"device": "m0", "ipam": host_local(), "dns": DNS},
    "by-mac": {"hwaddr": CHOSEN_MAC, "ipam": host_local()},
    "by-mac-in-capitals": {"hwaddr": CHOSEN_MAC.upper()},
    "by-mac-that-nobody-has": {"hwaddr": "c2:c2:c2:c2:55:99"},
    "mac-invalid": {"hwaddr": "x"},
    "nothing-given": {"ipam": host_local()},
    "device-missing": {"device": "nope", "ipam": host_local()},
    "device-number": {"device": 7},
    "device-and-mac": {"device": "m0", "hwaddr": "x"},
    "loopback": {"device": "lo"},
    "alternative-name": {"device": "a-name-that-is-rather-long"},
    "kernelpath-relative": {"kernelpath": "devices/pci0000:00"},
    "kernelpath-missing": {"kernelpath": "/sys/devices/nope"},
    "pci-missing": {"pciBusID": "0000:99:00.0"},
    "device-id-missing": {"device": "m0", "runtimeConfig": {"deviceID": "0000:99:00.0"}},
    "ipam-fails": {"device": "m0", "ipam": {"type": "host-local"}},
    "ipam-missing": {"device": "m0", "ipam": {"type": "nope"}},
}
DEVICE = Shell(
    "ip link add m0 address c2:c2:c2:c2:55:01 type veth peer name m1;"
    "ip link property add dev m0 altname a-name-that-is-rather-long; ip link set m1 up; ip link set m0 up"
)
PLUGGED_IN: dict[str, Conf] = {
    "pci": {"pciBusID": "0000:00:05.0"},
    "pci-ipam": {"pciBusID": "0000:00:05.0", "ipam": host_local()},
    "pci-virtio": {"pciBusID": "0000:00:06.0"},
    "pci-without-driver": {"pciBusID": "0000:00:07.0"},
    "pci-without-interface": {"pciBusID": "0000:00:08.0"},
    "pci-interface-elsewhere": {"pciBusID": "0000:00:09.0"},
    "pci-empty": {"pciBusID": "0000:00:0a.0"},
    "dpdk": {"pciBusID": "0000:00:0b.0"},
    "dpdk-ipam": {"pciBusID": "0000:00:0b.0", "ipam": host_local(), "dns": DNS},
    "device-id-pci": {"pciBusID": "0000:99:00.0", "runtimeConfig": {"deviceID": "0000:00:05.0"}},
    "device-id-auxiliary": {"pciBusID": "0000:99:00.0", "runtimeConfig": {"deviceID": "mlx5_core.sf.2"}},
    "device-id-auxiliary-without-interface": {"runtimeConfig": {"deviceID": "mlx5_core.sf.3"}},
    "kernelpath": {"kernelpath": "/sys/devices/net/card"},
    "kernelpath-empty": {"kernelpath": "/sys/devices/net/empty"},
}
# sysfs as it would be on a machine with such devices. It covers the real one until the case ends.
SYSFS = Shell(
    "mount -t tmpfs t /sys/bus; mount -t tmpfs t /sys/devices; cd /sys/bus;"
    "mkdir -p pci/devices pci/drivers/e1000 pci/drivers/vfio-pci auxiliary/devices/mlx5_core.sf.2/net/m0;"
    "mkdir -p auxiliary/devices/mlx5_core.sf.3 /sys/devices/net/card/net/m0 /sys/devices/net/empty/net; cd pci/devices;"
    "mkdir -p 0000:00:05.0/net/m0 0000:00:06.0/virtio2/net/m0 0000:00:07.0/net/m0 0000:00:08.0 0000:00:09.0/net/m9"
    " 0000:00:0a.0/net 0000:00:0b.0;"
    "for n in 5 6 8 9 a; do ln -s ../../drivers/e1000 0000:00:0$n.0/driver; done;"
    "ln -s ../../drivers/vfio-pci 0000:00:0b.0/driver"
)
REAL_SYSFS = Shell("umount /sys/bus /sys/devices")


def cases() -> Iterator[Case]:
    """All cases of the two plugins."""
    for name, keys in TAP.items():
        yield Case(f"tap-{name}", *life("tap", netconf("tap", **keys)))
    for name, keys in HOST_DEVICE.items():
        yield Case(f"host-device-{name}", DEVICE, *life("host-device", netconf("host-device", **keys)))
    for name, keys in PLUGGED_IN.items():
        steps = life("host-device", netconf("host-device", **keys))
        yield Case(f"host-device-{name}", DEVICE, SYSFS, *steps, REAL_SYSFS)
    for name, steps in (tap_situations() | host_device_situations()).items():
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


def host_device_situations() -> dict[str, tuple[Step, ...]]:
    """host-device with more than one netconf or pod, and what it finds on the node and in the pod."""
    kind = "host-device"
    conf = netconf(kind, device="m0", ipam=host_local())
    taken = Shell("ip link add eth0 type veth peer name eth9", "p1")
    same_name = Shell("ip link add m0 type veth peer name m9", "p1")
    configured = Shell("ip addr add 192.0.2.1/24 dev m0; ip route add default via 192.0.2.2; ip link set m0 alias x")
    return {
        "host-device-interface-exists": (DEVICE, taken, add(kind, conf), delete(kind, conf)),
        "host-device-interface-exists-and-device-is-configured": (
            DEVICE, configured, taken, add(kind, netconf(kind, device="m0")),
        ),
        "host-device-name-that-the-pod-has-too": (DEVICE, same_name, *life(kind, conf)),
        "host-device-same-name-in-the-pod": (DEVICE, *life(kind, conf, CNI_IFNAME="m0")),
        "host-device-of-the-default-route": (DEVICE, configured, *life(kind, conf)),
        "host-device-name-taken-meanwhile": (
            DEVICE, add(kind, conf), Shell("ip link add m0 type veth peer name m9"), delete(kind, conf, after=True),
        ),
        "host-device-second-pod": (DEVICE, add(kind, conf), add(kind, conf, "p2")),
        "host-device-again": (DEVICE, *life(kind, conf), *life(kind, conf)),
        "host-device-del-without-netns": (DEVICE, add(kind, conf), delete(kind, conf, CNI_NETNS="")),
        "host-device-del-netns-gone": (DEVICE, add(kind, conf), delete(kind, conf, CNI_NETNS="/run/netns/gone")),
        "host-device-del-after-interface-is-gone": (
            DEVICE, add(kind, conf), Shell("ip link del eth0", "p1"), delete(kind, conf),
        ),
        "host-device-del-without-alias": (
            DEVICE, add(kind, conf), Shell("ip link set eth0 alias ''", "p1"), delete(kind, conf),
        ),
        "host-device-del-with-result": (DEVICE, add(kind, conf), delete(kind, conf, after=True)),
        "host-device-check-without-result": (DEVICE, add(kind, conf), Call(kind, "CHECK", conf)),
        "host-device-check-address-missing": (
            DEVICE, add(kind, conf), Shell("ip addr flush dev eth0", "p1"), check(kind, conf),
        ),
        "host-device-check-interface-missing": (
            DEVICE, add(kind, conf), Shell("ip link del eth0", "p1"), check(kind, conf),
        ),
        "host-device-check-other-mac": (
            DEVICE, add(kind, conf), Shell("ip link set eth0 address c2:c2:c2:c2:55:08", "p1"), check(kind, conf),
        ),
        "host-device-status": (Call(kind, "STATUS", netconf(kind, "1.1.0", device="nope")),),
    }  # fmt: skip
