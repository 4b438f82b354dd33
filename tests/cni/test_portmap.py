"""portmap on a private node, by both backends.

node  10.9.0.1 --- cni0 (made with ip) --- veth --- p1 eth0 10.9.0.2/24
                                      +--- veth --- p2 eth0 10.9.0.3/24
"""

from __future__ import annotations

import json
import sys
from typing import Any

import pytest

from cni.lib.skel import Outcome, run
from cni.portmap import PLUGIN
from tests.cni.world.world import World, cni_env

TCP = {"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}
UDP = {"hostPort": 5353, "containerPort": 53, "protocol": "udp"}
BACKENDS = ["iptables", "nftables"]
EMPTY_TABLES = {"iptables": 'CNI-DN|"dnat name', "nftables": "dnat to|comment .*container"}
ECHO_SERVER = """
import socket, sys
kind = socket.SOCK_STREAM if sys.argv[1] == "tcp" else socket.SOCK_DGRAM
server = socket.socket(socket.AF_INET, kind)
server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
server.bind(("", int(sys.argv[2])))
if sys.argv[1] == "tcp":
    server.listen()
print("ready", flush=True)
while True:
    if sys.argv[1] == "tcp":
        connection, peer = server.accept()
        connection.sendall(peer[0].encode())
        connection.close()
    else:
        _, peer = server.recvfrom(100)
        server.sendto(peer[0].encode(), peer)
"""
ASK = """
import socket, sys
protocol, address, port = sys.argv[1:4]
client = socket.socket(socket.AF_INET, socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM)
client.settimeout(float(sys.argv[5]) if len(sys.argv) > 5 else 5)
if len(sys.argv) > 4:
    client.bind(("", int(sys.argv[4])))
try:
    client.connect((address, int(port)))
    client.send(b"?")
    print(client.recv(100).decode())
except OSError as error:
    print("no answer:", error.strerror or error)
"""


@pytest.fixture
def node(shared_node: World) -> World:
    """A fresh node with two wired pods."""
    shared_node.reset("p1", "p2", "out")
    shared_node.sh(
        "ip link add cni0 type bridge; ip addr add 10.9.0.1/24 dev cni0; ip link set cni0 up; ip link set lo up"
    )
    for pod, address in (("p1", "10.9.0.2"), ("p2", "10.9.0.3")):
        shared_node.sh(f"ip link add {pod} master cni0 type veth peer name eth0 netns {pod}; ip link set {pod} up")
        shared_node.sh(f"ip link set {pod} type bridge_slave hairpin on")  # as the bridge plugin's hairpinMode does
        shared_node.sh(
            f"ip addr add {address}/24 dev eth0; ip link set eth0 up; ip route add default via 10.9.0.1", pod=pod
        )
    shared_node.sh("echo 1 > /proc/sys/net/ipv4/ip_forward")
    return shared_node


def conf(mappings: Any, backend: str = "", **keys: Any) -> dict[str, Any]:
    chosen = {"backend": backend} if backend else {}
    return {
        "cniVersion": "1.0.0", "name": "net1", "type": "portmap", "runtimeConfig": {"portMappings": mappings},
        **chosen, **keys,
    }  # fmt: skip


def chained(pod: str = "p1", *addresses: str) -> dict[str, Any]:
    """The result of the plugins before."""
    ips = [{"interface": 1, "address": address} for address in addresses or (f"10.9.0.{int(pod[1]) + 1}/24",)]
    interfaces = [{"name": "cni0"}, {"name": "eth0", "sandbox": f"/run/netns/{pod}"}]
    return {"prevResult": {"cniVersion": "1.0.0", "interfaces": interfaces, "ips": ips}}


def call(node: World, verb: str, netconf: dict[str, Any], pod: str = "p1", **env: str | None) -> str:
    done = node.plugin("portmap", verb, netconf, cni_env(verb, pod, **env))
    assert done.exit == 0, done
    return done.stdout


def rules(node: World) -> str:
    """Every rule that portmap could have made, of both backends."""
    tables = [f"{program} -t nat -S" for program in ("iptables", "ip6tables")]
    tables += [f"nft list table {family} cni_hostport 2>/dev/null" for family in ("ip", "ip6")]
    return node.sh("; ".join(tables) + "; true")


def serve(node: World, pod: str, protocol: str, port: int) -> None:
    """Start a server in a pod that answers with the sender's address."""
    log = f"/run/{pod}-{protocol}"
    node.start(
        "nsenter", f"--net=/run/netns/{pod}", sys.executable, "-I", "-c", ECHO_SERVER, protocol, str(port), log=log
    )
    node.sh(f"timeout 10 sh -c 'until grep -q ready {log}; do :; done'")


def ask(node: World, protocol: str, address: str, port: int, *more: str, pod: str | None = None) -> str:
    done = node.run(sys.executable, "-I", "-c", ASK, protocol, address, str(port), *more, pod=pod)
    return done.stdout.strip() or done.stderr


@pytest.mark.parametrize("backend", BACKENDS)
def test_published_port_is_reached_from_everywhere(node: World, backend: str) -> None:
    serve(node, "p1", "tcp", 80)
    netconf = conf([TCP], backend)
    result = json.loads(call(node, "ADD", {**netconf, **chained()}))
    assert result["ips"] == chained()["prevResult"]["ips"]
    assert ask(node, "tcp", "10.9.0.1", 8080) == "10.9.0.1"
    assert ask(node, "tcp", "127.0.0.1", 8080) == "10.9.0.1", "masqueraded, or the pod would answer to its own loopback"
    assert ask(node, "tcp", "10.9.0.1", 8080, pod="p1") == "10.9.0.1", "from the pod to itself through the host"
    call(node, "CHECK", {**netconf, **chained()})
    call(node, "DEL", netconf)
    assert "no answer" in ask(node, "tcp", "10.9.0.1", 8080)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("host_ip", ["", "10.9.0.1"])
def test_of_two_pods_the_newer_one_has_the_port(node: World, backend: str, host_ip: str) -> None:
    serve(node, "p2", "tcp", 80)
    for pod in ("p1", "p2"):
        call(node, "ADD", {**conf([{**TCP, "hostIP": host_ip}], backend), **chained(pod)}, pod=pod)
    assert ask(node, "tcp", "10.9.0.1", 8080) == "10.9.0.1"


@pytest.mark.parametrize("backend", BACKENDS)
def test_what_only_passes_through_the_node_is_left_alone(node: World, backend: str) -> None:
    serve(node, "p2", "tcp", 80)
    mappings = [{**TCP, "hostIP": "192.0.2.9"}, {**TCP, "hostPort": 8081}]
    call(node, "ADD", {**conf(mappings, backend), **chained("p2")}, pod="p2")
    for port in (8080, 8081):
        assert ask(node, "tcp", "192.0.2.9", port, pod="p1").startswith("no answer")


@pytest.mark.parametrize("backend", BACKENDS)
def test_udp_flow_follows_the_mapping(node: World, backend: str) -> None:
    """A client that asked before the port was published, and goes on asking from the same port, gets through."""
    serve(node, "p1", "udp", 53)
    node.sh("iptables -t nat -A OUTPUT -p udp --dport 1 -j ACCEPT")  # from here on the kernel tracks connections
    outside = ["6000", "0.2"]
    node.sh("ip link add out type veth peer name eth0 netns out; ip addr add 10.8.0.1/24 dev out; ip link set out up")
    node.sh("ip addr add 10.8.0.2/24 dev eth0; ip link set eth0 up", pod="out")
    assert ask(node, "udp", "10.8.0.1", 5353, *outside, pod="out").startswith("no answer")
    call(node, "ADD", {**conf([UDP], backend), **chained()})
    assert ask(node, "udp", "10.8.0.1", 5353, *outside, pod="out") == "10.8.0.2"
    call(node, "DEL", conf([UDP], backend))
    assert "dport=5353" not in node.sh("cat /proc/net/nf_conntrack 2>/dev/null || conntrack -L 2>/dev/null")
    assert ask(node, "udp", "10.8.0.1", 5353, *outside, pod="out").startswith("no answer")


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("protocol", ["tcp", "udp", "sctp"])
def test_dual_stack_rules_and_their_removal(node: World, backend: str, protocol: str) -> None:
    mappings = [{**TCP, "protocol": protocol}, {**TCP, "protocol": protocol, "hostPort": 81, "hostIP": "fd00::1"}]
    netconf = conf(mappings, backend)
    full = {**netconf, **chained("p1", "10.9.0.2/24", "fd00::2/64")}
    before = call(node, "ADD", full) and rules(node)
    for text in ("10.9.0.2:80", "[fd00::2]:80", "fd00::1"):
        assert text in before
    call(node, "CHECK", full)
    call(node, "ADD", full)
    assert rules(node) == before, "a repeated ADD changes nothing"
    call(node, "DEL", netconf, CNI_NETNS="")
    left = rules(node)
    assert "10.9.0.2" not in left and "fd00" not in left and "container-p1" not in left
    call(node, "DEL", netconf, CNI_NETNS="")
    assert rules(node) == left


@pytest.mark.parametrize("backend", BACKENDS)
def test_del_needs_no_mappings(node: World, backend: str) -> None:
    call(node, "ADD", {**conf([TCP, UDP], backend), **chained()})
    call(node, "DEL", conf(None), CNI_NETNS="")
    assert "container-p1" not in rules(node)


@pytest.mark.parametrize("backend", BACKENDS)
def test_del_leaves_other_networks_and_pods_alone(node: World, backend: str) -> None:
    other_net = {**conf([UDP], backend), "name": "net2"}
    call(node, "ADD", {**conf([TCP], backend), **chained()})
    call(node, "ADD", {**other_net, **chained()})
    call(node, "ADD", {**conf([{**TCP, "hostPort": 81}], backend), **chained("p2")}, pod="p2")
    call(node, "DEL", conf([TCP], backend))
    call(node, "CHECK", {**other_net, **chained()})
    call(node, "CHECK", {**conf([{**TCP, "hostPort": 81}], backend), **chained("p2")}, pod="p2")
    assert "8080" not in rules(node)


@pytest.mark.parametrize("backend", BACKENDS)
def test_check_finds_what_is_missing(node: World, backend: str) -> None:
    netconf = {**conf([TCP], backend), **chained()}
    call(node, "ADD", netconf)
    node.sh(
        "iptables -t nat -F CNI-HOSTPORT-DNAT" if backend == "iptables" else "nft flush chain ip cni_hostport hostports"
    )
    done = node.plugin("portmap", "CHECK", netconf)
    assert done.exit == 1
    assert ("not found in table nat" if backend == "iptables" else "missing hostport rules") in done.json["msg"]


@pytest.mark.parametrize("backend", BACKENDS)
def test_gc(node: World, backend: str) -> None:
    for pod in ("p1", "p2"):
        call(node, "ADD", {**conf([{**TCP, "hostPort": 8000 + int(pod[1])}], backend), **chained(pod)}, pod=pod)
    other = {**conf([UDP], backend), "name": "net2"}
    call(node, "ADD", {**other, **chained()})
    valid = {"cniVersion": "1.1.0", "cni.dev/valid-attachments": [{"containerID": "container-p2", "ifname": "eth0"}]}
    call(node, "GC", {**conf(None, backend), **valid})
    left = rules(node)
    assert "8001" not in left and "8002" in left and "5353" in left


@pytest.mark.parametrize("backend", BACKENDS)
def test_twenty_first_adds_at_once_leave_each_jump_once(node: World, backend: str) -> None:
    pods = range(20)
    env = " ".join(f"{key}={value}" for key, value in cni_env("ADD").items() if key != "CNI_CONTAINERID")
    for pod in pods:
        netconf = conf([{**TCP, "hostPort": 9000 + pod}], backend)
        node.write(f"/run/conf{pod}", json.dumps({**netconf, **chained("p1", f"10.9.0.{pod + 10}/24")}))
    one = f"env {env} CNI_CONTAINERID=c$i /opt/cni/bin/portmap < /run/conf$i > /run/out$i"
    node.sh(f"for i in $(seq 0 19); do {one} & done; wait")
    assert node.sh("grep -l code /run/out* || true") == ""
    found = rules(node).splitlines()
    if backend == "iptables":
        jumps = [line for line in found if line.endswith(("-j CNI-HOSTPORT-DNAT", "-j CNI-HOSTPORT-MASQ"))]
        assert len(jumps) == 3, "in PREROUTING, OUTPUT and POSTROUTING"
    else:
        assert sum("jump " in line for line in found) == 4, "two in prerouting, two in output"
    assert sum("dport 90" in line and ("DNAT" in line or "dnat to" in line) for line in found) == 20


def test_no_mapping_runs_no_firewall_program(node: World) -> None:
    for program in ("iptables", "ip6tables", "iptables-restore", "ip6tables-restore", "nft"):
        node.write(f"/run/fake/{program}", f'#!/bin/sh\necho {program} >> /run/ran\nexec /usr/sbin/{program} "$@"\n')
    node.sh("chmod +x /run/fake/*")
    path = {"PATH": "/run/fake:/usr/sbin:/usr/bin"}
    for verb in ("ADD", "CHECK", "DEL"):
        call(node, verb, {**conf([]), **chained()}, **path)
    assert node.sh("cat /run/ran 2>/dev/null || true") == ""
    call(node, "ADD", {**conf([TCP]), **chained()}, **path)
    node.sh("rm /run/ran")
    call(node, "ADD", {**conf([{**TCP, "hostPort": 81}]), **chained("p2")}, pod="p2", **path)
    assert node.sh("cat /run/ran").split() == ["iptables-restore"], (
        "one program for an ADD when the shared rules are there"
    )
    node.sh("rm /run/ran")
    call(node, "DEL", conf([TCP]), **path)
    assert node.sh("cat /run/ran").split() == ["iptables-restore"], "one program for a DEL that knows the mappings"


def test_nat_table_that_only_nft_can_read(node: World) -> None:
    """Where somebody's rules keep iptables out of the nat table, nftables is used, unless iptables is insisted on."""
    node.sh("nft 'add table ip nat; add chain ip nat OUTPUT { type nat hook output priority -100; }'")
    node.sh("nft 'add rule ip nat OUTPUT tcp dport 1 numgen random mod 2 0 counter'")
    insisting = node.plugin("portmap", "ADD", {**conf([TCP], "iptables"), **chained()})
    assert (insisting.exit, "is incompatible" in insisting.json["msg"]) == (1, True)
    call(node, "ADD", {**conf([TCP]), **chained()})
    assert "dnat to 10.9.0.2:80" in node.sh("nft list table ip cni_hostport")
    call(node, "DEL", conf([TCP]))
    assert "10.9.0.2" not in rules(node)


def test_failed_add_leaves_nothing(node: World) -> None:
    """The second family's rules are refused (a chain to jump to is missing there): the first family's go as well."""
    node.sh("iptables -t nat -N MARK-IT")
    before = rules(node)
    full = {**conf([TCP], externalSetMarkChain="MARK-IT"), **chained("p1", "10.9.0.2/24", "fd00::2/64")}
    done = node.plugin("portmap", "ADD", full)
    assert done.exit == 1
    left = rules(node)
    assert "10.9.0.2" not in left and "container-p1" not in left
    assert "MARK-IT" in before


SYSTEM = "/usr/sbin:/usr/bin:/sbin:/bin"


def only_legacy(node: World) -> dict[str, str]:
    """A PATH whose iptables is iptables-legacy; skips where the kernel has not got it."""
    node.sh("mkdir /run/legacy")
    for program in ("iptables", "ip6tables"):
        for suffix in ("", "-save", "-restore"):
            node.sh(f"ln -s /usr/sbin/{program}-legacy{suffix} /run/legacy/{program}{suffix}")
    if (done := node.run("/run/legacy/iptables", "-t", "nat", "-S")).exit != 0:
        pytest.skip(f"the kernel has no iptables-legacy: {done.stderr.strip()}")
    return {"PATH": f"/run/legacy:{SYSTEM}"}


def test_a_repeated_add_changes_nothing_in_iptables_legacy(node: World) -> None:
    path = only_legacy(node)
    netconf = conf([TCP, UDP], "iptables")
    full = {**netconf, **chained("p1", "10.9.0.2/24", "fd00::2/64")}
    listing = "/run/legacy/iptables -t nat -S; /run/legacy/ip6tables -t nat -S"
    call(node, "ADD", full, **path)
    before = node.sh(listing)
    assert before.count("--dports 8080") == 2
    call(node, "ADD", full, **path)
    assert node.sh(listing) == before
    call(node, "DEL", netconf, **path)
    assert "container-p1" not in node.sh(listing)


def test_a_node_without_ip6tables(node: World) -> None:
    """As long as its pods have IPv4 addresses alone."""
    netconf = conf([TCP, UDP], "iptables")
    gc = {**netconf, "cniVersion": "1.1.0", "cni.dev/valid-attachments": []}
    programs = "iptables iptables-restore iptables-save"
    node.sh("mkdir /run/sbin; cp -L /usr/sbin/nft /usr/sbin/xtables-nft-multi /run/sbin; mount -t tmpfs none /usr/sbin")
    try:
        node.sh(
            "cp /run/sbin/* /usr/sbin; cd /usr/sbin; " + f"for i in {programs}; do ln -s xtables-nft-multi $i; done"
        )
        for _ in range(2):
            call(node, "ADD", {**netconf, **chained()})
        call(node, "CHECK", {**netconf, **chained()})
        call(node, "DEL", conf(None, "iptables"))
        call(node, "ADD", {**netconf, **chained()})
        call(node, "GC", gc)
        masquerade = {"cniVersion": "1.1.0", "name": "net1", "type": "bridge", "cni.dev/valid-attachments": []}
        assert node.plugin("bridge", "GC", masquerade).exit == 0
    finally:
        node.sh("umount /usr/sbin")
    assert "container-p1" not in rules(node)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_connection_to_the_ipv6_localhost_does_not_hang(node: World, backend: str) -> None:
    node.sh("ip addr add fd00:9::1/64 dev cni0 nodad; echo 1 > /proc/sys/net/ipv6/conf/all/forwarding")
    node.sh("ip addr add fd00:9::2/64 dev eth0 nodad; ip route add default via fd00:9::1", pod="p1")
    server = ECHO_SERVER.replace("AF_INET", "AF_INET6")
    node.start(
        "nsenter", "--net=/run/netns/p1", sys.executable, "-I", "-c", server, "tcp", "80", log="/run/p1-tcp"
    )  # fmt: skip
    node.sh("timeout 10 sh -c 'until grep -q ready /run/p1-tcp; do :; done'")
    full = {**conf([TCP], backend), **chained("p1", "10.9.0.2/24", "fd00:9::2/64")}
    call(node, "ADD", full)

    def ask_v6(address: str) -> str:
        question = ASK.replace("AF_INET", "AF_INET6")
        return node.run(sys.executable, "-I", "-c", question, "tcp", address, "8080").stdout.strip()

    assert ask_v6("fd00:9::1") == "fd00:9::1"
    assert "refused" in ask_v6("::1")
    call(node, "CHECK", full)


@pytest.mark.parametrize("backend", BACKENDS)
def test_two_interfaces_of_a_pod_in_one_network(node: World, backend: str) -> None:
    second = [{**TCP, "hostPort": 8081}]
    eth1 = {"CNI_IFNAME": "eth1"}
    result = chained()
    other = json.loads(json.dumps(chained("p1", "10.9.0.22/24")).replace("eth0", "eth1"))
    call(node, "ADD", {**conf([TCP], backend), **result})
    for _ in range(2):
        call(node, "ADD", {**conf(second, backend), **other}, **eth1)
    call(node, "CHECK", {**conf([TCP], backend), **result})
    call(node, "CHECK", {**conf(second, backend), **other}, **eth1)
    valid = [{"containerID": "container-p1", "ifname": "eth1"}]
    call(node, "GC", {**conf(None, backend), "cniVersion": "1.1.0", "cni.dev/valid-attachments": valid})
    assert "10.9.0.2:80" not in rules(node)
    call(node, "ADD", {**conf([TCP], backend), **result})
    call(node, "DEL", conf([TCP], backend))
    call(node, "CHECK", {**conf(second, backend), **other}, **eth1)
    assert "10.9.0.2:80" not in rules(node)
    call(node, "DEL", conf(second, backend), **eth1)
    assert "container-p1" not in rules(node)


def outcome(verb: str, netconf: dict[str, Any]) -> Outcome:
    """The plugin in this process, for what fails before anything is done."""
    return run(PLUGIN, {**cni_env(verb), "CNI_NETNS": "/nowhere"}, lambda: json.dumps(netconf).encode())


@pytest.mark.parametrize(
    ("mappings", "keys", "message"),
    [
        ([{**TCP, "hostPort": 0}], {}, "Invalid host port number: 0"),
        ([{**TCP, "containerPort": 70000}], {}, "Invalid container port number: 70000"),
        ([{**TCP, "hostIP": "x"}], {}, "Invalid host IP address: x"),
        ([{**TCP, "hostIP": "::1"}], {}, "a port cannot be published at ::1"),
        ([{**TCP, "protocol": "tcp\n-F"}], {}, "Invalid protocol"),
        ([{**TCP, "protocol": ""}], {}, "Invalid protocol"),
        ([TCP], {"markMasqBit": 32}, "MasqMarkBit must be between 0 and 31"),
        ([TCP], {"markMasqBit": 5, "externalSetMarkChain": "X"}, "Cannot specify externalSetMarkChain and markMasqBit"),
        ([TCP], {"backend": "pf"}, 'unrecognized backend "pf"'),
        ([TCP], {"backend": "nftables", "conditionsV4": ["-s", "1.2.3.4"]}, "iptables-specific options [conditionsV4]"),
        ([TCP], {"backend": "iptables", "conditionsV6": ["ip6", "saddr"]}, "nftables-specific options [conditionsV6]"),
        ([TCP], {"backend": "iptables", "conditionsV4": ["-s", "1.2.3.4\n-F"]}, "control characters"),
        ([TCP], {"backend": "nftables", "conditionsV4": ["ip", "saddr 1.2.3.4; flush ruleset"]}, "cannot be part"),
    ],
)
def test_what_is_refused(mappings: Any, keys: dict[str, Any], message: str) -> None:
    done = outcome("ADD", {**conf(mappings), **keys, **chained()})
    assert done.status == 1
    assert message in json.loads(done.output)["msg"]


def test_not_chained() -> None:
    assert json.loads(outcome("ADD", conf([TCP])).output)["msg"] == "must be called as chained plugin"
    assert json.loads(outcome("CHECK", conf([TCP])).output)["msg"] == "Required prevResult missing"
