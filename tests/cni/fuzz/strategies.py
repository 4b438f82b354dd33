"""What is thrown at the plugins: netconfs near to valid ones, environments, and files where state should be."""

from __future__ import annotations

import copy
import json
from typing import Any

from hypothesis import strategies as st

Conf = dict[str, Any]

HOST_LOCAL: Conf = {
    "type": "host-local",
    "ranges": [[{"subnet": "10.9.0.0/29", "rangeStart": "10.9.0.2", "gateway": "10.9.0.1"}], [{"subnet": "fd09::/64"}]],
    "routes": [{"dst": "0.0.0.0/0", "gw": "10.9.0.1"}],
    "dataDir": "/var/lib/cni/networks",
}
RESULT: Conf = {
    "cniVersion": "1.0.0",
    "interfaces": [{"name": "cni0", "mac": "c2:c2:c2:c2:00:01"}, {"name": "eth0", "sandbox": "/run/netns/p1"}],
    "ips": [{"address": "10.9.0.2/24", "gateway": "10.9.0.1", "interface": 1}],
    "routes": [{"dst": "0.0.0.0/0"}],
    "dns": {"nameservers": ["10.9.0.53"]},
}
BANDWIDTH = {"ingressRate": 8000000, "ingressBurst": 8000000, "egressRate": 8000000, "egressBurst": 8000000}
PORT = {"hostPort": 8080, "containerPort": 80, "protocol": "tcp", "hostIP": "192.0.2.1"}

# A netconf of each plugin with every key that it knows.
NETCONFS: dict[str, Conf] = {
    "bridge": {
        "bridge": "cni0", "isGateway": True, "isDefaultGateway": False, "forceAddress": False, "mtu": 1400,
        "hairpinMode": False, "promiscMode": False, "vlan": 0, "macspoofchk": False, "ipam": HOST_LOCAL,
        "args": {"cni": {"mac": "c2:c2:c2:c2:00:02"}}, "runtimeConfig": {"mac": "c2:c2:c2:c2:00:03"}, "dns": {},
    },
    "host-local": {"ipam": HOST_LOCAL, "runtimeConfig": {"ips": ["10.9.0.4"]}, "args": {"cni": {"ips": ["fd09::4"]}}},
    "static": {
        "ipam": {"type": "static", "addresses": [{"address": "10.9.0.5/24", "gateway": "10.9.0.1"}], "routes": []},
        "runtimeConfig": {"ips": ["10.9.0.6/24"]},
    },
    "dhcp": {"ipam": {"type": "dhcp", "daemonSocketPath": "/run/no.sock", "provide": [{"option": "12"}]}},
    "loopback": {"prevResult": RESULT},
    "flannel": {"subnetFile": "/run/flannel/subnet.env", "dataDir": "/var/lib/cni/flannel", "delegate": {"mtu": 1400}},
    "portmap": {"snat": True, "masqAll": False, "markMasqBit": 5, "conditionsV4": ["-s", "192.0.2.1"],
                "runtimeConfig": {"portMappings": [PORT]}, "prevResult": RESULT},
    "ptp": {"mtu": 1400, "ipam": HOST_LOCAL, "dns": {"nameservers": []}},
    "macvlan": {"master": "lo", "mode": "bridge", "mtu": 0, "mac": "c2:c2:c2:c2:00:04", "ipam": HOST_LOCAL},
    "host-device": {"device": "m0", "hwaddr": "c2:c2:c2:c2:00:08", "kernelpath": "/sys/devices/virtual",
                    "pciBusID": "", "runtimeConfig": {"deviceID": ""}, "ipam": HOST_LOCAL, "prevResult": RESULT},
    "sbr": {"table": 200, "prevResult": RESULT},
    "vlan": {"master": "lo", "vlanId": 5, "mtu": 0, "linkInContainer": False, "ipam": HOST_LOCAL},
    "ipvlan": {"master": "lo", "mode": "l2", "mtu": 0, "linkInContainer": True, "ipam": HOST_LOCAL},
    "dummy": {"ipam": HOST_LOCAL},
    "vrf": {"vrfname": "blue", "table": 50, "prevResult": RESULT},
    "tap": {"multiQueue": False, "mtu": 1400, "mac": "c2:c2:c2:c2:00:06", "owner": 1000, "group": 1000, "bridge": "",
            "args": {}, "runtimeConfig": {"mac": "c2:c2:c2:c2:00:07"}, "ipam": HOST_LOCAL},
    "tuning": {"sysctl": {"net.ipv4.conf.IFNAME.arp_filter": "1"}, "mtu": 1400, "mac": "c2:c2:c2:c2:00:05",
               "promisc": True, "allmulti": True, "txQLen": 500, "dataDir": "/run/cni/tuning", "prevResult": RESULT},
    "bandwidth": {**BANDWIDTH, "runtimeConfig": {"bandwidth": BANDWIDTH}, "prevResult": RESULT},
    "firewall": {"backend": "iptables", "iptablesAdminChainName": "ADMIN", "ingressPolicy": "same-bridge",
                 "prevResult": RESULT},
}  # fmt: skip

