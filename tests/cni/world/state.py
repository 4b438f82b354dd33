"""A snapshot made comparable: one flat mapping from a readable path to a value, without what differs by chance.

    node/links/cni0                         bridge
    node/links/cni0/mtu                     1500
    node/links/cni0/addresses               ["10.9.0.1/24 brd 10.9.0.255 global"]
    p1/policy                               ["0:\tfrom all lookup local", ...]
    p1/routes                               ["{'dst': 'default', 'gateway': '10.9.0.1', 'dev': 'eth0'}"]
    p1/sysctls/ipv4/conf/eth0/arp_notify    1
    rules/ip nat/POSTROUTING                ["-s 10.9.0.2/32 ... -j CNI-15040b88c1acd4287d331aac"]
    files//var/lib/cni/networks/n1/lock     0750

Random MAC addresses read "MAC"; the node's end of a pod's veth reads "veth(p1/eth0)". Link-local IPv6 addresses and
routes come and go by the kernel's timers, as do a link's carrier and a bridge port's state, so they are left out.
"""

from __future__ import annotations

import json
import re
from typing import Any

MAC = re.compile(r"\b[0-9a-f]{2}(?::[0-9a-f]{2}){5}\b")
RANDOM_VETH = re.compile(r"\bveth(?:[0-9a-f]{8}|[a-z2-7]{11})\b")
# The path of a whole link; a veth's name has a slash within its parentheses.
LINK = re.compile(r"[^/]+/links/(?:veth\(.*\)|[^/]+)")
# A MAC that a test chose starts like this, and is compared as it is.
CHOSEN_MAC_PREFIXES = ("c2:c2:c2:c2:", "00:00:00", "ff:ff:ff", "01:80:c2")

# Looking at an iptables table makes these, so without a rule they are no trace of anything.
BASE_CHAINS = {"PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"}
COUNTERS = re.compile(r"/last_reserved_ip\.|/\.udplane/.*/stamp$")
VOLATILE_FLAGS = {"LOWER_UP", "NO-CARRIER"}
VOLATILE_LINK_KEYS = {
    "ifindex", "link_index", "link_netnsid", "link", "ifname", "flags", "operstate", "qdisc", "addr_info", "linkinfo",
    "min_mtu", "max_mtu", "tso_max_size", "tso_max_segs", "gso_max_segs", "altnames", "parentbus", "parentdev",
    "inet6_addr_gen_mode",
}  # fmt: skip
VOLATILE_KIND_KEYS = {
    "bridge_id", "root_id", "root_port", "root_path_cost", "topology_change", "topology_change_detected", "hello_timer",
    "tcn_timer", "topology_change_timer", "gc_timer", "state", "id", "no", "designated_port", "designated_cost",
    "designated_bridge", "designated_root", "hold_timer", "message_age_timer", "forward_delay_timer",
    "topology_change_ack", "config_pending", "macaddr_count", "macaddr_data",
}  # fmt: skip

State = dict[str, Any]


def comparable(snapshot: dict[str, Any]) -> State:
    """The flat, masked form of a World's snapshot."""
    flat: State = {}
    for where, netns in snapshot["netns"].items():
        flat |= {f"{where}/{path}": value for path, value in flatten_netns(netns).items()}
    for table, content in snapshot["rules"].items():
        chains = content if isinstance(content, dict) else {"listing": content}
        flat |= {
            f"rules/{table}/{chain}": rules for chain, rules in chains.items() if rules or chain not in BASE_CHAINS
        }
    flat |= {f"files/{path}": content for path, content in snapshot["files"].items()}
    names = veth_names(snapshot)
    masked = {mask(path, names): mask_value(value, names) for path, value in sorted(flat.items())}
    return {path: sorted(value) if path.endswith("/routes") else value for path, value in masked.items()}


def flatten_netns(netns: dict[str, Any]) -> State:
    """One namespace's links, routes, queueing and sysctls as path -> value."""
    flat: State = {"routes": [str(route) for route in map(stable_route, netns["routes"]) if route]}
    flat["policy"] = netns["policy"]
    for link in netns["links"]:
        flat[f"links/{link['ifname']}"] = link.get("linkinfo", {}).get("info_kind", "no kind")
        flat |= {f"links/{link['ifname']}/{key}": value for key, value in stable_link(link).items()}
    for entry in netns["qdiscs"]:
        if entry["kind"] != "noqueue":
            flat[f"qdiscs/{entry['dev']}/{entry['kind']} {entry['handle']}"] = entry.get("options")
    flat |= {f"filters/{dev}": listing for dev, listing in netns["filters"].items()}
    flat |= {f"vlans/{dev}": vlans for dev, vlans in netns["vlans"].items()}
    flat |= {f"sysctls/{name}": value for name, value in netns["sysctls"].items()}
    return flat


