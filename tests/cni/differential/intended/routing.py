"""Deliberate differences of the plugins that change the ways out of a pod: sbr and vrf."""

from __future__ import annotations

from typing import Any

from tests.cni.differential.intended.entry import GONE, Intended


def adds_a_route(official: Any, ours: Any) -> bool:
    """Whether ours are the official plugin's routes, and the one whose next hop is in no address's subnet."""
    return bool(sorted([*official, "{'dev': 'eth0', 'dst': '10.60.0.0/16', 'gateway': '169.254.1.1'}"]) == ours)


def without_our_rule(official: Any, ours: Any) -> bool:
    """Whether a rule of the pod's address is the only thing that ours lacks."""
    return bool([line for line in official if "\tfrom 10.9.0.2 lookup " not in line] == ours)


ROUTING: tuple[Intended, ...] = (
    Intended(
        "sbr says that the namespace is gone",
        "the official plugin makes an empty file of that name first",
        ("protocol-sbr-netns-missing",),
        ours="failed to Statfs ..?/run/netns/gone.*no such file or directory",
    ),
    Intended(
        "DEL of sbr needs no namespace",
        "the rules have gone with it; and whatever the netconf says by now, a pod can be deleted",
        ("protocol-sbr-netns-missing", "sbr-del-*", "sbr-table-text"),
        ("* DEL sbr",),
        ("exit", "stdout"),
        "^0?$",
    ),
    Intended(
        "a route that no table takes stays",
        "its next hop is in no subnet of the interface's addresses; the official plugin deletes it without a copy",
        ("sbr-far-gateway",),
        paths=("p1/routes",),
        relation=adds_a_route,
    ),
    Intended(
        "a table is a number that the kernel takes",
        "the official plugin lets the rule lead to table 1 instead, and DEL does not find it",
        ("sbr-table-zero", "sbr-table-negative", "sbr-table-too-large"),
        paths=("exit", "stdout"),
        ours="^1$|invalid table",
    ),
    Intended(
        "no rule to table 1",
        "see above",
        ("sbr-table-zero", "sbr-table-negative", "sbr-table-too-large"),
        paths=("p1/policy",),
        relation=without_our_rule,
    ),
    Intended(
        "a table with somebody else's routes is left alone",
        "the official plugin looks for rules alone, and mixes both",
        ("sbr-table-with-routes",),
        paths=("p1/policy", "p1/routes"),
        ours="lookup 101|'table': '101'",
    ),
    Intended(
        "an sbr that fails leaves no rule",
        "the official plugin leaves what it made until then",
        ("sbr-gateway-out-of-reach",),
        paths=("p1/policy",),
        relation=without_our_rule,
    ),
    Intended(
        "sbr says what the kernel says",
        "its own explanation stands behind the error's name",
        ("sbr-gateway-out-of-reach",),
        ours="network is unreachable [(]Nexthop has invalid gateway[)]",
    ),
    Intended(
        "DEL removes the rules of an interface that is gone",
        "the result tells its addresses",
        ("sbr-del-after-interface-is-gone",),
        ("* DEL sbr",),
        ("p1/policy",),
        relation=without_our_rule,
    ),
    Intended(
        "DEL removes rules of its own shape",
        "with a further condition they are somebody else's",
        ("sbr-del-leaves-other-rules",),
        ("* DEL sbr",),
        ("p1/policy",),
        "from 10.9.0.2 to 10.1.0.0/16 lookup 7",
    ),
    Intended(
        "CHECK looks for the rules",
        "the official CHECK looks at nothing, not even at the netconf",
        ("sbr-*",),
        ("* CHECK sbr",),
        ("exit", "stdout"),
        "^1$|No rule for source|must be called as chained|invalid table|cannot unmarshal",
    ),
    # vrf
    Intended(
        "a VRF says whose it is",
        "so that a stale path of a namespace costs another pod nothing",
        ("vrf-*", "version-*-vrf"),
        paths=("p1/links/*/ifalias",),
        ours="^udplane pod/container-p1/(blue|red)$",
    ),
    Intended(
        "a VRF takes all routes along",
        "the official plugin fails at one whose next hop cannot be reached any more, and leaves the rest undone",
        ("vrf-ptp",),
        ("* ADD vrf", "* CHECK vrf", "* DEL vrf"),
        ("exit", "stdout", "p1/routes"),
        "^0?$|10.50.0.0/16|cniVersion",
    ),
    Intended(
        "a vrf that fails leaves no VRF",
        "the official plugin leaves the one that it made, and DEL fails without the interface",
        ("vrf-interface-*", "vrf-del-after-interface-is-gone", "protocol-vrf-*"),
        ("* ADD vrf", "* DEL vrf"),
        ("p1/links/blue",),
        GONE,
    ),
    Intended(
        "DEL of vrf needs no interface",
        "the interface may be gone first",
        ("vrf-interface-missing", "vrf-del-after-interface-is-gone", "protocol-vrf-*"),
        ("* DEL vrf",),
        ("exit", "stdout"),
        "^0?$",
    ),
    Intended(
        "DEL of vrf needs no VRF",
        "ADD refuses a name that another kind of link has, and such a pod has to go as well",
        ("vrf-name-of-no-vrf",),
        ("* DEL vrf",),
        ("exit", "stdout"),
        "^0?$",
    ),
)