KINDS = sorted(NETCONFS)
VERBS = ["ADD", "DEL", "CHECK", "GC", "STATUS"]
VERSIONS = ["", "0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"]

# Values that mean something to one key and nothing to another, and values that mean nothing to any.
TELLING: st.SearchStrategy[Any] = st.sampled_from([
    None, True, False, 0, -1, 1, 65536, 2**31, 2**63, 2**64, 1.5, 1e400, "", "0", "eth0", "lo", "/", "..", "\x00",
    "10.9.0.3", "10.9.0.0/24", "10.9.0.3/33", "::", "fd09::1/64", "::ffff:10.9.0.1", "01.2.3.4", "9" * 400, "\ud800",
    "c2:c2:c2:c2:00:09", "c2:c2", "tcp", "host-local", "static", "bridge", "net.core.somaxconn", [], {}, [[]], [None],
])  # fmt: skip
ANY_JSON = st.one_of(
    TELLING,
    st.text(max_size=12),
    st.integers(),
    st.lists(TELLING, max_size=3),
    st.dictionaries(st.sampled_from(["type", "subnet", "dst", "gw", "address", "option", "x"]), TELLING, max_size=3),
)


@st.composite
def netconfs(draw: st.DrawFn, kind: str) -> str:
    """A netconf of `kind` in which up to three values were replaced, added or taken away; now and then cut short."""
    conf = copy.deepcopy(NETCONFS[kind])
    conf |= {"cniVersion": draw(st.sampled_from(VERSIONS)), "name": "net1", "type": kind}
    for _ in range(draw(st.integers(0, 3))):
        mutate(draw, conf)
    text = json.dumps(conf)
    return text[: draw(st.integers(0, len(text)))] if draw(st.integers(0, 19)) == 0 else text


def mutate(draw: st.DrawFn, conf: Any) -> None:
    """Change one value somewhere in `conf`, in place."""
    container, key = draw(st.sampled_from(places(conf)))
    value = copy.deepcopy(draw(ANY_JSON))  # a sampled value is one object for all examples
    match draw(st.sampled_from(["replace", "replace", "remove", "insert"])):
        case "replace":
            container[key] = value
        case "remove":
            del container[key]
        case _ if isinstance(container, list):
            container.insert(key, value)
        case _:
            container[draw(st.sampled_from(["prevResult", "ipam", "runtimeConfig", "args", "mtu", "x"]))] = value


def places(value: Any) -> list[tuple[Any, Any]]:
    """Every (container, key) within a JSON value."""
    keys = list(value) if isinstance(value, dict) else list(range(len(value))) if isinstance(value, list) else []
    found = [(value, key) for key in keys]
    for key in keys:
        found += places(value[key])
    return found


