"""What a plugin could have changed, as iproute2, nftables, iptables and /proc tell it: the eyes of worker.py.

A program is started only where it could say something new. The kernel is asked for its routes and rules, and for the
generation of its ruleset, by netlink messages, which cost a hundredth of a process; what a program makes of the same
answers is known from the last time.

Only the standard library is imported, see worker.py.
"""

from __future__ import annotations

import json
import os
import re
import socket
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

STATE_ROOTS = ("/etc/cni", "/run", "/var/lib/cni")
# /run/netns is shown as namespaces, not files; the others belong to iptables, mount(8) and the warm interpreter.
NOT_STATE = ("/run/netns", "/run/xtables.lock", "/run/mount", "/run/udplane-cni")
COMPAT_TABLES = {f"{family} {table}" for family in ("ip", "ip6") for table in ("filter", "nat", "mangle", "raw")}

# include/uapi/linux/netlink.h, rtnetlink.h, netfilter/nfnetlink.h and nf_tables.h
NLM_F_REQUEST, NLM_F_DUMP = 0x1, 0x300
NLMSG_ERROR, NLMSG_DONE = 2, 3
RTM_GETROUTE, RTM_GETRULE = 26, 34
NETLINK_NETFILTER, NFT_MSG_GETGEN = 12, 10 << 8 | 16
HEADER = struct.Struct("=IHHII")
GENERATION = slice(24, 28)
"""Where an answer to NFT_MSG_GETGEN has the number, after two headers and that of the attribute."""
DUMPS = [(kind, family) for kind in (RTM_GETROUTE, RTM_GETRULE) for family in (socket.AF_INET, socket.AF_INET6)]

FAMILIES = ("-4", "-6")

routing_seen: dict[tuple[Any, ...], dict[str, list[Any]]] = {}
"""What iproute2 made of the kernel's answers, and the links' indices and names, up to now."""

firewall_seen: dict[bytes, dict[str, Any]] = {}
"""The firewall at the latest generation of this network namespace."""


def text(data: bytes) -> str:
    """Bytes as a string that JSON can carry."""
    return data.decode("utf-8", "backslashreplace")


def output(*argv: str) -> str:
    """The standard output of a command that must succeed."""
    return subprocess.run(argv, capture_output=True, text=True, check=True).stdout


def network(with_sysctls: bool) -> dict[str, Any]:
    """What iproute2 and /proc/sys/net say of the calling thread's network namespace."""
    addresses = json.loads(output("ip", "-j", "-d", "addr", "show"))
    plain = all(link.get("qdisc") == "noqueue" for link in addresses)
    queueing = [] if plain else json.loads(output("tc", "-j", "qdisc", "show") or "[]")
    links = [link["ifname"] for link in addresses]
    return {
        "links": addresses,
        **routing(addresses),
        "qdiscs": queueing,
        "filters": ingress_filters(queueing),
        "vlans": bridge_vlans(addresses),
        "sysctls": sysctls(links) if with_sysctls else {},
    }


