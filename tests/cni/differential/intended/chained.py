"""Deliberate differences of the other plugins: portmap, ptp, macvlan, tuning, firewall, bandwidth."""

from __future__ import annotations

import re
from typing import Any

from tests.cni.differential.intended.entry import GONE, Intended


def without_additions(saved: str) -> str:
    """tuning's saved values without those that the official plugin does not save."""
    return re.sub(r',\n "network": [^,\n]*', "", saved)


def nft_rules(listing: Any) -> list[str]:
    """The rules of a listing in any order, without what is udplane's own: the comments and the way around ::1."""
    rules = [re.sub(r' comment ".*"|ip6 daddr != ::1 ', "", line) for line in listing]
    return sorted(line for line in rules if line.startswith("\t\t"))


def without_interfaces(rules: Any) -> list[str]:
    """Rules of port mappings without what their comments say of the interface."""
    return [re.sub(r' if: \\"\w+\\"', "", rule) for rule in rules or []]


CHAINED: tuple[Intended, ...] = (
    # ptp and macvlan
    Intended(
        "ptp asks for a gateway",
        "without one the official plugin prints Go's inside of an address, and leaves the veth and forwarding on",
        ("ptp-ipam-without-gateway",),
        paths=("*",),
    ),
    Intended(
        "ptp looks into the pod first",
        "without a namespace, or with the interface there already, nobody is asked for an address and nothing changes",
        ("ptp-second-add", "protocol-ptp-netns-missing"),
        paths=("stdout", "node/sysctls/ipv4/*", "files//var/lib/cni/networks/net1/last_reserved_ip.0"),
        ours="container veth name .*eth0.* peer provided .* already exists|^[01]$|^None$",
    ),
    Intended(
        "STATUS of macvlan",
        "without its master the plugin is not available, which is what code 50 says",
        ("protocol-macvlan-status",),
        paths=("exit", "stdout"),
        ours='^1$|"code": 50',
    ),
    Intended(
        "the namespace is named",
        "the official macvlan prints %!q(<nil>) in its place",
        ("protocol-macvlan-netns-missing",),
        ours='failed to open netns ."/run/netns/gone',
    ),
    # portmap
    Intended(
        "the newest pod's port wins",
        "of two pods with one host port, one is leaked or going away",
        ("portmap-two-pods", "gc-portmap"),
        paths=("rules/ip nat/CNI-HOSTPORT-DNAT",),
        relation=lambda official, ours: sorted(official) == sorted(without_interfaces(ours)),
    ),
    Intended(
        "CHECK names the missing rule",
        "the official CHECK prints all rules of the chain",
        ("portmap-check-rules-missing",),
        ours="could not check ipv4 dnat: rule CNI-DN-",
    ),
    Intended(
        "portmap names the interface",
        "two interfaces of a pod in one network publish their ports side by side",
        paths=("rules/ip* nat/CNI-HOSTPORT-DNAT",),
        relation=lambda official, ours: official is not None and without_interfaces(ours) == official,
    ),
    Intended(
        "no port at ::1",
        "an answer to ::1 cannot arrive, so a connection is refused at once instead of hanging",
        paths=("rules/ip6 nat/CNI-DN-*",),
        ours="^\\['-d ::1/128 -j RETURN', ",
        relation=lambda official, ours: ours[1:] == official,
    ),
    Intended(
        "DEL needs no mappings",
        "network and container ID name the rules, so a pod can be deleted whatever has become of its netconf",
        ("portmap-refused-*", "portmap-del-without-mappings"),
        ("* DEL portmap",),
        ("stdout", "exit", "rules/ip nat/*"),
        r"^(0|None|\[\])?$",
    ),
    Intended(
        "a host address that is none is refused",
        "the official plugin takes it for no address of either family, and publishes nothing without a word",
        ("portmap-refused-host-address-text",),
        paths=("*",),
    ),
    Intended(
        "nft rules say whose they are",
        "the official comment is the container alone, which is one for all networks; a mapping for one address of the "
        "node comes before those for all of them, and nothing is published at ::1",
        ("portmap-nftables-*", "gc-portmap-nftables", "portmap-refused-nftables-*"),
        paths=("rules/ip* cni_hostport/listing",),
        relation=lambda official, ours: None in (official, ours) or nft_rules(official) == nft_rules(ours),
    ),
    Intended(
        "conditions are each mapping's own",
        "the official plugin puts those of the last network before all mappings",
        ("portmap-nftables-conditions",),
        paths=("rules/ip* cni_hostport/listing",),
        relation=lambda official, _ours: " fib daddr" in str(official),
    ),
    Intended(
        "masqAll by nftables",
        "the official plugin does it by iptables only",
        ("portmap-nftables-masq-all",),
        paths=("rules/ip* cni_hostport/listing",),
        relation=lambda official, ours: len(official) - len(ours) in (0, 1),
    ),
    # tuning
    Intended(
        "tuning remembers its network",
        "so that GC of one network leaves the other networks' saved values alone",
        ("*tuning*",),
        paths=("files//run/*/container-p[12]_eth0.json",),
        relation=lambda official, ours: None not in (official, ours) and without_additions(ours) == official,
    ),
    Intended(
        "/run/cni may be entered",
        "plugins share it; the official tuning makes it, and its own directory, without permission to enter",
        ("*tuning*",),
        paths=("files//run/cni",),
        ours="^0755 directory$",
    ),
    Intended(
        "tuning compares MAC addresses",
        "what was set as configured is as configured, in whichever of Go's notations the configuration has it",
        ("tuning-mac-dots", "tuning-mac-dashes"),
        ("* CHECK tuning",),
        ("exit", "stdout"),
        "^0?$",
    ),
    Intended(
        "tuning that failed leaves nothing",
        "the official plugin leaves the saved values, and a later DEL would restore them",
        ("tuning-mac-invalid", "tuning-mac-mixed", "tuning-mac-blank", "tuning-mtu-too-large"),
        paths=("files//run/cni/tuning/*",),
        ours=GONE,
    ),
    Intended(
        "torn values are cleared away",
        "the official plugin leaves a file that it cannot read for ever",
        ("tuning-saved-values-torn",),
        ("* DEL *",),
        ("files//run/cni/tuning/*",),
        GONE,
    ),
    Intended(
        "values are compared one by one",
        "the kernel prints them with tabs; what can only be written is not compared",
        ("tuning-sysctl-several-values", "tuning-sysctl-write-only"),
        ("* CHECK tuning",),
        ("exit", "stdout"),
        "^0?$",
    ),
    Intended(
        "a queue length that none can have",
        "the official plugin makes 4294967291 of -5",
        ("tuning-queue-length-negative",),
        paths=("*",),
    ),
    Intended(
        "CHECK tells wished values",
        "the official CHECK prints the place in memory where they stand",
        ("tuning-check-all-multicast", "tuning-check-queue-length"),
        ours="all-multicast mode of eth0 is true, current value is false|Length of eth0 is 300, current value is 7",
    ),
    # firewall
    Intended(
        "firewall remembers the pod's addresses",
        "so that DEL needs no result; without one the official plugin leaves the rules",
        ("*firewall*",),
        paths=("files//run/cni", "files//run/cni/firewall", "files//run/cni/firewall/*"),
    ),
    Intended(
        "no firewalld",
        "the plugins find out in other words; a DEL that finds none has nothing to remove",
        ("firewall-firewalld-absent",),
        paths=("exit", "stdout"),
        ours="^0?$|Failed to connect to bus|failed to find the address",
    ),
    Intended(
        "an unknown policy changes nothing",
        "the official plugin refuses it after it has made its rules, keeps them, and then refuses DEL as well",
        ("firewall-ingress-unknown",),
        paths=("exit", "stdout", "rules/ip filter/*"),
        ours="^[01]?$|^None$|unknown ingress policy",
    ),
    Intended(
        "CHECK makes no chains",
        "the official CHECK creates what it looks for",
        ("firewall-check-never-added",),
        paths=("rules/ip filter/*",),
        ours=GONE,
    ),
    # bandwidth
    Intended(
        "one redirection",
        "the official filter has a second action that no packet reaches",
        ("*bandwidth*",),
        paths=("node/filters/*",),
        relation=lambda official, ours: "action order 2" in official and "action order 2" not in ours,
    ),
    Intended(
        "DEL needs no limits",
        "network and container ID name the device, so a pod can be deleted whatever has become of its netconf",
        ("bandwidth-rate-*", "bandwidth-burst-*"),
        ("* DEL bandwidth",),
        ("exit", "stdout"),
        "^0?$",
    ),
    Intended(
        "CHECK looks for the limits",
        "the official CHECK is content with a pod that has none",
        ("bandwidth-check-never-added",),
        paths=("exit", "stdout"),
        ours="^1$|Failed to find qdisc",
    ),
)
