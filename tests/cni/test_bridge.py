"""bridge on a node of its own, where the official plugin is known to fall short.

      node                                   pods p1, p2
    +---------------------------------+    +-----------------+
    | cni0 10.9.0.1/24, fd09::1/64    |    | eth0 10.9.0.2   |
    |  +-- veth...  ------------------------ (born inside)   |
    |  nat or inet table: masquerade  |    | default via .1  |
    +---------------------------------+    +-----------------+

What both do alike is the differential run's business.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from cni.lib.skel import Attachment
from cni.lib.veth import host_name
from tests.cni.world.state import comparable, differences
from tests.cni.world.world import World

NETWORK = "net1"
HOST_VETH = host_name(NETWORK, Attachment("container-p1", "eth0"))
DUAL_STACK = [[{"subnet": "10.9.0.0/24"}], [{"subnet": "fd09::/64"}]]
NO_NETNS = {"CNI_NETNS": ""}
GONE_NETNS = {"CNI_NETNS": "/run/netns/gone"}


@pytest.fixture
def node(shared_node: World) -> World:
    """A freshly booted node with two empty pods."""
    shared_node.reset("p1", "p2")
    return shared_node


def conf(**more: Any) -> dict[str, Any]:
    ipam = {"type": "host-local", "ranges": [[{"subnet": "10.9.0.0/24"}]]}
    base = {"cniVersion": "1.1.0", "name": NETWORK, "type": "bridge", "isDefaultGateway": True, "ipam": ipam}
    return base | more


def dual_stack(**more: Any) -> dict[str, Any]:
    return conf(ipam={"type": "host-local", "ranges": DUAL_STACK}, **more)


def add(node: World, netconf: dict[str, Any], pod: str = "p1", **env: str) -> dict[str, Any]:
    done = node.plugin("bridge", "ADD", netconf, of(pod) | env)
    assert done.exit == 0, done.stdout
    result: dict[str, Any] = done.json
    return result


def delete(node: World, netconf: dict[str, Any], pod: str = "p1", **env: str) -> None:
    done = node.plugin("bridge", "DEL", netconf, of(pod) | env)
    assert (done.exit, done.stdout) == (0, "")


def refused(node: World, netconf: dict[str, Any], pod: str = "p1") -> dict[str, Any]:
    done = node.plugin("bridge", "ADD", netconf, of(pod))
    assert done.exit == 1, done.stdout
    error: dict[str, Any] = done.json
    return error


def collect(node: World, netconf: dict[str, Any], *alive: str) -> None:
    valid = [{"containerID": f"container-{pod}", "ifname": "eth0"} for pod in alive]
    done = node.plugin("bridge", "GC", netconf | {"cni.dev/valid-attachments": valid})
    assert done.exit == 0, done.stdout


def of(pod: str) -> dict[str, str]:
    return {"CNI_CONTAINERID": f"container-{pod}", "CNI_NETNS": f"/run/netns/{pod}"}


def link(node: World, name: str, pod: str | None = None) -> dict[str, Any]:
    found: list[dict[str, Any]] = json.loads(node.run("ip", "-j", "-d", "link", "show", "dev", name, pod=pod).stdout)
    return found[0]


def veths(node: World) -> list[str]:
    listing = node.sh("ip -j link show type veth") or "[]"
    return [entry["ifname"] for entry in json.loads(listing)]


def reservations(node: World) -> list[str]:
    return node.sh(f"ls /var/lib/cni/networks/{NETWORK} 2>/dev/null | grep -E '[.:].*[.:]' || true").split()


def nat_rules(node: World) -> list[str]:
    """Both families' rules beyond the built-in chains, and the nftables rules of pods."""
    found = []
    for program in ("iptables-save", "ip6tables-save"):
        found += [f"{program} {line}" for line in node.sh(f"{program} -t nat").splitlines() if "CNI-" in line]
    listing = node.run("nft", "list", "chain", "inet", "cni_plugins_masquerade", "masq_checks").stdout
    return found + [line for line in listing.splitlines() if "masquerade comment" in line]


