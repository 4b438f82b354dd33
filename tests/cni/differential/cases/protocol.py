"""The process protocol, the same for every plugin: variables, standard input, versions, the shape of errors."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from tests.cni.differential.scenario import Call, Case, Conf, Shell, add, check, delete, host_local, netconf

MASTER = Shell("ip link add m0 type veth peer name m1; ip link set m0 up; ip link set m1 up")
RESULT: Conf = {
    "cniVersion": "1.0.0",
    "interfaces": [{"name": "eth0", "mac": "c2:c2:c2:c2:00:01", "sandbox": "/run/netns/p1"}],
    "ips": [{"address": "10.9.0.2/24", "gateway": "10.9.0.1", "interface": 0}],
}

# One plain netconf for each plugin that both sides have.
PLAIN: dict[str, Conf] = {
    "bridge": netconf("bridge", ipam=host_local()),
    "host-local": netconf("any", ipam=host_local()),
    "static": netconf("any", ipam={"type": "static", "addresses": [{"address": "10.9.0.5/24"}]}),
    "dhcp": netconf("any", ipam={"type": "dhcp"}),
    "loopback": netconf("loopback"),
    "ptp": netconf("ptp", ipam=host_local()),
    "macvlan": netconf("macvlan", master="m0", ipam=host_local()),
    "vlan": netconf("vlan", master="m0", vlanId=5, ipam=host_local()),
    "ipvlan": netconf("ipvlan", master="m0", ipam=host_local()),
    "dummy": netconf("dummy", ipam=host_local()),
    "vrf": netconf("vrf", vrfname="blue", prevResult=RESULT),
    "tap": netconf("tap", ipam=host_local()),
    "host-device": netconf("host-device", device="m0", ipam=host_local()),
    "sbr": netconf("sbr", prevResult=RESULT),
    "portmap": netconf("portmap", prevResult=RESULT),
    "tuning": netconf("tuning", prevResult=RESULT),
    "bandwidth": netconf("bandwidth", prevResult=RESULT),
    "firewall": netconf("firewall", prevResult=RESULT),
}

ON_A_LINK = ("macvlan", "vlan", "ipvlan", "host-device")
MAY_BE_LACKING = ("vlan", "ipvlan", "dummy", "vrf")
"""Plugins whose kind of link a kernel may lack."""

BAD_VALUES: dict[str, dict[str, Any]] = {
    "id-empty": {"CNI_CONTAINERID": ""},
    "id-invalid": {"CNI_CONTAINERID": "-dash"},
    "id-slash": {"CNI_CONTAINERID": "a/b"},
    "ifname-long": {"CNI_IFNAME": "sixteen-letters-"},
    "ifname-dot": {"CNI_IFNAME": "."},
    "ifname-slash": {"CNI_IFNAME": "a/b"},
    "ifname-space": {"CNI_IFNAME": "a b"},
    "no-path": {"CNI_PATH": None},
    "nothing-but-command": {"CNI_CONTAINERID": None, "CNI_NETNS": None, "CNI_IFNAME": None, "CNI_PATH": None},
}

BAD_INPUT = {
    "empty": "",
    "not-json": "{ nonsense",
    "array": "[]",
    "no-name": '{"cniVersion": "1.0.0", "type": "x"}',
    "name-type": '{"cniVersion": "1.0.0", "name": 7}',
    "name-invalid": '{"cniVersion": "1.0.0", "name": "a b"}',
    "version-unknown": '{"cniVersion": "9.9.9", "name": "net1"}',
    "version-type": '{"cniVersion": 1, "name": "net1"}',
}

# Keys of a wrong type that more than one plugin reads, and who they are.
WITH_IPAM = ("bridge", "ptp", "macvlan", "vlan", "ipvlan", "dummy", "tap", "host-device")
LOADING = ("bridge", "ptp", "vlan", "ipvlan", "tap", "host-device")  # DEL of the other two says so in other words
CHAINED = ("portmap", "tuning", "firewall", "bandwidth", "vrf")  # the official sbr looks at nothing in CHECK
BAD_TYPES: dict[str, tuple[Conf, tuple[str, ...]]] = {
    "ipam": ({"ipam": "host-local"}, LOADING),
    "ipam-type": ({"ipam": {"type": 5}}, LOADING),
    "dns": ({"dns": []}, WITH_IPAM),
    "dns-servers": ({"dns": {"nameservers": "10.0.0.53"}}, WITH_IPAM),
    "result": ({"prevResult": "none"}, (*WITH_IPAM, *CHAINED, "loopback")),
    "result-addresses": (
        {"prevResult": {"cniVersion": "1.0.0", "ips": "10.9.0.2/24"}},
        ("portmap", "tuning", "firewall", "bandwidth"),
    ),
    "result-routes": (
        {"prevResult": {"cniVersion": "1.0.0", "routes": [{"dst": "10.0.0.0/8", "mtu": "x"}]}},
        ("portmap", "tuning", "firewall"),
    ),
    "result-interface": (
        {"prevResult": {"cniVersion": "1.0.0", "interfaces": [{"name": "eth0", "mtu": "x"}]}},
        ("portmap", "tuning", "firewall"),
    ),
}


def cases() -> Iterator[Case]:
    """Every check of the protocol, on every plugin."""
    for kind, conf in PLAIN.items():
        for case in cases_of(kind, conf):
            case.needs = (kind,) if kind in MAY_BE_LACKING else ()
            yield case


def cases_of(kind: str, conf: Conf) -> Iterator[Case]:
    """Every check of the protocol, on one plugin."""
    setting = (MASTER,) if kind in ON_A_LINK else ()
    name = f"protocol-{kind}"
    yield Case(f"{name}-version", Call(kind, "VERSION", conf))
    yield Case(f"{name}-no-command", Call(kind, "", conf))
    yield Case(f"{name}-unknown-command", Call(kind, "add", conf))
    for variation, env in BAD_VALUES.items():
        yield Case(f"{name}-{variation}", *setting, add(kind, conf, **env), delete(kind, conf, **env))
    for variation, text in BAD_INPUT.items():
        yield Case(f"{name}-input-{variation}", *setting, add(kind, text), delete(kind, text))
    for variation, (keys, kinds) in BAD_TYPES.items():
        if kind in kinds:
            yield Case(f"{name}-type-of-{variation}", *setting, add(kind, conf | keys), check(kind, conf | keys),
                       delete(kind, conf | keys))  # fmt: skip
    yield Case(f"{name}-too-old", check(kind, conf | {"cniVersion": "0.3.1"}), Call(kind, "GC", conf),
               Call(kind, "STATUS", conf))  # fmt: skip
    yield Case(f"{name}-gc", Call(kind, "GC", conf | {"cniVersion": "1.1.0", "cni.dev/valid-attachments": []}))
    yield Case(f"{name}-status", Call(kind, "STATUS", conf | {"cniVersion": "1.1.0"}))
    yield Case(f"{name}-status-ready", *setting, Call(kind, "STATUS", conf | {"cniVersion": "1.1.0"}))
    yield Case(f"{name}-netns-missing", *setting, add(kind, conf, CNI_NETNS="/run/netns/gone"),
               delete(kind, conf, CNI_NETNS="/run/netns/gone"), delete(kind, conf, CNI_NETNS=""))  # fmt: skip
    yield Case(f"{name}-netns-own", *setting, add(kind, conf, CNI_NETNS="/proc/self/ns/net"))
    yield Case(f"{name}-args-malformed", *setting, add(kind, conf, CNI_ARGS="A=B=C"), delete(kind, conf))
    yield Case(f"{name}-args-unknown", *setting, add(kind, conf, CNI_ARGS="FOO=bar"), delete(kind, conf))
    yield Case(f"{name}-keys-in-capitals", *setting, add(kind, capitalised(conf)), delete(kind, capitalised(conf)))


def capitalised(conf: Conf) -> str:
    """The netconf with its top-level keys in capitals, which Go's JSON reader takes as the same keys."""
    return json.dumps({key.upper(): value for key, value in conf.items()})
