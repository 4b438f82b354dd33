"""tuning, bandwidth and firewall: the plugins that change what an earlier one made."""

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
    netconf,
)

BRIDGE = netconf("bridge", isGateway=True, ipam=host_local())
CHOSEN_MAC = "c2:c2:c2:c2:44:77"
RATE = {"ingressRate": 8000000, "ingressBurst": 8000000}
EGRESS = {"egressRate": 16000000, "egressBurst": 8000000}

TUNING: dict[str, Conf] = {
    "nothing": {},
    "sysctl": {"sysctl": {"net.core.somaxconn": "500"}},
    "sysctl-interface": {"sysctl": {"net.ipv4.conf.IFNAME.arp_filter": "1"}},
    "sysctl-slashes": {"sysctl": {"net/ipv4/conf/IFNAME/arp_filter": "1"}},
    "sysctl-unknown": {"sysctl": {"net.ipv4.no_such_thing": "1"}},
    "sysctl-outside-net": {"sysctl": {"kernel.msgmax": "1"}},
    "sysctl-escape": {"sysctl": {"net/../kernel/msgmax": "1"}},
    "sysctl-value-invalid": {"sysctl": {"net.core.somaxconn": "many"}},
    "sysctl-number": {"sysctl": {"net.core.somaxconn": 500}},
    "mac": {"mac": CHOSEN_MAC},
    "mac-invalid": {"mac": "x"},
    "mac-dots": {"mac": "c2c2.c2c2.0001"},
    "mac-dashes": {"mac": "c2-c2-c2-c2-00-01"},
    "mac-mixed": {"mac": "c2-c2-c2:c2-00-01"},
    "mac-blank": {"mac": "c2:c2:c2:c2:  :01"},
    "mac-runtime": {"runtimeConfig": {"mac": CHOSEN_MAC}},
    "mac-args-cni": {"args": {"cni": {"mac": CHOSEN_MAC}}},
    "mtu": {"mtu": 1400},
    "mtu-text": {"mtu": "1400"},
    "mtu-too-large": {"mtu": 100000},
    "promiscuous": {"promisc": True},
    "all-multicast": {"allmulti": True},
    "not-all-multicast": {"allmulti": False},
    "queue-length": {"txQLen": 500},
    "data-dir": {"mtu": 1400, "dataDir": "/run/elsewhere"},
    "all-at-once": {"mac": CHOSEN_MAC, "mtu": 1400, "promisc": True, "allmulti": True, "txQLen": 300},
    "args-cni-mtu": {"args": {"cni": {"mtu": 1300}}},
    "args-cni-all": {
        "mtu": 1400,
        "args": {"cni": {"mac": CHOSEN_MAC, "mtu": 1300, "promisc": True, "allmulti": True, "txQLen": 77}},
    },
    "args-cni-sysctl": {
        "sysctl": {"net.core.somaxconn": "500"},
        "args": {"cni": {"sysctl": {"net.core.somaxconn": "600", "net.ipv4.conf.IFNAME.arp_filter": "1"}}},
    },
    "queue-length-zero": {"txQLen": 0},
    "queue-length-negative": {"txQLen": -5},
    "sysctl-several-values": {"sysctl": {"net.ipv4.tcp_rmem": "4096 131072 6291456"}},
    "sysctl-write-only": {"sysctl": {"net.ipv4.route.flush": "1"}},
}

BANDWIDTH: dict[str, Conf] = {
    "ingress": RATE,
    "egress": EGRESS,
    "both": {**RATE, **EGRESS},
    "runtime": {"runtimeConfig": {"bandwidth": {**RATE, **EGRESS}}},
    "key-over-runtime": {**RATE, "runtimeConfig": {"bandwidth": {"ingressRate": 1000000, "ingressBurst": 1000000}}},
    "zero": {"ingressRate": 0, "ingressBurst": 0, "egressRate": 0, "egressBurst": 0},
    "rate-without-burst": {"ingressRate": 8000000},
    "burst-without-rate": {"egressBurst": 8000000},
    "burst-too-large": {"ingressRate": 8000000, "ingressBurst": 40000000000},
    "rate-text": {"ingressRate": "fast", "ingressBurst": 1},
    "rate-negative": {"ingressRate": -8, "ingressBurst": 8},
    "small-burst": {"ingressRate": 8000, "ingressBurst": 800},
}

FIREWALL: dict[str, Conf] = {
    "plain": {},
    "iptables": {"backend": "iptables"},
    "backend-unknown": {"backend": "other"},
    "firewalld-absent": {"backend": "firewalld"},
    "admin-chain": {"iptablesAdminChainName": "MY-ADMIN"},
    "ingress-open": {"ingressPolicy": "open"},
    "ingress-same-bridge": {"ingressPolicy": "same-bridge"},
    "ingress-isolated": {"ingressPolicy": "isolated"},
    "ingress-unknown": {"ingressPolicy": "other"},
    "nftables": {"backend": "nftables"},
}