def test_pods_reach_each_other_and_the_node_at_once(node: World) -> None:
    for pod in ("p1", "p2"):
        add(node, dual_stack(), pod)
    for target in ("10.9.0.1", "10.9.0.3", "fd09::1", "fd09::3"):
        node.sh(f"ping -c1 -W2 {target}", pod="p1")


def test_no_address_is_tentative(node: World) -> None:
    add(node, dual_stack())
    for where in (None, "p1"):
        assert "tentative" not in node.sh("ip -6 addr show scope global", pod=where)


def test_detection_of_duplicates_is_waited_for_when_asked(node: World) -> None:
    add(node, dual_stack(enabledad=True))
    listing = node.sh("ip -6 addr show dev eth0 scope global", pod="p1")
    assert "fd09::" in listing
    assert "nodad" not in listing
    assert "tentative" not in listing


def test_a_duplicate_is_an_error_when_detection_was_asked_for(node: World) -> None:
    fixed = {"type": "static", "addresses": [{"address": "fd09::5/64"}]}
    add(node, conf(ipam=fixed, isDefaultGateway=False), "p1")
    error = refused(node, conf(ipam=fixed, isDefaultGateway=False, enabledad=True), "p2")
    assert "fd09::5" in error["msg"]
    assert len(veths(node)) == 1


FAILING: dict[str, dict[str, Any]] = {
    "no such IPAM plugin": {"ipam": {"type": "none-of-this-name"}},
    "no address": {"ipam": {"type": "static"}},
    "same route twice": {
        "ipam": {"type": "host-local", "subnet": "10.9.0.0/24", "routes": [{"dst": "1.0.0.0/8"}, {"dst": "1.0.0.0/8"}]}
    },
    "unreachable gateway": {
        "isDefaultGateway": False,
        "ipam": {"type": "host-local", "subnet": "10.9.0.0/24", "routes": [{"dst": "1.0.0.0/8", "gw": "192.0.2.1"}]},
    },
    "bad MAC address": {"runtimeConfig": {"mac": "zz"}},
    "multicast MAC address": {"runtimeConfig": {"mac": "01:02:03:04:05:06"}},
    "MTU too large": {"mtu": 100000},
    "no such firewall backend": {"ipMasq": True, "ipMasqBackend": "none-of-this-name"},
    "VLAN": {"vlan": 5},
}


@pytest.mark.parametrize("why", FAILING)
def test_an_add_that_fails_leaves_nothing(node: World, why: str) -> None:
    before = comparable(node.snapshot("p1"))
    refused(node, conf(ipMasq=True) | FAILING[why])
    after = comparable(node.snapshot("p1"))
    left = {path: change for path, change in differences(before, after).items() if not is_empty_store(path)}
    assert not left
    assert reservations(node) == []


def is_empty_store(path: str) -> bool:
    """What opening the reservations or the nat table leaves once and for all; the pods' own state is not among it."""
    return path.startswith(("files//var/lib/cni/networks", "rules/")) and "CNI-" not in path


def test_a_second_add_is_refused_and_harms_nothing(node: World) -> None:
    add(node, conf(ipMasq=True))
    before = comparable(node.snapshot("p1"))
    message = refused(node, conf(ipMasq=True))["msg"]
    assert message.startswith('container veth name ("eth0") peer provided ("veth')
    assert message.endswith('") already exists')
    assert not differences(before, comparable(node.snapshot("p1")))


