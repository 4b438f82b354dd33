"""bridge: its keys one by one, several pods, what it finds on the node, and what it refuses."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

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

IPV6 = host_local("fd09::/64")
CHOSEN_MAC = "c2:c2:c2:c2:44:55"

# name -> keys added to a bridge netconf that already has ipam.
KEYS: dict[str, Conf] = {
    "name": {"bridge": "br-test"},
    "gateway": {"isGateway": True},
    "default-gateway": {"isDefaultGateway": True},
    "default-gateway-dual": {"isDefaultGateway": True, "ipam": DUAL_STACK},
    "ipv6": {"isGateway": True, "ipam": IPV6},
    "ipv6-default": {"isDefaultGateway": True, "ipam": IPV6},
    "force-address": {"isGateway": True, "forceAddress": True},
    "masquerade": {"isGateway": True, "ipMasq": True},
    "masquerade-only": {"ipMasq": True},
    "masquerade-ipv6": {"isGateway": True, "ipMasq": True, "ipam": IPV6},
    "masquerade-dual": {"isGateway": True, "ipMasq": True, "ipam": DUAL_STACK},
    "mtu": {"mtu": 1400},
    "mtu-zero": {"mtu": 0},
    "mtu-jumbo": {"mtu": 9000},
    "hairpin": {"hairpinMode": True},
    "promiscuous": {"promiscMode": True},
    "args-cni-mac": {"args": {"cni": {"mac": CHOSEN_MAC}}},
    "runtime-mac": {"runtimeConfig": {"mac": CHOSEN_MAC}},
    "mac-spoof-check": {"macspoofchk": True},
    "port-isolation": {"portIsolation": True},
    "container-interface-down": {"disableContainerInterface": True, "ipam": {}},
    "enable-dad-dual": {"enabledad": True, "isGateway": True, "ipam": DUAL_STACK},
    "masquerade-iptables": {"ipMasq": True, "ipMasqBackend": "iptables"},
    "masquerade-nftables": {"ipMasq": True, "ipMasqBackend": "nftables"},
    "masquerade-nftables-dual": {"ipMasq": True, "ipMasqBackend": "nftables", "isGateway": True, "ipam": DUAL_STACK},
    "unknown-keys": {"gsoMaxSize": 63500, "somethingElse": [1, {"a": None}]},
    "null-values": {"bridge": None, "mtu": None, "ipMasq": None, "dns": None},
    "dns-of-ipam": {"dns": {"nameservers": ["10.0.0.1"]}},
    "enable-dad": {"enabledad": True, "ipam": IPV6},
    "routes": {"ipam": host_local(routes=[{"dst": "10.50.0.0/16", "gw": "10.9.0.7"}, {"dst": "10.51.0.0/16"}])},
    "routes-same-twice": {"ipam": host_local(routes=[{"dst": "10.50.0.0/16"}, {"dst": "10.50.0.0/16"}])},
    "default-route-of-ipam": {"isDefaultGateway": True, "ipam": host_local(routes=[{"dst": "0.0.0.0/0"}])},
    "small-subnet": {"isGateway": True, "ipam": host_local("10.9.0.0/30")},
    "static-ipam": {
        "isGateway": True,
        "ipam": {"type": "static", "addresses": [{"address": "10.9.0.9/24", "gateway": "10.9.0.1"}]},
    },
    "two-ranges": {
        "ipam": {"type": "host-local", "ranges": [[{"subnet": "10.9.0.0/24"}], [{"subnet": "10.8.0.0/24"}]]}
    },
}

REFUSED: dict[str, Conf] = {
    "hairpin-and-promiscuous": {"hairpinMode": True, "promiscMode": True},
    "vlan-too-large": {"vlan": 4095},
    "vlan-negative": {"vlan": -1},
    "container-interface-down-with-ipam": {"disableContainerInterface": True},
    "masquerade-backend": {"ipMasq": True, "ipMasqBackend": "other"},
    "masquerade-backend-unused": {"ipMasqBackend": "other"},
    "port-isolation-text": {"portIsolation": "yes"},
    "mtu-text": {"mtu": "1400"},
    "mtu-fraction": {"mtu": 1.5},
    "mtu-negative": {"mtu": -5},
    "bool-text": {"isGateway": "true"},
    "ipam-text": {"ipam": "host-local"},
    "ipam-unknown": {"ipam": {"type": "no-such-plugin"}},
    "ipam-type-path": {"ipam": {"type": "../bridge"}},
    "ipam-without-address": {"ipam": {"type": "static"}},
    "ipam-fails": {"ipam": {"type": "host-local"}},
    "runtime-mac-invalid": {"runtimeConfig": {"mac": "not-a-mac"}},
    "bridge-name-long": {"bridge": "a-bridge-name-that-is-too-long"},
}


def conf(**keys: Any) -> Conf:
    """A bridge netconf with an address for the pod."""
    return netconf("bridge", **{"ipam": host_local(), **keys})


def cases() -> Iterator[Case]:
    """All cases of bridge."""
    for name, keys in KEYS.items():
        yield Case(f"bridge-{name}", *life("bridge", conf(**keys)))
    for name, keys in REFUSED.items():
        yield Case(f"bridge-refused-{name}", *life("bridge", conf(**keys)))
    for name, steps in situations().items():
        yield Case(f"bridge-{name}", *steps, pods=("p1", "p2"))


def situations() -> dict[str, tuple[Step, ...]]:
    """Steps that need more than one netconf."""
    gateway = conf(isGateway=True)
    masquerade = conf(isGateway=True, ipMasq=True)
    other_subnet = conf(isGateway=True, ipam=host_local("10.8.0.0/24"))
    return {
        "two-pods": (
            add("bridge", masquerade), add("bridge", masquerade, "p2"), check("bridge", masquerade),
            delete("bridge", masquerade), check("bridge", masquerade, "p2"), delete("bridge", masquerade, "p2"),
        ),
        "two-interfaces": (
            add("bridge", gateway), add("bridge", other_subnet | {"name": "net2", "bridge": "cni1"}, CNI_IFNAME="net1"),
            delete("bridge", gateway), delete("bridge", other_subnet | {"name": "net2"}, CNI_IFNAME="net1"),
        ),
        "second-add": (add("bridge", gateway), add("bridge", gateway), delete("bridge", gateway)),
        "interface-exists": (
            Shell("ip link add eth0 type veth peer name other", "p1"),
            add("bridge", gateway), delete("bridge", gateway),
        ),
        "bridge-exists": (Shell("ip link add cni0 mtu 1400 type bridge"), *life("bridge", gateway)),
        "bridge-is-up-with-address": (
            Shell("ip link add cni0 address c2:c2:c2:c2:00:09 type bridge; ip link set cni0 up; "
                  "ip addr add 10.9.0.1/24 dev cni0"),
            *life("bridge", gateway),
        ),
        "bridge-has-other-address": (
            Shell("ip link add cni0 type bridge; ip link set cni0 up; ip addr add 10.1.0.1/24 dev cni0"),
            *life("bridge", gateway),
        ),
        "bridge-forced-address": (
            Shell("ip link add cni0 type bridge; ip link set cni0 up; ip addr add 10.1.0.1/24 dev cni0"),
            *life("bridge", gateway | {"forceAddress": True}),
        ),
        "bridge-is-no-bridge": (Shell("ip link add cni0 type veth peer name other"), *life("bridge", gateway)),
        "del-with-previous-result": (add("bridge", masquerade), delete("bridge", masquerade, after=True)),
        "del-without-netns": (add("bridge", masquerade), delete("bridge", masquerade, CNI_NETNS="")),
        "del-after-netns-is-gone": (
            add("bridge", masquerade), delete("bridge", masquerade, CNI_NETNS="/run/netns/gone"),
        ),
        "del-after-interface-is-gone": (
            add("bridge", masquerade), Shell("ip link del eth0", "p1"), delete("bridge", masquerade),
        ),
        "del-before-add": (delete("bridge", masquerade),),
        "mac-argument": life("bridge", conf(isGateway=True, ipam=static()), CNI_ARGS=f"MAC={CHOSEN_MAC}"),
        "mac-argument-ignored": life("bridge", gateway, CNI_ARGS=f"IgnoreUnknown=1;MAC={CHOSEN_MAC}"),
        "kubelet-arguments": life("bridge", gateway, CNI_ARGS="IgnoreUnknown=1;K8S_POD_NAMESPACE=default;"
                                  "K8S_POD_NAME=web;K8S_POD_INFRA_CONTAINER_ID=abc;K8S_POD_UID=1"),
        "check-without-result": (add("bridge", gateway), Call("bridge", "CHECK", gateway)),
        "check-address-missing": (
            add("bridge", gateway), Shell("ip addr flush dev eth0", "p1"), check("bridge", gateway),
        ),
        "check-interface-missing": (add("bridge", gateway), Shell("ip link del eth0", "p1"), check("bridge", gateway)),
        "check-bridge-missing": (add("bridge", gateway), Shell("ip link del cni0"), check("bridge", gateway)),
        "check-detached": (
            add("bridge", gateway),
            Shell("ip link set $(ip -br link show master cni0 | cut -d@ -f1) nomaster"), check("bridge", gateway),
        ),
        "check-default-route-missing": (
            add("bridge", conf(isDefaultGateway=True)),
            Shell("ip route del default", "p1"), check("bridge", conf(isDefaultGateway=True)),
        ),
        "check-reservation-missing": (
            add("bridge", gateway), Shell("rm /var/lib/cni/networks/net1/10.9.0.2"), check("bridge", gateway),
        ),
    }  # fmt: skip


def static() -> Conf:
    """An ipam section for the static plugin."""
    return {"type": "static", "addresses": [{"address": "10.9.0.9/24", "gateway": "10.9.0.1"}]}