def cases() -> Iterator[Case]:
    """All cases of the three plugins, each behind bridge."""
    for kind, variations in (("tuning", TUNING), ("bandwidth", BANDWIDTH), ("firewall", FIREWALL)):
        for name, keys in variations.items():
            yield Case(f"{kind}-{name}", *chained(netconf(kind, **keys)))
        for name, steps in situations(kind, netconf(kind, **next(iter(variations.values())))).items():
            yield Case(f"{kind}-{name}", *steps, pods=("p1", "p2"))
    for name, steps in tuning_situations().items():
        yield Case(f"tuning-{name}", *steps)
    dual = netconf("bridge", isGateway=True, ipam=DUAL_STACK)
    yield Case("firewall-dual", *chained(netconf("firewall"), dual))
    yield Case("firewall-isolated-dual", *chained(netconf("firewall", ingressPolicy="isolated"), dual))
    isolated, same_bridge = (
        netconf("firewall", ingressPolicy="isolated"),
        netconf("firewall", ingressPolicy="same-bridge"),
    )
    yield Case(
        "firewall-both-policies",
        add("bridge", BRIDGE), add("firewall", same_bridge, after=True),
        add("bridge", BRIDGE, "p2"), add("firewall", isolated, "p2", after=True),
        delete("firewall", isolated, "p2", after=True), delete("firewall", same_bridge, after=True),
        pods=("p1", "p2"),
    )  # fmt: skip
    both = netconf("bandwidth", **RATE, **EGRESS)
    yield Case("bandwidth-behind-ptp", *chained(both, netconf("ptp", ipam=host_local())))


def chained(conf: Conf, first: Conf = BRIDGE) -> tuple[Step, ...]:
    """The life of a pod whose second plugin is `conf`."""
    kind, start = conf["type"], first["type"]
    steps = (add(start, first), add(kind, conf, after=True), check(kind, conf), check(start, first))
    return *steps, delete(kind, conf, after=True), delete(kind, conf), delete(start, first)


def situations(kind: str, conf: Conf) -> dict[str, tuple[Step, ...]]:
    """What all three meet."""
    start = (add("bridge", BRIDGE), add(kind, conf, after=True))
    return {
        "not-chained": (add(kind, conf), delete(kind, conf)),
        "check-without-result": (*start, Call(kind, "CHECK", conf)),
        "check-never-added": (add("bridge", BRIDGE), check(kind, conf)),
        "del-without-netns": (*start, delete(kind, conf, after=True, CNI_NETNS="")),
        "del-after-interface-is-gone": (
            *start, Shell("ip link del eth0", "p1"), delete(kind, conf, after=True),
        ),
        "del-before-add": (delete(kind, conf),),
        "second-add": (*start, add(kind, conf, after=True), delete(kind, conf, after=True)),
        "two-pods": (
            *start, add("bridge", BRIDGE, "p2"), add(kind, conf, "p2", after=True),
            delete(kind, conf, after=True), delete(kind, conf, "p2", after=True),
        ),
        "no-such-interface": (
            add("bridge", BRIDGE), add(kind, conf, after=True, CNI_IFNAME="nope"),
            delete(kind, conf, after=True, CNI_IFNAME="nope"),
        ),
    }  # fmt: skip


def tuning_situations() -> dict[str, tuple[Step, ...]]:
    """tuning's list of allowed sysctls, its saved values, and what CHECK compares."""
    allow = Shell("mkdir -p /etc/cni/tuning; echo '^net.core.somaxconn$' > /etc/cni/tuning/allowlist.conf")
    somaxconn = netconf("tuning", sysctl={"net.core.somaxconn": "500"})
    other = netconf("tuning", sysctl={"net.ipv4.conf.IFNAME.arp_filter": "1"})
    everything = netconf("tuning", mac=CHOSEN_MAC, mtu=1400, promisc=True, allmulti=True, txQLen=300)
    start = (add("bridge", BRIDGE), add("tuning", everything, after=True))
    return {
        "allowed": (allow, *chained(somaxconn)),
        "not-allowed": (allow, *chained(other)),
        "mac-argument": (
            add("bridge", BRIDGE), add("tuning", netconf("tuning"), after=True, CNI_ARGS=f"MAC={CHOSEN_MAC}"),
        ),
        "check-mtu": (*start, Shell("ip link set eth0 mtu 1300", "p1"), check("tuning", everything)),
        "check-mac": (*start, Shell("ip link set eth0 address c2:c2:c2:c2:99:99", "p1"), check("tuning", everything)),
        "check-promiscuous": (*start, Shell("ip link set eth0 promisc off", "p1"), check("tuning", everything)),
        "check-all-multicast": (*start, Shell("ip link set eth0 allmulticast off", "p1"), check("tuning", everything)),
        "check-queue-length": (*start, Shell("ip link set eth0 txqueuelen 7", "p1"), check("tuning", everything)),
        "check-sysctl": (
            add("bridge", BRIDGE), add("tuning", other, after=True),
            Shell("echo 0 > /proc/sys/net/ipv4/conf/eth0/arp_filter", "p1"), check("tuning", other),
        ),
        "saved-values-torn": (
            *start, Shell("for f in /run/cni/tuning/*; do echo '{' > $f; done"),
            delete("tuning", everything, after=True),
        ),
        "saved-values-missing": (*start, Shell("rm -r /run/cni/tuning"), delete("tuning", everything, after=True)),
    }  # fmt: skip