@pytest.mark.parametrize("backend", ["iptables", "nftables"])
@pytest.mark.parametrize("netns", [{}, NO_NETNS, GONE_NETNS], ids=["netns", "none", "gone"])
def test_del_takes_everything_and_may_be_repeated(node: World, backend: str, netns: dict[str, str]) -> None:
    netconf = dual_stack(ipMasq=True, ipMasqBackend=backend, macspoofchk=True)
    add(node, netconf)
    add(node, netconf, "p2")
    assert len(nat_rules(node)) == (2 * 2 * 4 if backend == "iptables" else 2 * 2)
    for _ in range(3):
        delete(node, netconf, **netns)
    assert len(nat_rules(node)) == (2 * 4 if backend == "iptables" else 2)
    assert veths(node) == [host_name(NETWORK, Attachment("container-p2", "eth0"))]
    assert reservations(node) == ["10.9.0.3", "fd09::3"]
    assert "container-p1" not in node.sh("nft list table bridge nat")
    delete(node, netconf, "p2")
    assert nat_rules(node) == veths(node) == reservations(node) == []


def test_del_before_any_add(node: World) -> None:
    delete(node, conf(ipMasq=True, macspoofchk=True))


def test_del_reports_a_failing_ipam_plugin_after_all_else(node: World) -> None:
    add(node, conf(ipMasq=True))
    done = node.plugin("bridge", "DEL", conf(ipMasq=True, ipam={"type": "none-of-this-name"}))
    assert done.json["msg"] == 'failed to find plugin "none-of-this-name" in path [/opt/cni/bin]'
    assert nat_rules(node) == veths(node) == []


def test_masquerade_stays_while_another_interface_of_the_pod_needs_it(node: World) -> None:
    netconf = conf(ipMasq=True, isDefaultGateway=False)
    add(node, netconf)
    add(node, netconf, CNI_IFNAME="eth1")
    delete(node, netconf)
    assert [rule for rule in nat_rules(node) if "POSTROUTING" in rule and "-s 10.9.0.3/32" in rule]
    delete(node, netconf, CNI_IFNAME="eth1")
    assert nat_rules(node) == []


def test_masquerade_goes_even_if_the_pod_has_changed_its_address(node: World) -> None:
    add(node, conf(ipMasq=True))
    node.sh("ip addr flush dev eth0; ip addr add 192.0.2.7/24 dev eth0", pod="p1")
    delete(node, conf(ipMasq=True))
    assert nat_rules(node) == []


def test_a_nat_table_that_iptables_cannot_list(node: World) -> None:
    add(node, conf(ipMasq=True), "p2")
    foreign = "fib daddr type local counter packets 0 bytes 0 masquerade"
    node.sh(f"nft add rule ip nat POSTROUTING {foreign}")
    if "incompatible" not in node.run("iptables", "-t", "nat", "-S").stderr:
        pytest.skip("this iptables lists all that the test knows to write: try iptables 1.8.9")
    add(node, conf(ipMasq=True))
    for pod in ("p1", "p2"):
        assert "jump CNI-" in node.sh("nft list chain ip nat POSTROUTING")
        delete(node, conf(ipMasq=True), pod)
    left = node.sh("nft list table ip nat")
    assert "CNI-" not in left
    assert foreign in left


@pytest.mark.parametrize("backend", ["iptables", "nftables"])
def test_gc_takes_what_dead_pods_left(node: World, backend: str) -> None:
    netconf = dual_stack(ipMasq=True, ipMasqBackend=backend, macspoofchk=True)
    for pod in ("p1", "p2"):
        add(node, netconf, pod)
    collect(node, netconf, "p1", "p2")
    assert len(veths(node)) == 2
    collect(node, netconf, "p2")
    assert veths(node) == [host_name(NETWORK, Attachment("container-p2", "eth0"))]
    assert reservations(node) == ["10.9.0.3", "fd09::3"]
    assert not [rule for rule in nat_rules(node) if "10.9.0.2" in rule or "container-p1" in rule]
    assert "container-p1" not in node.sh("nft list table bridge nat")
    node.sh("ping -c1 -W2 10.9.0.1", pod="p2")
    collect(node, netconf)
    assert nat_rules(node) == veths(node) == reservations(node) == []


