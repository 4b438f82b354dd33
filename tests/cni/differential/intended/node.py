"""Deliberate differences of the protocol, of host-local, loopback and bridge: what every flannel node runs."""

from __future__ import annotations

import re
from typing import Any

from tests.cni.differential.intended.entry import GONE, Intended

ADD_FAILS = (
    "bridge-refused-*", "bridge-bridge-has-other-address", "bridge-default-gateway-dual", "bridge-interface-exists",
    "bridge-default-route-of-ipam", "bridge-mac-argument", "bridge-routes-same-twice",
    "bridge-refused-masquerade-backend", "ptp-masquerade-backend", "protocol-bridge-*", "macvlan-ipam-fails",
    "macvlan-mac-argument", "routes-bridge-scope-link", "routes-bridge-gateway-unreachable",
)  # fmt: skip
RESERVATIONS = "files//var/lib/cni/networks"
WITHOUT_METRICS = re.compile(r", 'metrics': \[[^]]*\]")


def is_less(official: Any, ours: Any) -> bool:
    """Whether something is gone, or some of it."""
    return ours is None or (isinstance(ours, list) and len(ours) < len(official))


def only_nodad_differs(official: Any, ours: Any) -> bool:
    """Whether two lists of addresses differ in nothing but the flag that spares duplicate address detection."""
    return bool([str(address).removesuffix(" nodad") for address in ours or []] == official)


def without_owner(listing: Any) -> list[str]:
    """A ruleset without what the comments of `drop` rules say."""
    return [line.partition(" comment ")[0] if "drop comment " in line else line for line in listing]


