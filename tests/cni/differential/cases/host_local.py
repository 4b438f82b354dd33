"""host-local: ranges, requests, the state on disk, and what it refuses."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tests.cni.differential.scenario import DUAL_STACK, Case, Conf, Shell, Step, add, check, delete, life, netconf

DIR = "/var/lib/cni/networks/net1"

# name -> ipam section, without its type.
IPAM: dict[str, Conf] = {
    "subnet": {"subnet": "10.9.0.0/24"},
    "subnet-ipv6": {"subnet": "fd09::/64"},
    "range": {"subnet": "10.9.0.0/24", "rangeStart": "10.9.0.10", "rangeEnd": "10.9.0.12"},
    "range-ipv6": {"subnet": "fd09::/64", "rangeStart": "fd09::10", "rangeEnd": "fd09::20"},
    "gateway": {"subnet": "10.9.0.0/24", "gateway": "10.9.0.2"},
    "gateway-outside": {"subnet": "10.9.0.0/24", "gateway": "10.1.1.1"},
    "slash-30": {"subnet": "10.9.0.0/30"},
    "slash-8": {"subnet": "10.0.0.0/8"},
    "ipv6-128-bits-short-form": {"subnet": "FD09:0:0::0/64"},
    "dual": DUAL_STACK,
    "range-set": {"ranges": [[{"subnet": "10.9.0.0/29"}, {"subnet": "10.8.0.0/29"}]]},
    "ranges-and-subnet": {"subnet": "10.7.0.0/24", "ranges": [[{"subnet": "10.9.0.0/24"}]]},
    "routes": {"subnet": "10.9.0.0/24", "routes": [{"dst": "0.0.0.0/0"}, {"dst": "10.0.0.0/8", "gw": "10.9.0.3"}]},
    "route-attributes": {
        "subnet": "10.9.0.0/24",
        "routes": [
            {"dst": "10.50.0.0/16", "mtu": 1400, "advmss": 1360, "priority": 50},
            {"dst": "10.51.0.0/16", "table": 100, "scope": 0},
            {"dst": "10.52.0.0/16", "scope": 253},
            {"dst": "10.53.0.0/16", "mtu": 0, "priority": 0},
        ],
    },
    "route-host-bits": {"subnet": "10.9.0.0/24", "routes": [{"dst": "10.50.1.1/16"}]},
    "data-dir": {"subnet": "10.9.0.0/24", "dataDir": "/run/elsewhere"},
    "null-fields": {"subnet": "10.9.0.0/24", "rangeStart": None, "gateway": "", "routes": None},
}

REFUSED: dict[str, Conf] = {
    "no-range": {},
    "no-ranges": {"ranges": []},
    "empty-set": {"ranges": [[]]},
    "host-bits": {"subnet": "10.9.0.7/30"},
    "slash-31": {"subnet": "10.9.0.0/31"},
    "slash-32": {"subnet": "10.9.0.1/32"},
    "subnet-text": {"subnet": "nonsense"},
    "subnet-number": {"subnet": 10},
    "start-outside": {"subnet": "10.9.0.0/24", "rangeStart": "10.8.0.1"},
    "end-outside": {"subnet": "10.9.0.0/24", "rangeEnd": "10.10.0.1"},
    "start-after-end": {"subnet": "10.9.0.0/24", "rangeStart": "10.9.0.9", "rangeEnd": "10.9.0.3"},
    "start-text": {"subnet": "10.9.0.0/24", "rangeStart": "x"},
    "gateway-text": {"subnet": "10.9.0.0/24", "gateway": "x"},
    "mixed-families": {"ranges": [[{"subnet": "10.9.0.0/24"}, {"subnet": "fd09::/64"}]]},
    "overlap-in-set": {"ranges": [[{"subnet": "10.9.0.0/24"}, {"subnet": "10.9.0.0/25"}]]},
    "overlap-of-sets": {"ranges": [[{"subnet": "10.9.0.0/24"}], [{"subnet": "10.9.0.0/25"}]]},
    "route-text": {"subnet": "10.9.0.0/24", "routes": [{"dst": "everywhere"}]},
    "route-mtu-text": {"subnet": "10.9.0.0/24", "routes": [{"dst": "10.0.0.0/8", "mtu": "1400"}]},
    "route-scope-text": {"subnet": "10.9.0.0/24", "routes": [{"dst": "10.0.0.0/8", "scope": "link"}]},
    "route-gateway-text": {"subnet": "10.9.0.0/24", "routes": [{"dst": "10.0.0.0/8", "gw": "x"}]},
    "routes-object": {"subnet": "10.9.0.0/24", "routes": {}},
    "ranges-object": {"ranges": {}},
    "ranges-flat": {"ranges": [{"subnet": "10.9.0.0/24"}]},
    "start-number": {"subnet": "10.9.0.0/24", "rangeStart": 5},
    "range-number": {"ranges": [[{"subnet": 10}]]},
    "data-dir-number": {"subnet": "10.9.0.0/24", "dataDir": 5},
    "resolv-conf-missing": {"subnet": "10.9.0.0/24", "resolvConf": "/run/no-such-file"},
}

# What asks for an address: keys of the netconf, then CNI_ARGS.
REQUESTS: dict[str, tuple[Conf, str | None]] = {
    "argument": ({}, "IP=10.9.0.77"),
    "argument-and-kubelet": ({}, "IgnoreUnknown=1;K8S_POD_NAME=web;IP=10.9.0.78"),
    "argument-invalid": ({}, "IP=10.9.0"),
    "argument-gateway": ({}, "IP=10.9.0.1"),
    "argument-network": ({}, "IP=10.9.0.0"),
    "argument-outside": ({}, "IP=10.1.0.5"),
    "argument-ipv6": ({}, "IP=fd00::1"),
    "runtime": ({"runtimeConfig": {"ips": ["10.9.0.80"]}}, None),
    "runtime-prefix": ({"runtimeConfig": {"ips": ["10.9.0.81/24"]}}, None),
    # Not two addresses in one range: which of them the official plugin names as left over is chance (Go's map order).
    "runtime-text": ({"runtimeConfig": {"ips": ["x"]}}, None),
    "args-cni": ({"args": {"cni": {"ips": ["10.9.0.84"]}}}, None),
    "runtime-ranges": ({"runtimeConfig": {"ipRanges": [[{"subnet": "10.3.0.0/24"}]]}}, None),
}


def conf(ipam: Conf, version: str = "1.0.0", **keys: Any) -> Conf:
    """A netconf for host-local itself."""
    return netconf("any", version, ipam={"type": "host-local", **ipam}, **keys)


PLAIN = conf({"subnet": "10.9.0.0/29"})


def cases() -> Iterator[Case]:
    """All cases of host-local."""
    for name, ipam in IPAM.items():
        yield Case(f"host-local-{name}", *life("host-local", conf(ipam)))
    for name, ipam in REFUSED.items():
        yield Case(f"host-local-refused-{name}", add("host-local", conf(ipam)), delete("host-local", conf(ipam)))
    for name, (keys, args) in REQUESTS.items():
        requesting = conf({"subnet": "10.9.0.0/24"}, **keys)
        yield Case(f"host-local-request-{name}", *life("host-local", requesting, CNI_ARGS=args))
    for name, steps in situations().items():
        yield Case(f"host-local-{name}", *steps)


def add_for(container: str, netconf: Conf = PLAIN, **env: Any) -> Step:
    """ADD for another container of the same pod namespace."""
    return add("host-local", netconf, CNI_CONTAINERID=container, **env)


def situations() -> dict[str, tuple[Step, ...]]:
    """State that the plugin finds, and more than one container."""
    release = delete("host-local", PLAIN, CNI_CONTAINERID="a")
    return {
        "no-ipam-section": (add("host-local", netconf("any")), delete("host-local", netconf("any"))),
        "exhausted": tuple(add_for(name) for name in "abcdefg"),
        "round-robin": (add_for("a"), add_for("b"), release, add_for("c")),
        "wraps-around": (*(add_for(name) for name in "abcde"), release, add_for("g")),
        "second-add": (add_for("a"), add_for("a")),
        "second-interface": (add_for("a"), add_for("a", CNI_IFNAME="net1"), release),
        "request-taken": (add_for("a", CNI_ARGS="IP=10.9.0.4"), add_for("b", CNI_ARGS="IP=10.9.0.4")),
        "skips-taken": (add_for("a", CNI_ARGS="IP=10.9.0.2"), add_for("b")),
        "old-reservation": (
            Shell(f"mkdir -p {DIR}; printf a > {DIR}/10.9.0.3"), add_for("b"), add_for("c"), release,
        ),
        "reservation-with-newline": (
            Shell(f"mkdir -p {DIR}; printf 'a\\n' > {DIR}/10.9.0.3"), add_for("b"), add_for("c"), release,
        ),
        "foreign-file": (
            Shell(f"mkdir -p {DIR}; echo hello > {DIR}/README; mkdir {DIR}/directory"), add_for("b"), release,
        ),
        "last-reserved-is-garbage": (
            Shell(f"mkdir -p {DIR}; echo nonsense > {DIR}/last_reserved_ip.0"), add_for("a"), add_for("b"),
        ),
        "last-reserved-is-outside": (
            Shell(f"mkdir -p {DIR}; printf 10.1.0.1 > {DIR}/last_reserved_ip.0"), add_for("a"),
        ),
        "state-removed": (add_for("a"), Shell(f"rm -r {DIR}"), release, check("host-local", PLAIN)),
        "check-of-another": (add_for("a"), check("host-local", PLAIN, CNI_CONTAINERID="z")),
        "resolv-conf": (
            Shell("printf 'nameserver 10.0.0.53\\nsearch a.example b.example\\noptions ndots:5\\ndomain d.example\\n'"
                  " > /run/resolv"),
            *life("host-local", conf({"subnet": "10.9.0.0/24", "resolvConf": "/run/resolv"})),
        ),
        "two-addresses-before-0.3.0": life("host-local", conf(
            {"ranges": [[{"subnet": "10.9.0.0/24"}], [{"subnet": "10.8.0.0/24"}]]}, "0.2.0")),
        "two-ranges-wrap-in-step": (
            *(add_for(name, conf(DUAL_STACK)) for name in "abc"),
            delete("host-local", conf(DUAL_STACK), CNI_CONTAINERID="b"),
        ),
        "set-overflows-into-next": tuple(
            add_for(name, conf({"ranges": [[{"subnet": "10.9.0.0/30"}, {"subnet": "10.8.0.0/30"}]]})) for name in "abc"
        ),
    }  # fmt: skip