def test_gc_leaves_other_networks_alone(node: World) -> None:
    ipam = {"type": "host-local", "subnet": "10.8.0.0/24"}
    add(node, conf(ipMasq=True, name="net2", bridge="cni1", ipam=ipam), "p2")
    collect(node, conf(ipMasq=True))
    assert len(veths(node)) == 1
    assert len(nat_rules(node)) == 4


def test_the_first_pods_of_a_fresh_node_in_parallel(node: World) -> None:
    n_pods = 12
    netconf = json.dumps(dual_stack(ipMasq=True))
    node.write("/run/conf", netconf)
    for i in range(n_pods):
        node.ask("pod", name=f"q{i}")
    script = """
        i=$1; CNI_COMMAND=ADD CNI_CONTAINERID=q$i CNI_NETNS=/run/netns/q$i CNI_IFNAME=eth0 CNI_PATH=/opt/cni/bin \\
        /opt/cni/bin/bridge < /run/conf > /run/out.$i || echo failed >> /run/failed
    """
    node.write("/run/add", script)
    node.sh(f"for i in $(seq 0 {n_pods - 1}); do sh /run/add $i & done; wait")
    assert node.run("cat", "/run/failed").exit != 0, node.sh("cat /run/out.*")
    addresses = [ip["address"] for i in range(n_pods) for ip in json.loads(node.sh(f"cat /run/out.{i}"))["ips"]]
    assert len(set(addresses)) == 2 * n_pods
    assert len(nat_rules(node)) == len(set(nat_rules(node))) == n_pods * 2 * 4
    assert node.sh("ip -o -4 addr show dev cni0").count("inet ") == 1
    node.sh("ping -c1 -W2 10.9.0.1", pod=f"q{n_pods - 1}")


def test_the_bridges_mtu_follows(node: World) -> None:
    add(node, conf(mtu=1400))
    assert link(node, "cni0")["mtu"] == 1400
    add(node, conf(mtu=1472), "p2")
    assert link(node, "cni0")["mtu"] == 1472
    node.sh("ip link set cni0 address 02:00:00:00:00:01")
    delete(node, conf())
    add(node, conf(mtu=1300))
    assert link(node, "cni0")["mtu"] != 1300, "a bridge without our mark is somebody else's"


def test_the_bridge_keeps_its_address_when_ports_come_and_go(node: World) -> None:
    mac = add(node, conf())["interfaces"][0]["mac"]
    add(node, conf(), "p2")
    delete(node, conf())
    delete(node, conf(), "p2")
    assert link(node, "cni0")["address"] == mac


def test_a_bridge_that_no_pod_uses_moves_to_the_new_subnet(node: World) -> None:
    add(node, conf())
    moved = conf(ipam={"type": "host-local", "subnet": "10.8.0.0/24"})
    error = refused(node, moved, "p2")
    assert '"cni0" already has an IP address different from 10.8.0.1/24' in error["msg"]
    assert "ip addr del 10.9.0.1/24 dev cni0" in error["msg"]
    delete(node, conf())
    add(node, moved, "p2")
    node.sh("ping -c1 -W2 10.8.0.1", pod="p2")
    assert "10.9.0.1" not in node.sh("ip addr show dev cni0")


def test_a_foreign_bridge_keeps_its_address(node: World) -> None:
    node.sh("ip link add cni0 type bridge; ip addr add 192.0.2.1/24 dev cni0")
    assert "already has an IP address" in refused(node, conf())["msg"]
    add(node, conf(forceAddress=True))
    assert "192.0.2.1" not in node.sh("ip addr show dev cni0")


def test_a_bridge_that_is_down_comes_up(node: World) -> None:
    add(node, conf())
    node.sh("ip link set cni0 down")
    add(node, conf(), "p2")
    node.sh("ping -c1 -W2 10.9.0.1", pod="p2")