NODE: tuple[Intended, ...] = (
    # Protocol
    Intended(
        "STATUS of dhcp",
        "without its daemon the plugin is not available, which is what code 50 says",
        ("protocol-dhcp-status*",),
        paths=("exit", "stdout"),
        ours='^1$|"code": 50',
    ),
    Intended(
        "DEL of dhcp without its daemon",
        "no daemon holds no lease; a pod can be deleted whatever has become of the daemon",
        ("dhcp-*", "protocol-dhcp-*"),
        ("* DEL dhcp",),
        ("exit", "stdout"),
        "^0?$",
    ),
    Intended(
        "GC collects",
        "what leaks stays for ever otherwise; the official plugins do nothing",
        ("gc-*",),
        ("* GC *", "* DEL *"),
        ("files/*10.9.0.2", "files//run/cni/*", "*/links/*", "*/routes", "*/qdiscs/*", "rules/*"),
        relation=is_less,
    ),
    Intended(
        "STATUS reads the configuration",
        "a runtime can say at once that no pod will get one; most official plugins look at it when a pod comes",
        ("status-*-refused",),
        ("* STATUS *",),
        ("exit", "stdout"),
        '^1$|"code": 999',
    ),
    Intended(
        "own namespace refused before acting",
        "the official skeleton looks after it has acted, and then answers with a result and an error at once",
        ("protocol-*-netns-own",),
        paths=("*",),
    ),
    Intended(
        "routes as people write them",
        "the official plugins print Go's inside of an address mask",
        ours="oute '?[0-9a-f.:]+/[0-9]+ via",
    ),
    Intended(
        "the kernel's explanation",
        "what the kernel says of a refused request is told behind the error's name",
        ours=r"\((Attribute failed policy validation|Exclusivity flag on, cannot modify)\)",
    ),
    # host-local
    Intended(
        "index of reservations",
        "an index beside the reservations spares reading each of them; the official plugin does not see it",
        paths=("files/*/.udplane*",),
    ),
    Intended(
        "only ADD makes the store",
        "a release must not need room on the disk",
        paths=(RESERVATIONS, f"{RESERVATIONS}/net1", f"{RESERVATIONS}/net1/lock"),
        relation=lambda official, ours: ours is None and official in ("0755 directory", "0750 "),
    ),
    # loopback
    Intended(
        "loopback's result has the version's shape",
        "the official one prints the form of 1.0.0 under every version's number",
        ("version-*-loopback", "loopback-*"),
        ("* ADD *",),
        ours='"version": "4"|"ip4"',
    ),
    # Interfaces
    Intended(
        "whose a device is stands on it",
        "GC and DEL compare network, container ID and interface in full; a name has room for a hash alone",
        paths=("*/links/*/ifalias",),
        ours=r"^udplane (net[12]/container-p[12]/[a-z0-9]+|port of cni0\.[0-9]+)$",
    ),
    Intended(
        "usual queue length",
        "the official plugins give the node's end of a veth and the ifb device no queue, which stalls queueing "
        "disciplines that take their limit from it",
        paths=("node/links/*/txqlen",),
        ours="^1000$",
        relation=lambda official, _ours: official is None,
    ),
    # bridge
    Intended(
        "the native VLAN of a trunk stays native",
        "official releases unmark a `vlan` that is among those of `vlanTrunk`, so frames without a tag are lost",
        ("bridge-vlan-trunk-with-native",),
        paths=("*/vlans/veth(p1/eth0)",),
        ours="15, 'flags': .'PVID', 'Egress Untagged'",
    ),
    Intended(
        "the node's end has one name",
        "it follows from network, container ID and interface, so a second ADD meets the first one's",
        ("bridge-second-add",),
        ours=r"peer provided .*veth\(p1/eth0\).* already exists",
    ),
    Intended(
        "IPv6 addresses are announced",
        "neighbours go on asking for the address's former pod otherwise; the official bridge announces IPv4 alone",
        paths=("p[12]/sysctls/ipv6/conf/*/ndisc_notify",),
        ours="^1$",
    ),
    Intended(
        "a bridge keeps its MAC",
        "pods keep their neighbour entry for the gateway; the official bridge's MAC follows its ports",
        paths=("node/links/*/address",),
        relation=lambda official, ours: (official, ours) == ("00:00:00:00:00:00", "MAC"),
    ),
    Intended(
        "no duplicate address detection",
        "the address comes from the node's own store, so a pod need not wait for the network to object",
        paths=("*/addresses",),
        ours=" nodad",
        relation=only_nodad_differs,
    ),
    Intended(
        "a failed ADD leaves nothing",
        "the official bridge leaves its veth, addresses, routes and a new bridge behind, the official macvlan its link",
        ADD_FAILS,
        paths=("node/links/*", "p1/links/*", "p1/routes", "node/routes", "node/links/cni0/*"),
        ours=GONE,
    ),
    Intended(
        "DEL finds rules by name",
        "the official plugins delete masquerade rules of those addresses only that they still find on the interface",
        ("bridge-del-*", "ptp-del-*"),
        paths=("rules/ip nat/*",),
        ours=GONE,
    ),
    Intended(
        "DEL reads no more of the configuration than ipam",
        "it may have changed since the ADD, and a pod can be deleted whatever has become of it",
        ("bridge-*", "ptp-*", "macvlan-queue-length-negative", "protocol-*-type-of-*"),
        ("* DEL *",),
        ("exit", "stdout"),
        "^0?$",
    ),
    Intended(
        "DEL of host-local reads no routes",
        "it gives addresses back, and has no use for them",
        ("host-local-refused-route*",),
        ("* DEL host-local",),
        ("exit", "stdout"),
        "^0?$",
    ),
    Intended(
        "DEL looks where the rules are",
        "with rules in both backends' tables the official DEL fails for one that is in the other",
        ("gc-bridge-nftables",),
        ("* DEL bridge",),
        ("exit", "stdout"),
        "^0?$",
    ),
    Intended(
        "DEL leaves an interface that the ADD did not make",
        "whose it is, is checked before it is touched",
        ("bridge-interface-exists", "ptp-interface-exists"),
        ("* DEL bridge", "* DEL ptp"),
        ("p1/links/*",),
        relation=lambda official, ours: official is None and ours is not None,
    ),
    Intended(
        "a bridge's alias tells the gateways that the plugin gave it",
        "only these may be taken away again for a subnet that is gone",
        paths=("node/links/*/ifalias",),
        ours=r"^udplane gateways( [0-9a-f.:]+/\d+)+$",
    ),
    Intended(
        "macspoofchk names the network",
        "the late DEL of a container's interface in one network must not take the rules of the same name in another",
        ("bridge-mac-spoof-check",),
        paths=("rules/bridge nat/listing",),
        relation=lambda official, ours: len(official) == len(ours) and without_owner(ours) == without_owner(official),
    ),
    Intended(
        "DEL without the namespace takes the interface",
        "the official plugins leave the veth to whoever deletes the namespace",
        ("bridge-del-*", "ptp-del-*"),
        paths=("node/links/*", "p1/links/*", "*/routes"),
        relation=lambda official, ours: ours is None or set(ours) < set(official),
    ),
    Intended(
        "CHECK of a bridge without addresses",
        "the official CHECK insists on an IPAM plugin, which ADD does not need",
        ("version-*-bridge-layer2", "bridge-container-interface-down"),
        ("* CHECK *",),
        ("exit", "stdout"),
        "^0?$",
    ),
    Intended(
        "a hint for a foreign address",
        "the same error, with the command that resolves it",
        ("bridge-bridge-has-other-address",),
        ours="remove it with: ip addr del",
    ),
    Intended(
        "routes have the MTU and MSS that the result says",
        "the official plugins leave both out of the pod's routing table",
        ("routes-*",),
        ("* ADD *", "* CHECK *", "* DEL *"),
        ("p1/routes",),
        relation=lambda official, ours: official == [WITHOUT_METRICS.sub("", route) for route in ours or []],
    ),
    Intended(
        "CHECK looks into every table",
        "the official CHECK finds a route in the main table only",
        ("routes-*",),
        ("* CHECK *",),
        ("exit", "stdout"),
        "^0?$",
    ),
    Intended(
        "numbers that the kernel has no room for are refused",
        "the official plugins cut them off",
        ("routes-bridge-*-negative", "routes-bridge-scope-too-large"),
        paths=("*",),
    ),
    Intended(
        "an unknown backend is refused before anything is done",
        "the official bridge has taken an address by then, the official ptp leaves forwarding on",
        ("bridge-refused-masquerade-backend", "ptp-masquerade-backend"),
        paths=("files/*/last_reserved_ip.0", "node/sysctls/ipv4/*", "node/routes"),
    ),
    Intended(
        "gsoMaxSize",
        "a key of udplane's own: the pod's super-packets fit one send of the tunnel",
        ("bridge-unknown-keys",),
        paths=("p1/links/eth0/gso_max_size",),
        ours="^63500$",
    ),
)
