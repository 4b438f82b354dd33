"""portmap: published ports behind a bridge, its rules and what it refuses."""

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
    netconf,
)

BRIDGE = netconf("bridge", isGateway=True, ipam=host_local())
BRIDGE6 = netconf("bridge", isGateway=True, ipam=DUAL_STACK)
TCP = {"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}
UDP = {"hostPort": 5353, "containerPort": 53, "protocol": "udp"}
SCTP = {"hostPort": 9000, "containerPort": 9000, "protocol": "sctp"}
MANY = [{"hostPort": 10000 + n, "containerPort": n, "protocol": "tcp"} for n in range(1, 21)]

# name -> port mappings, further keys of the netconf.
MAPPINGS: dict[str, tuple[Any, Conf]] = {
    "tcp": ([TCP], {}),
    "udp": ([UDP], {}),
    "sctp": ([SCTP], {}),
    "three": ([TCP, UDP, SCTP], {}),
    "more-than-fifteen": (MANY, {}),
    "none": ([], {}),
    "null": (None, {}),
    "host-address": ([{**TCP, "hostIP": "192.0.2.1"}], {}),
    "host-address-loopback": ([{**TCP, "hostIP": "127.0.0.1"}], {}),
    "host-address-any": ([{**TCP, "hostIP": "0.0.0.0"}], {}),
    "host-address-empty": ([{**TCP, "hostIP": ""}], {}),
    "host-address-ipv6": ([{**TCP, "hostIP": "fd00::1"}], {}),
    "containerd-capitals": ([{"HostPort": 8080, "ContainerPort": 80, "Protocol": "tcp", "HostIP": ""}], {}),
    "no-snat": ([TCP], {"snat": False}),
    "masq-all": ([TCP], {"masqAll": True}),
    "mark-bit": ([TCP], {"markMasqBit": 5}),
    "set-mark-chain": ([TCP], {"externalSetMarkChain": "KUBE-MARK-MASQ"}),
    "conditions": ([TCP], {"conditionsV4": ["!", "-d", "192.0.2.0/24"], "conditionsV6": ["!", "-d", "2001:db8::/64"]}),
    "same-port-both-protocols": ([TCP, {**TCP, "protocol": "udp"}], {}),
}

REFUSED: dict[str, tuple[Any, Conf]] = {
    "host-port-zero": ([{**TCP, "hostPort": 0}], {}),
    "container-port-zero": ([{**TCP, "containerPort": 0}], {}),
    "port-negative": ([{**TCP, "hostPort": -1}], {}),
    "port-text": ([{**TCP, "hostPort": "80"}], {}),
    "mark-bit-range": ([TCP], {"markMasqBit": 32}),
    "mark-bit-and-chain": ([TCP], {"markMasqBit": 5, "externalSetMarkChain": "X"}),
    "host-address-text": ([{**TCP, "hostIP": "x"}], {}),
    "mappings-object": ({}, {}),
}

# The same by nftables, for a pod with addresses of both families.
NFTABLES: dict[str, tuple[Any, Conf]] = {
    **{
        name: MAPPINGS[name]
        for name in (
            "three",
            "none",
            "host-address",
            "host-address-loopback",
            "host-address-any",
            "host-address-ipv6",
            "no-snat",
            "masq-all",
            "mark-bit",
            "same-port-both-protocols",
        )
    },
    "conditions": ([TCP], {"conditionsV4": ["ip", "saddr", "192.0.2.0/24"], "conditionsV6": ["meta", "mark", "5"]}),
}

REFUSED_BY_BACKEND: dict[str, tuple[Any, Conf]] = {
    "backend-unknown": ([TCP], {"backend": "other"}),
    "backend-number": ([TCP], {"backend": 5}),
    "nftables-with-iptables-conditions": ([TCP], {"backend": "nftables", "conditionsV4": ["-d", "192.0.2.1"]}),
    "nftables-with-chain": ([TCP], {"backend": "nftables", "externalSetMarkChain": "X"}),
    "nftables-with-mark-bit": ([TCP], {"backend": "nftables", "markMasqBit": 5}),
    "iptables-with-nftables-conditions": ([TCP], {"backend": "iptables", "conditionsV4": ["ip", "saddr", "192.0.2.1"]}),
}


def conf(mappings: Any, **keys: Any) -> Conf:
    """A portmap netconf as a runtime fills it in."""
    return netconf("portmap", capabilities={"portMappings": True}, runtimeConfig={"portMappings": mappings}, **keys)


def published(portmap: Conf, bridge: Conf = BRIDGE) -> tuple[Step, ...]:
    """A pod's life behind bridge and portmap."""
    steps = (add("bridge", bridge), add("portmap", portmap, after=True), check("portmap", portmap))
    return *steps, delete("portmap", portmap, after=True), delete("portmap", portmap), delete("bridge", bridge)


def cases() -> Iterator[Case]:
    """All cases of portmap."""
    external_chain = Shell("iptables -t nat -N KUBE-MARK-MASQ")
    for name, (mappings, keys) in MAPPINGS.items():
        setting = (external_chain,) if "externalSetMarkChain" in keys else ()
        yield Case(f"portmap-{name}", *setting, *published(conf(mappings, **keys)))
    for name, (mappings, keys) in REFUSED.items():
        yield Case(f"portmap-refused-{name}", *published(conf(mappings, **keys)))
    for name in ("tcp", "three", "host-address-ipv6", "masq-all", "conditions"):
        mappings, keys = MAPPINGS[name]
        yield Case(f"portmap-dual-{name}", *published(conf(mappings, **keys), BRIDGE6))
    for name, (mappings, keys) in NFTABLES.items():
        yield Case(f"portmap-nftables-{name}", *published(conf(mappings, backend="nftables", **keys), BRIDGE6))
    for name, (mappings, keys) in REFUSED_BY_BACKEND.items():
        yield Case(f"portmap-refused-{name}", *published(conf(mappings, **keys)))
    for name, steps in situations().items():
        yield Case(f"portmap-{name}", *steps, pods=("p1", "p2"))


def situations() -> dict[str, tuple[Step, ...]]:
    """Several pods, DEL in odd circumstances, CHECK of what was damaged."""
    tcp, udp = conf([TCP]), conf([UDP])
    start = (add("bridge", BRIDGE), add("portmap", tcp, after=True))
    first_rule = "iptables -t nat -F $(iptables-save -t nat | sed -n 's/^:\\(CNI-DN-[^ ]*\\).*/\\1/p')"
    return {
        "two-pods": (
            *start, add("bridge", BRIDGE, "p2"), add("portmap", udp, "p2", after=True),
            delete("portmap", tcp), delete("portmap", udp, "p2"),
        ),
        "not-chained": (add("portmap", tcp), delete("portmap", tcp)),
        "check-without-result": (*start, Call("portmap", "CHECK", tcp)),
        "check-rules-missing": (*start, Shell(first_rule), check("portmap", tcp)),
        "check-never-added": (add("bridge", BRIDGE), check("portmap", tcp)),
        "del-without-netns": (*start, delete("portmap", tcp, CNI_NETNS="")),
        "del-without-mappings": (*start, delete("portmap", conf([]))),
        "del-after-flush": (*start, Shell("iptables -t nat -F"), delete("portmap", tcp)),
        "second-add": (*start, add("portmap", tcp, after=True), delete("portmap", tcp)),
        "result-without-address": (
            add("bridge", netconf("bridge")), add("portmap", tcp, after=True), delete("portmap", tcp),
        ),
    }  # fmt: skip