def stable_link(link: dict[str, Any]) -> dict[str, Any]:
    """A link's attributes that a plugin decides."""
    attributes = {key: value for key, value in link.items() if key not in VOLATILE_LINK_KEYS}
    attributes["flags"] = sorted(set(link["flags"]) - VOLATILE_FLAGS)
    attributes["addresses"] = [describe_address(entry) for entry in link["addr_info"] if entry["scope"] != "link"]
    info = link.get("linkinfo", {})
    for part in ("info_data", "info_slave_data"):
        for key, value in info.get(part, {}).items():
            if key not in VOLATILE_KIND_KEYS:
                attributes[f"{part}.{key}"] = value
    return attributes


def describe_address(entry: dict[str, Any]) -> str:
    """An address as `ip address` would print it, without lifetimes and without what duplicate detection is doing."""
    words = [f"{entry['local']}/{entry['prefixlen']}", entry["scope"]]
    words += [f"{key} {entry[key]}" for key in ("broadcast", "address") if key in entry]
    words += [key for key in ("nodad", "noprefixroute", "dynamic", "mngtmpaddr") if entry.get(key)]
    return " ".join(words)


def stable_route(route: dict[str, Any]) -> dict[str, Any] | None:
    """A route without its passing flags; None for those that the kernel adds and removes in its own time.

    These are IPv6's link-local and multicast routes, and its local table, which follows a link's carrier.
    """
    is_ipv6_local = ":" in route["dst"] and route.get("table") == "local"
    if is_ipv6_local or route["dst"].startswith(("fe80:", "ff00:", "multicast")):
        return None
    return {key: value for key, value in sorted(route.items()) if key not in ("flags", "pref")}


def veth_names(snapshot: dict[str, Any]) -> dict[str, str]:
    """The node's veth ends, by what they lead to, in a pod or on the node: {"veth1234abcd": "veth(p1/eth0)"}."""
    on_node = {link["ifindex"]: link["ifname"] for link in snapshot["netns"]["node"]["links"]}
    names = {}
    for link in snapshot["netns"]["node"]["links"]:
        if RANDOM_VETH.fullmatch(link["ifname"]) and link.get("link"):  # named only where both ends are
            names[link["ifname"]] = f"veth(node/{link['link']})"
    for pod, netns in snapshot["netns"].items():
        for link in netns["links"]:
            is_veth = link.get("linkinfo", {}).get("info_kind") == "veth"
            if pod != "node" and is_veth and link.get("link_index") in on_node:
                names[on_node[link["link_index"]]] = f"veth({pod}/{link['ifname']})"
    return names


def mask(text: str, names: dict[str, str]) -> str:
    """`text` with random MAC addresses and veth names replaced."""
    if ":" in text:
        text = MAC.sub(lambda found: found[0] if found[0].startswith(CHOSEN_MAC_PREFIXES) else "MAC", text)
    return text if "veth" not in text else RANDOM_VETH.sub(lambda found: names.get(found[0], "vethX"), text)


def mask_value(value: Any, names: dict[str, str]) -> Any:
    """`mask` for any JSON value."""
    if isinstance(value, str):
        return mask(value, names)
    return json.loads(mask(json.dumps(value), names))


def mask_output(stdout: str, snapshot: dict[str, Any]) -> str:
    """A plugin's output with names and MACs masked, byte for byte otherwise.

    A MAC address that the result gives for an interface is masked only if that interface has it: a wrong one stays
    to be seen as a difference.
    """
    actual = actual_macs(snapshot)
    try:
        interfaces = json.loads(stdout).get("interfaces") or []
    except (ValueError, AttributeError):
        interfaces = []
    for interface in interfaces:
        pod = interface.get("sandbox", "").rpartition("/")[2] or "node"
        if interface.get("mac") and interface["mac"] != actual.get((pod, interface["name"])):
            stdout = stdout.replace(interface["mac"], f"not the MAC of {interface['name']}")
    return mask(stdout, veth_names(snapshot))


def actual_macs(snapshot: dict[str, Any]) -> dict[tuple[str, str], str]:
    """The hardware address of every link, by namespace and name."""
    return {
        (where, link["ifname"]): link["address"]
        for where, netns in snapshot["netns"].items()
        for link in netns["links"]
        if "address" in link
    }


def without_counters(state: State) -> State:
    """The state without what host-local counts up: which address it gave last, and when its store last changed."""
    return {path: value for path, value in state.items() if not COUNTERS.search(path)}


def differences(first: State, second: State) -> dict[str, tuple[Any, Any]]:
    """The paths at which two states differ, with both values; None where a state has nothing there.

    Of a link that only one of them has, this is told once, and not again for each of its attributes and sysctls.
    """
    paths = sorted(first.keys() | second.keys())
    found = {path: (first.get(path), second.get(path)) for path in paths if first.get(path) != second.get(path)}
    lone = [path for path, values in found.items() if LINK.fullmatch(path) and None in values]
    return {path: values for path, values in found.items() if not any(is_part_of(path, link) for link in lone)}


def is_part_of(path: str, link: str) -> bool:
    """Whether `path` is an attribute, a sysctl or a VLAN of the link at the path `link`."""
    where, _, name = link.partition("/links/")
    if path.startswith(f"{link}/") or path == f"{where}/vlans/{name}":
        return True
    return re.match(rf"{where}/sysctls/ipv./conf/{re.escape(name)}/", path) is not None
