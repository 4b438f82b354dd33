"""VLANs of bridge: which ones the pod's port is in, the gateway's interface among them, and what is refused."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

from tests.cni.differential.cases.bridge import conf
from tests.cni.differential.scenario import DUAL_STACK, Case, Conf, Shell, Step, add, delete, host_local, life

NEEDS = ("bridge VLANs",)
WITH_SYSCTLS = ("access", "gateway-dual", "trunk")
RANGE = {"minID": 10, "maxID": 20}

# name -> keys added to a bridge netconf that already has ipam.
KEYS: dict[str, Conf] = {
    "access": {"vlan": 100},
    "access-lowest": {"vlan": 1},
    "access-highest": {"vlan": 4094},
    "access-and-default": {"vlan": 100, "preserveDefaultVlan": True},
    "access-lowest-and-default": {"vlan": 1, "preserveDefaultVlan": True},
    "access-hairpin": {"vlan": 100, "hairpinMode": True},
    "access-masquerade": {"vlan": 100, "ipMasq": True, "isGateway": True},
    "gateway": {"vlan": 100, "isGateway": True},
    "gateway-and-default": {"vlan": 100, "isGateway": True, "preserveDefaultVlan": True},
    "gateway-mtu": {"vlan": 100, "isGateway": True, "mtu": 1400},
    "gateway-default": {"vlan": 100, "isDefaultGateway": True},
    "gateway-ipv6": {"vlan": 100, "isGateway": True, "ipam": host_local("fd09::/64")},
    "gateway-dual": {"vlan": 100, "isGateway": True, "ipam": DUAL_STACK},
    "trunk": {"vlanTrunk": [RANGE, {"id": 5}]},
    "trunk-and-default": {"vlanTrunk": [RANGE, {"id": 5}], "preserveDefaultVlan": True},
    "trunk-and-native": {"vlanTrunk": [RANGE], "vlan": 100},
    "trunk-with-native": {"vlanTrunk": [RANGE], "vlan": 15},
    "trunk-and-native-and-default": {"vlanTrunk": [RANGE], "vlan": 100, "preserveDefaultVlan": True},
    "trunk-and-native-gateway": {"vlanTrunk": [RANGE], "vlan": 100, "isGateway": True},
    "trunk-of-all": {"vlanTrunk": [{"minID": 1, "maxID": 4094}]},
    "trunk-overlapping": {"vlanTrunk": [RANGE, {"minID": 15, "maxID": 25, "id": 26}, {"id": 12}]},
    "trunk-empty": {"vlanTrunk": []},
    "trunk-of-nothing": {"vlanTrunk": [{}]},
    "trunk-gateway": {"vlanTrunk": [RANGE], "isGateway": True},
    "trunk-empty-and-access": {"vlanTrunk": [], "vlan": 100},
    "default": {"preserveDefaultVlan": True},
}

# The same, on a bridge that puts new ports into another VLAN than 1, or into none.
ON_ANOTHER_BRIDGE: dict[str, Conf] = {
    "access": {"vlan": 100, "isGateway": True},
    "access-kept": {"vlan": 100, "isGateway": True, "preserveDefaultVlan": True},
    "trunk": {"vlanTrunk": [RANGE]},
    "trunk-kept": {"vlanTrunk": [RANGE], "preserveDefaultVlan": True},
    "trunk-empty": {"vlanTrunk": []},
}

REFUSED: dict[str, Conf] = {
    "range-without-end": {"vlanTrunk": [{"minID": 10}]},
    "range-without-start": {"vlanTrunk": [{"maxID": 10}]},
    "range-reversed": {"vlanTrunk": [{"minID": 20, "maxID": 10}]},
    "range-from-zero": {"vlanTrunk": [{"minID": 0, "maxID": 10}]},
    "range-too-far": {"vlanTrunk": [{"minID": 1, "maxID": 4095}]},
    "id-zero": {"vlanTrunk": [{"id": 0}]},
    "id-too-large": {"vlanTrunk": [{"id": 4095}]},
    "range-and-id-wrong": {"vlanTrunk": [{"minID": 20, "maxID": 10, "id": 0}]},
    "trunk-number": {"vlanTrunk": 5},
    "trunk-of-numbers": {"vlanTrunk": [5]},
    "trunk-id-text": {"vlanTrunk": [{"id": "5"}]},
    "vlan-text": {"vlan": "100"},
    "preserve-text": {"preserveDefaultVlan": "no"},
}


def cases() -> Iterator[Case]:
    """All cases of VLANs."""
    for name, keys in KEYS.items():
        yield case(name, *life("bridge", conf(**keys)), with_sysctls=name in WITH_SYSCTLS)
    for default, (name, keys) in product((0, 5), ON_ANOTHER_BRIDGE.items()):
        bridge = Shell(f"ip link add cni0 type bridge vlan_filtering 1 vlan_default_pvid {default}")
        yield case(f"default-{default}-{name}", bridge, *life("bridge", conf(**keys)))
    for name, steps in situations().items():
        yield case(name, *steps)
    for name, keys in REFUSED.items():
        yield Case(f"bridge-refused-vlan-{name}", add("bridge", conf(**keys)))
    too_long = conf(vlan=100, isGateway=True, bridge="bridge-of-15-by")
    yield Case("bridge-refused-vlan-gateway-name-long", add("bridge", too_long), needs=NEEDS)


def case(name: str, *steps: Step, with_sysctls: bool = False) -> Case:
    """A case that needs a kernel with VLANs."""
    return Case(f"bridge-vlan-{name}", *steps, pods=("p1", "p2"), needs=NEEDS, with_sysctls=with_sysctls)


def situations() -> dict[str, tuple[Step, ...]]:
    """Steps that need more than one netconf, or a bridge that is there."""
    gateway = conf(vlan=100, isGateway=True)
    other = conf(vlan=200, isGateway=True, ipam=host_local("10.8.0.0/24")) | {"name": "net2"}
    layer2 = conf(vlan=100, isGateway=True, ipam={})
    return {
        "layer2": (add("bridge", layer2), delete("bridge", layer2)),
        "two-pods": (
            add("bridge", gateway), add("bridge", gateway, "p2"),
            delete("bridge", gateway), delete("bridge", gateway, "p2"),
        ),
        "two-vlans": (
            add("bridge", gateway), add("bridge", other, "p2"),
            delete("bridge", gateway), delete("bridge", other, "p2"),
        ),
        "access-beside-plain-pods": (
            add("bridge", conf(vlan=100)), add("bridge", conf(isGateway=True), "p2"),
        ),
        "gateway-exists": (
            Shell("ip link add cni0 type bridge vlan_filtering 1; ip link set cni0 up; ip link add cni0.100 type veth "
                  "peer name other; ip link set cni0.100 up; ip addr add 10.9.0.1/24 dev cni0.100"),
            *life("bridge", gateway),
        ),
        "gateway-has-other-address": (
            Shell("ip link add cni0 type bridge vlan_filtering 1; ip link set cni0 up; ip link add cni0.100 type veth "
                  "peer name other; ip link set cni0.100 up; ip addr add 10.1.0.1/24 dev cni0.100"),
            *life("bridge", gateway | {"forceAddress": True}),
        ),
    }  # fmt: skip