def routing(links: list[dict[str, Any]]) -> dict[str, list[Any]]:
    """Routes and rules, in the words of iproute2, which has for a link's index its name."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW) as kernel:
        said = (*(dump(kernel, *what) for what in DUMPS), *((link["ifindex"], link["ifname"]) for link in links))
        if said in routing_seen:
            return routing_seen[said]
        told = {
            "routes": [route for family in FAMILIES for route in read_routes(family)],
            "policy": [line for family in FAMILIES for line in output("ip", family, "rule").splitlines()],
        }
        if said[: len(DUMPS)] == tuple(dump(kernel, *what) for what in DUMPS):  # nothing has changed meanwhile
            routing_seen[said] = told
    return told


def read_routes(family: str) -> list[Any]:
    """The routes of all tables."""
    routes: list[Any] = json.loads(output("ip", "-j", family, "route", "show", "table", "all") or "[]")
    return routes


def dump(kernel: socket.socket, kind: int, family: int) -> bytes:
    """The messages with which rtnetlink answers, without what is only for the asker."""
    kernel.send(HEADER.pack(HEADER.size + 12, kind, NLM_F_REQUEST | NLM_F_DUMP, 0, 0) + struct.pack("=B11x", family))
    messages: list[bytes] = []
    while True:
        data, at = kernel.recv(1 << 18), 0
        while at < len(data):
            length, answer, *_ = HEADER.unpack_from(data, at)
            if answer == NLMSG_DONE:
                return b"".join(messages)
            if answer == NLMSG_ERROR:
                raise OSError(f"rtnetlink refuses a dump of kind {kind}")
            messages.append(data[at + HEADER.size : at + length])
            at += (length + 3) & ~3


def ingress_filters(queueing: list[dict[str, Any]]) -> dict[str, str]:
    """The traffic filters of each link that has an ingress queue."""
    ingress = [entry["dev"] for entry in queueing if entry["kind"] == "ingress"]
    return {dev: output("tc", "filter", "show", "dev", dev, "parent", "ffff:") for dev in ingress}


def bridge_vlans(links: list[dict[str, Any]]) -> dict[str, list[Any]]:
    """The VLANs of each bridge and each port that has some."""
    bridges = [link for link in links if link.get("linkinfo", {}).get("info_kind") == "bridge"]
    if not bridges:
        return {}
    return {entry["ifname"]: entry["vlans"] for entry in json.loads(output("bridge", "-j", "vlan", "show") or "[]")}


def sysctls(links: list[str]) -> dict[str, str]:
    """Every readable setting of the links, of `all` and of `default`, and ip_forward."""
    found = {"ipv4/ip_forward": Path("/proc/sys/net/ipv4/ip_forward").read_text().strip()}
    for family in ("ipv4", "ipv6"):
        for link in ["all", "default", *links]:
            directory = f"{family}/conf/{link}"
            found |= {f"{directory}/{name}": value for name, value in settings(f"/proc/sys/net/{directory}")}
    return found


def settings(directory: str) -> Iterator[tuple[str, str]]:
    """The readable files of a directory. A snapshot has a thousand of them, so this does no more than it must."""
    place = os.open(directory, os.O_RDONLY)
    try:
        for name in os.listdir(place):  # noqa: PTH208 - not thousands of Path objects
            try:
                descriptor = os.open(name, os.O_RDONLY, dir_fd=place)
            except OSError:
                continue
            try:
                yield name, os.read(descriptor, 4096).decode().strip()
            except OSError:
                pass  # stable_secret cannot be read before it is set
            finally:
                os.close(descriptor)
    finally:
        os.close(place)


def firewall() -> dict[str, Any]:
    """The rules of this network namespace, by `read_firewall`; see `forget_firewall`."""
    before = ruleset_generation()
    if before not in firewall_seen:
        rules = read_firewall()
        if ruleset_generation() != before:
            return rules
        firewall_seen.clear()
        firewall_seen[before] = rules
    return firewall_seen[before]


def forget_firewall() -> None:
    """To be called in a new network namespace, where the generations are counted anew."""
    firewall_seen.clear()


def ruleset_generation() -> bytes:
    """The number that nf_tables gives the ruleset with every change."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER) as kernel:
        kernel.send(HEADER.pack(HEADER.size + 4, NFT_MSG_GETGEN, NLM_F_REQUEST, 0, 0) + bytes(4))
        answer = kernel.recv(4096)
    if len(answer) < GENERATION.stop:
        raise OSError("nf_tables tells no generation")
    return answer[GENERATION]


def read_firewall() -> dict[str, Any]:
    """iptables' tables as {family table: {chain: [rule]}}, and every other nft table as its listing."""
    tables = [line.removeprefix("table ") for line in output("nft", "list", "tables").splitlines()]
    rules: dict[str, Any] = {}
    for family, program in (("ip", "iptables-save"), ("ip6", "ip6tables-save")):
        if any(table in COMPAT_TABLES and table.startswith(f"{family} ") for table in tables):
            rules |= saved_chains(family, output(program))
    for table in tables:
        if table not in COMPAT_TABLES:
            rules[table] = output("nft", "-s", "list", "table", *table.split()).splitlines()
    return rules


def saved_chains(family: str, saved: str) -> dict[str, dict[str, list[str]]]:
    """The chains of iptables-save with their rules, in order, under `family table`; counters are left out."""
    tables: dict[str, dict[str, list[str]]] = {}
    chains: dict[str, list[str]] = {}
    for line in saved.splitlines():
        if line.startswith("*"):
            chains = tables.setdefault(f"{family} {line[1:]}", {})
        elif line.startswith(":"):
            chains[line[1:].split()[0]] = []
        elif line.startswith("-A "):
            chains[line.split()[1]].append(re.sub(r"^-A \S+ ?", "", line))
    return tables


def state_files() -> dict[str, str]:
    """Mode and content of every file and directory under the state directories."""
    found: dict[str, str] = {}
    for root in STATE_ROOTS:
        for directory, subdirectories, names in os.walk(root):
            subdirectories[:] = [name for name in subdirectories if f"{directory}/{name}" not in NOT_STATE]
            paths = [f"{directory}/{name}" for name in [*subdirectories, *names]]
            found |= {path: describe(Path(path)) for path in paths if path not in NOT_STATE}
    return found


def describe(path: Path) -> str:
    """One line on a file: its mode, then its content or what else it is."""
    mode = f"{path.lstat().st_mode & 0o7777:04o}"
    if path.is_dir():
        return f"{mode} directory"
    if not path.is_file():
        return f"{mode} special"
    return f"{mode} {text(path.read_bytes())}"