def test_switches_of_the_port(node: World) -> None:
    add(node, conf(hairpinMode=True))
    add(node, conf(promiscMode=True, portIsolation=True), "p2")
    first = link(node, HOST_VETH)["linkinfo"]["info_slave_data"]
    second = link(node, host_name(NETWORK, Attachment("container-p2", "eth0")))["linkinfo"]["info_slave_data"]
    assert (first["hairpin"], first["isolated"], second["hairpin"], second["isolated"]) == (True, False, False, True)
    assert "PROMISC" in link(node, "cni0")["flags"]


def test_a_pods_super_packets_fit_the_tunnel(node: World) -> None:
    add(node, conf(gsoMaxSize=50000))
    pod = link(node, "eth0", "p1")
    assert pod["gso_max_size"] == 50000
    assert pod.get("gso_ipv4_max_size", 50000) == 50000
    assert link(node, HOST_VETH)["gso_max_size"] == 65536


def test_without_address_management_the_pod_gets_a_cable(node: World) -> None:
    result = add(node, conf(ipam=None))
    assert "ips" not in result
    assert "UP" in link(node, "eth0", "p1")["flags"]


def test_a_forged_sender_does_not_pass_the_bridge(node: World) -> None:
    for pod in ("p1", "p2"):
        add(node, conf(macspoofchk=True), pod)
    node.sh("ping -c1 -W2 10.9.0.3", pod="p1")
    node.sh("ip link set eth0 down; ip link set eth0 address 02:00:00:00:00:99; ip link set eth0 up", pod="p1")
    assert node.run("ping", "-c1", "-W1", "10.9.0.3", pod="p1").exit != 0


@pytest.mark.parametrize(
    ("key", "number"), [("mtu", -5), ("advmss", 1 << 32), ("priority", -1), ("table", -5), ("scope", 300)]
)
def test_a_route_with_a_number_that_the_kernel_cannot_take(node: World, key: str, number: int) -> None:
    ipam = {"type": "host-local", "subnet": "10.9.0.0/24", "routes": [{"dst": "10.5.0.0/16", key: number}]}
    assert refused(node, conf(ipam=ipam))["msg"] == f"invalid {key} {number} of the route to 10.5.0.0/16"
    assert "eth0" not in node.sh("ip link", pod="p1")


def test_ipv6_addresses_outlive_the_interface_going_down(node: World) -> None:
    add(node, dual_stack())
    node.sh("ip link set eth0 down", pod="p1")
    assert "fd09::2" in node.sh("ip addr show eth0", pod="p1")


def test_check_notices_what_has_changed(node: World) -> None:
    result = add(node, dual_stack())
    netconf = dual_stack(prevResult=result)

    def complaint() -> str:
        done = node.plugin("bridge", "CHECK", netconf)
        return "" if done.exit == 0 else str(done.json["msg"])

    assert complaint() == ""
    node.sh("ip route del default", pod="p1")
    assert complaint() == "Expected Route 0.0.0.0/0 via 10.9.0.1 not found in routing table"
    node.sh("ip route add default via 10.9.0.1; ip -6 addr flush dev eth0", pod="p1")
    assert complaint().startswith("Failed to match addr fd09::")
    node.sh(f"ip link set {HOST_VETH} nomaster")
    assert complaint() == "CNI veth created for bridge cni0 was not found"
    node.sh("ip link del eth0", pod="p1")
    assert complaint() == "Interface name eth0 not found"


def test_status_asks_the_ipam_plugin(node: World) -> None:
    assert node.plugin("bridge", "STATUS", conf()).exit == 0
    done = node.plugin("bridge", "STATUS", conf(ipam={"type": "none-of-this-name"}))
    assert done.exit == 1
    small = conf(ipam={"type": "host-local", "subnet": "10.9.0.0/30"})
    add(node, small)
    assert node.plugin("bridge", "STATUS", small).json["code"] == 50