def environments(verb: st.SearchStrategy[str]) -> st.SearchStrategy[dict[str, str]]:
    """CNI_* variables that a plugin may get from a runtime: mostly right, each now and then wrong or absent."""
    path = "/opt/cni/bin"
    return st.fixed_dictionaries(
        {"CNI_COMMAND": verb},
        optional={
            "CNI_CONTAINERID": usually("c1", st.text(ENVIRONMENT_CHARACTERS, max_size=8)),
            "CNI_NETNS": usually(
                "/run/netns/p1", st.sampled_from(["", "/nowhere", "/run/netns/file", "/run", "x\x01"])
            ),
            "CNI_IFNAME": usually("eth0", st.text(ENVIRONMENT_CHARACTERS, max_size=17)),
            "CNI_PATH": usually(path, st.sampled_from(["", ":", "/nowhere", f"/nowhere:{path}", "relative"])),
            "CNI_ARGS": usually("IgnoreUnknown=1", ARGUMENTS),
            "CNI_NETNS_OVERRIDE": st.sampled_from(["", "1", "TRUE", "no"]),
        },
    )


def usually(value: str, otherwise: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """`value` three times out of four."""
    return st.one_of(st.just(value), st.just(value), st.just(value), otherwise)


# What the kernel lets a variable hold: everything but NUL; bytes that are no UTF-8 arrive as surrogates.
ENVIRONMENT_CHARACTERS = st.characters(min_codepoint=1, max_codepoint=0x2FF) | st.just("\udcff")
ARGUMENTS = st.one_of(
    st.text(ENVIRONMENT_CHARACTERS, max_size=20),
    st.lists(
        st.sampled_from(["IP=10.9.0.3", "IP=x", "MAC=c2:c2:c2:c2:00:06", "MAC=", "GATEWAY=1", "=", "A=B", ""])
    ).map(";".join),
)

FILE_CONTENT = st.one_of(
    st.binary(max_size=40).map(lambda data: data.decode("utf-8", "surrogateescape")),
    st.sampled_from(
        ["", "c1", "c1\r\neth0", "c1\neth0", "\r\n", "{}", "null", "[]", "{", "10.9.0.3", "c1\r\neth0\r\n", "0"]
    ),
    ANY_JSON.map(json.dumps),
)
STATE_FILES = st.dictionaries(
    st.sampled_from([
        "/var/lib/cni/networks/net1/10.9.0.2", "/var/lib/cni/networks/net1/10.9.0.3",
        "/var/lib/cni/networks/net1/fd09::2", "/var/lib/cni/networks/net1/last_reserved_ip.0",
        "/var/lib/cni/networks/net1/last_reserved_ip.1", "/var/lib/cni/networks/net1/lock",
        "/var/lib/cni/networks/.udplane/net1/boot_id", "/var/lib/cni/networks/net1/300.1.2.3",
        "/var/lib/cni/networks/.udplane/net1/stamp", "/var/lib/cni/networks/.udplane",
        "/var/lib/cni/networks/net1/10.9.0.2/directory", "/var/lib/cni/networks/net1", "/var/lib/cni/flannel/c1",
        "/var/lib/cni/flannel/c1@eth0", "/run/cni/tuning/c1_eth0.json", "/etc/cni/tuning/allowlist.conf",
    ]),
    FILE_CONTENT,
    max_size=4,
).filter(lambda files: not any(f"{other}/" in path for path in files for other in files))  # fmt: skip

SUBNET_ENV_LINES = {
    "FLANNEL_NETWORK": "10.78.0.0/16",
    "FLANNEL_SUBNET": "10.78.5.1/24",
    "FLANNEL_IPV6_NETWORK": "fd78::/48",
    "FLANNEL_IPV6_SUBNET": "fd78:0:0:5::1/64",
    "FLANNEL_MTU": "1472",
    "FLANNEL_IPMASQ": "false",
    "UDPLANE_GSO_MAX_SIZE": "63500",
}


@st.composite
def subnet_envs(draw: st.DrawFn) -> str:
    """A subnet.env of which some lines are missing, doubled, changed or nonsense."""
    lines = []
    for key, value in SUBNET_ENV_LINES.items():
        right = st.just([f"{key}={value}"])
        odd = st.sampled_from([f"{key}=", key, f"{key}={value}={value}", f" {key} = {value} ", "", "=", "\x00"])
        junk = st.tuples(st.just(key), FILE_CONTENT).map("=".join)
        lines += draw(st.one_of(right, right, st.lists(st.one_of(odd, junk), max_size=2)))
    return draw(st.sampled_from(["\n", "\r\n"])).join(lines)
