"""Deliberate differences of the plugins that make, or take, an interface for a pod alone: tap and its like."""

from __future__ import annotations

from tests.cni.differential.intended.entry import GONE, Intended

POD_LINKS: tuple[Intended, ...] = (
    Intended(
        "an ADD whose result cannot be told is undone",
        "versions before 0.3.0 have no result without an address; the official plugins leave what they made",
        ("version-*-layer2",),
        ("* ADD *",),
        ("node/links/*", "p1/links/eth0"),
        GONE,
    ),
    Intended(
        "tap names the namespace",
        "the official plugin prints %!q(<nil>) in its place",
        ("protocol-tap-netns-missing",),
        ours='failed to open netns ."/run/netns/gone',
    ),
    Intended(
        "a tap that fails leaves no device",
        "the official plugin leaves it in the pod, under a random name or its own",
        ("tap-mtu-*", "tap-mac-*", "tap-bridge-*", "tap-ipam-*"),
        paths=("p1/links/*", "p1/qdiscs/eth0/*"),
        ours=GONE,
    ),
    Intended(
        "no program is run for a tap",
        "the official plugin repeats what the program ip says",
        ("tap-mtu-*", "tap-mac-invalid"),
        ours="failed to create tap: invalid|invalid args x for MAC addr",
    ),
    Intended(
        "DEL of a tap needs ipam alone",
        "whatever has become of the netconf and of CNI_ARGS, a pod can be deleted",
        ("tap-*",),
        ("* DEL tap",),
        ("exit", "stdout"),
        "^0?$",
    ),
    Intended(
        "a tap with owner and group has the MTU and the MAC address of the netconf",
        "the official plugin makes it another way then, and forgets both",
        ("tap-owner-and-group-mtu-mac",),
        paths=("stdout", "p1/links/eth0/*", "p1/sysctls/ipv6/conf/eth0/mtu"),
        ours="c2:c2:c2:c2:55:01|^1400$",
    ),
    Intended(
        "a tap's name that is taken",
        "the official plugin gives its addresses to the interface that has the name, and DEL removes that",
        ("tap-interface-exists",),
        paths=("*",),
    ),
    Intended(
        "the file of the SELinux label",
        "the official plugin names it as it was opened, which depends on the machine",
        ("tap-selinux-*",),
        ours="failed set socket label: write /proc/thread-self/attr/exec: invalid argument",
    ),
    Intended(
        "CHECK of a tap without addresses",
        "the official CHECK does not look for the device",
        ("tap-check-layer2-*",),
        paths=("exit", "stdout"),
        ours="^1$|eth0 not found",
    ),
    # host-device
    Intended(
        "host-device remembers who has the device",
        "so that DEL needs no namespace, and takes it from nobody else",
        ("*host-device*",),
        paths=("files//run/cni", "files//run/cni/host-device", "files//run/cni/host-device/*"),
    ),
    Intended(
        "a device that could not be given away is where it was, as it was",
        "the official plugin leaves it in the pod when the IPAM plugin or the result fails, and takes its addresses",
        (
            "host-device-ipam-*",
            "host-device-interface-exists*",
            "protocol-host-device-args-*",
            "version-*-host-device-layer2",
        ),
        ("* ADD host-device", "* DEL host-device"),
        ("node/links/*", "p1/links/eth0", "node/routes", "node/sysctls/*"),
    ),
    Intended(
        "DEL of host-device finds nothing left to do",
        "the official DEL fails without a namespace, a device or its alias, and whatever the netconf says by now",
        ("*host-device*",),
        ("* DEL host-device",),
        ("exit", "stdout"),
        "^0?$",
    ),
    Intended(
        "DEL of host-device needs no namespace",
        "the official DEL keeps the addresses, and the device stays with the pod's namespace",
        ("host-device-del-without-netns", "host-device-del-netns-gone"),
        ("* DEL host-device",),
        ("files//var/lib/cni/networks/net1/10.9.0.2", "node/links/m*", "p1/links/eth0", "p1/routes"),
    ),
    Intended(
        "a device that cannot be taken back keeps its addresses",
        "the official DEL has moved it out of the pod and in again",
        ("host-device-name-taken-meanwhile",),
        ("* DEL host-device",),
        ("p1/links/eth0/addresses", "p1/routes"),
        "10.9.0.2",
    ),
    Intended(
        "host-device says what the kernel says",
        "its own explanation stands behind the error's name; and the device goes straight into the pod",
        ("host-device-loopback", "host-device-name-taken-meanwhile"),
        ours="(file exists|invalid argument) [(]|to container NS: invalid argument",
    ),
)
