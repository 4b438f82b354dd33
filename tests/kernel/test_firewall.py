"""The rules of the pod network, seen from outside: whose address does a packet carry when it arrives?

 pod 10.5.1.2                         far 10.5.2.2
   |   fd00:5:1::2                      |   fd00:5:2::2      a pod of another node
   |                                    |
10.5.1.1 +----------- node -----------+ 10.5.2.1
         |    forwards everything     |
         +------------+---------------+ 192.0.2.1, 2001:db8::1
                      |
                   outside 192.0.2.2, 2001:db8::2            a host that is no part of the pod network
"""

import itertools
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from ipaddress import ip_network
from pathlib import Path

import pytest

from dataplane.errors import NodeError
from dataplane.kernel.firewall import Firewall, remove_rules
from dataplane.kernel.iptables_rules import Iptables
from dataplane.kernel.nft_rules import Nftables
from dataplane.kernel.programs import complaint
from dataplane.kernel.rules import RuleSet, forward_rules, masquerade_rules
from dataplane.lab.netns import Namespace
from dataplane.lab.topology import QUIET_IPV6
from dataplane.node.status import NodeState, node_status
from dataplane.options import NodeOptions
from tests.waiting import wait_until

NETWORKS = {4: ip_network("10.5.0.0/16"), 6: ip_network("fd00:5::/32")}
SUBNETS = {4: ip_network("10.5.1.0/24"), 6: ip_network("fd00:5:1::/48")}
LINKS = {
    "pod": {4: "10.5.1.{}/24", 6: "fd00:5:1::{}/48"},
    "far": {4: "10.5.2.{}/24", 6: "fd00:5:2::{}/48"},
    "outside": {4: "192.0.2.{}/24", 6: "2001:db8::{}/64"},
}
MANAGERS = ("nftables", "iptables")


@dataclass
class World:
    """The namespaces of the drawing."""

    node: Namespace
    ends: dict[str, Namespace]

    def source_seen(self, sender: str, receiver: str, version: int) -> str | None:
        """The source address of a datagram from one end to another as it arrives; None when it does not."""
        family = socket.AF_INET if version == 4 else socket.AF_INET6
        with (
            self.ends[receiver].socket(family, socket.SOCK_DGRAM) as target,
            self.ends[sender].socket(family, socket.SOCK_DGRAM) as source,
        ):
            target.bind((address(receiver, 2, version), 0))
            target.settimeout(0.3)
            source.sendto(b"?", target.getsockname()[:2])
            try:
                return str(target.recvfrom(10)[1][0])
            except TimeoutError:
                return None


def address(link: str, host: int, version: int) -> str:
    return LINKS[link][version].format(host).partition("/")[0]


def rules(*, masquerade: bool = True, forward: bool = True) -> list[RuleSet]:
    return [
        RuleSet(
            version,
            masquerade_rules(NETWORKS[version], SUBNETS[version]) if masquerade else (),
            forward_rules(NETWORKS[version]) if forward else (),
        )
        for version in (4, 6)
    ]


@pytest.fixture(scope="module")
def world(namespaces: None) -> Iterator[World]:
    with ExitStack() as stack:
        spaces = {}
        for name in ("node", *LINKS):
            spaces[name] = Namespace.create(f"fw{os.getpid()}-{name}")
            stack.callback(spaces[name].delete)
        node = spaces.pop("node")
        for space in (node, *spaces.values()):
            space.sysctl({f"net/ipv6/conf/default/{key}": value for key, value in QUIET_IPV6.items()})
        node.sysctl({"net/ipv4/ip_forward": 1, "net/ipv6/conf/all/forwarding": 1})
        for name, space in spaces.items():
            node.ip(f"link add {name} type veth peer name eth0 netns {space.name}", f"link set {name} up")
            space.ip("link set eth0 up")
            for version, text in LINKS[name].items():
                nodad = "nodad" if version == 6 else ""
                node.ip(f"addr add {text.format(1)} dev {name} {nodad}")
                space.ip(f"addr add {text.format(2)} dev eth0 {nodad}")
                space.ip(f"route add default via {address(name, 1, version)}")
        world = World(node, spaces)
        for name, version in itertools.product(("far", "outside"), (4, 6)):
            wait_until(lambda: world.source_seen("pod", name, version), f"IPv{version} from pod to {name}")  # noqa: B023
        yield world


@pytest.fixture
def node(world: World) -> Iterator[Namespace]:
    """The test runs inside of the node's namespace, which is without rules before and after."""
    with world.node.entered():
        subprocess.run(["nft", "flush", "ruleset"], check=True)
        yield world.node
        subprocess.run(["nft", "flush", "ruleset"], check=True)


def ensure(firewall: Firewall) -> bool:
    """Put the rules in place if they are not; whether something had to be done."""
    differs = bool(firewall.difference())
    if differs:
        firewall.fulfil()
    return differs


def ruleset() -> str:
    return subprocess.run(["nft", "list", "ruleset"], check=True, capture_output=True, text=True).stdout


@pytest.mark.parametrize("manager", MANAGERS)
@pytest.mark.parametrize("version", [4, 6])
def test_who_is_masqueraded(world: World, node: Namespace, manager: str, version: int) -> None:
    assert ensure(Firewall(rules(), manager))
    seen = {
        (sender, receiver): world.source_seen(sender, receiver, version)
        for sender in LINKS
        for receiver in LINKS
        if sender != receiver
    }
    assert seen == {
        ("pod", "outside"): address("outside", 1, version),  # rule 5
        ("pod", "far"): address("pod", 2, version),  # rule 2
        ("far", "pod"): address("far", 2, version),  # rule 3
        ("far", "outside"): address("outside", 1, version),  # rule 5
        ("outside", "pod"): address("outside", 2, version),  # rule 4
        ("outside", "far"): address("far", 1, version),  # rule 6
    }


@pytest.mark.parametrize("manager", MANAGERS)
@pytest.mark.parametrize("version", [4, 6])
def test_what_kubernetes_marked_is_left_alone(world: World, node: Namespace, manager: str, version: int) -> None:
    ensure(Firewall(rules(), manager))
    mark = "table inet marking { chain c { type filter hook prerouting priority mangle; meta mark set 0x4001; }; }"
    subprocess.run(["nft", mark], check=True)
    assert world.source_seen("pod", "outside", version) == address("pod", 2, version)


@pytest.mark.parametrize("manager", MANAGERS)
def test_without_masquerade_addresses_stay(world: World, node: Namespace, manager: str) -> None:
    ensure(Firewall(rules(masquerade=False), manager))
    assert world.source_seen("pod", "outside", 4) == address("pod", 2, 4)


@pytest.mark.parametrize("version", [4, 6])
def test_dockers_drop_policy_lets_pods_through_and_nothing_else(world: World, node: Namespace, version: int) -> None:
    program = {4: "iptables", 6: "ip6tables"}[version]
    subprocess.run([program, "-P", "FORWARD", "DROP"], check=True)
    assert world.source_seen("pod", "outside", version) is None
    firewall = Firewall(rules())
    ensure(firewall)
    assert firewall.manager is not None and firewall.manager.name == "iptables"
    assert world.source_seen("pod", "outside", version) == address("outside", 1, version)
    assert world.source_seen("outside", "pod", version) == address("outside", 2, version)


def test_docker_that_comes_later_is_noticed(world: World, node: Namespace) -> None:
    firewall = Firewall(rules())
    ensure(firewall)
    assert firewall.manager is not None and firewall.manager.name == "nftables"
    subprocess.run(["iptables", "-P", "FORWARD", "DROP"], check=True)
    assert world.source_seen("pod", "far", 4) is None
    assert ensure(firewall)
    assert firewall.manager.name == "iptables"
    assert "flannel-ipv4" not in ruleset()
    assert world.source_seen("pod", "far", 4) == address("pod", 2, 4)


@pytest.mark.parametrize("manager", MANAGERS)
@pytest.mark.parametrize(
    "damage", ["nft flush ruleset", "nft flush chain ip {table} {chain}", "nft insert rule ip {table} {chain} accept"]
)
def test_rules_that_somebody_changed_are_put_back(node: Namespace, manager: str, damage: str) -> None:
    table, chain = {"nftables": ("flannel-ipv4", "postrtg"), "iptables": ("nat", "FLANNEL-POSTRTG")}[manager]
    firewall = Firewall(rules(), manager)
    assert ensure(firewall)
    assert not ensure(firewall)
    assert firewall.manager is not None
    before = firewall.manager.listing()
    subprocess.run(damage.format(table=table, chain=chain).split(), check=True)
    assert firewall.manager.listing() != before
    assert ensure(firewall)
    assert firewall.manager.listing() == before
    assert not ensure(firewall)


@pytest.mark.parametrize("manager", MANAGERS)
def test_a_new_start_finds_its_rules_and_adds_nothing(node: Namespace, manager: str) -> None:
    ensure(Firewall(rules(), manager))
    before = ruleset()
    ensure(Firewall(rules(), manager))
    assert ruleset() == before


@pytest.mark.parametrize("manager", MANAGERS)
def test_a_new_start_without_masquerade_takes_it_away(node: Namespace, manager: str) -> None:
    ensure(Firewall(rules(), manager))
    ensure(Firewall(rules(masquerade=False), manager))
    listing = Nftables().listing() + Iptables().listing()
    assert "flanneld masq" not in listing
    assert "flanneld forward" in listing


@pytest.mark.parametrize("manager", MANAGERS)
def test_removal_leaves_nothing_of_ours_and_all_of_others(node: Namespace, manager: str) -> None:
    for program in ("iptables", "ip6tables"):
        subprocess.run([program, "-A", "FORWARD", "-i", "other", "-j", "ACCEPT"], check=True)
        subprocess.run([program, "-t", "nat", "-A", "POSTROUTING", "-o", "other", "-j", "RETURN"], check=True)
    subprocess.run(["nft", "table inet other { chain c { }; }"], check=True)
    before = ruleset()
    ensure(Firewall(rules(), manager))
    assert ruleset() != before
    remove_rules()
    assert ruleset() == before
    remove_rules()


def test_rules_that_nobody_asked_for_need_no_program(node: Namespace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    firewall = Firewall(rules(masquerade=False, forward=False))
    ensure(firewall)
    assert firewall.manager is None
    assert not ensure(firewall)


@pytest.mark.parametrize(
    ("choice", "package"), [("auto", "nftables"), ("nftables", "nftables"), ("iptables", "iptables")]
)
def test_a_missing_program_is_named(
    node: Namespace, monkeypatch: pytest.MonkeyPatch, choice: str, package: str
) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(NodeError, match=f"apt-get install {package}"):
        ensure(Firewall(rules(), choice))


def test_an_old_kernel_gets_iptables(node: Namespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """There nft(8) is installed but fails, as the kernel has no nf_tables."""
    (tmp_path / "nft").write_text("#!/bin/sh\nexit 1\n")
    (tmp_path / "nft").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    firewall = Firewall(rules())
    ensure(firewall)
    assert firewall.manager is not None and firewall.manager.name == "iptables"


def test_a_refusal_is_one_line_with_the_programs_words(
    node: Namespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "nft").write_text(
        '#!/bin/sh\n[ "$1" = list ] || [ "$2" = list ] && exit 0\necho "no: bad" >&2; exit 1\n'
    )
    (tmp_path / "nft").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with pytest.raises(NodeError, match="nft refuses the rules of the pod network: no: bad; try the other --firewall"):
        ensure(Firewall(rules(), "nftables"))


def test_a_kernel_for_legacy_iptables_alone(node: Namespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """nft and the iptables that goes by nf_tables are installed and fail; the legacy one works."""
    for program in ("nft", "iptables"):
        (tmp_path / program).write_text("#!/bin/sh\necho Operation not supported >&2; exit 1\n")
        (tmp_path / program).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    if complaint(["iptables-legacy", "-S", "FORWARD"]):
        pytest.skip("this kernel has no legacy iptables; run `modprobe iptable_filter`")
    firewall = Firewall(rules())
    ensure(firewall)
    assert firewall.manager is not None and firewall.manager.name == "iptables-legacy"
    assert not ensure(firewall)
    assert "FLANNEL-FWD" in subprocess.run(["iptables-legacy", "-S"], check=True, capture_output=True, text=True).stdout
    firewall.manager.remove()


def test_the_legacy_kind_is_asked_and_used_where_it_drops(node: Namespace) -> None:
    """Docker may use it while the system's choice, and so `iptables`, goes by nf_tables."""
    if complaint(["iptables-legacy", "-P", "FORWARD", "DROP"]):
        pytest.skip("this kernel has no legacy iptables; run `modprobe iptable_filter`")
    firewall = Firewall(rules())
    ensure(firewall)
    assert firewall.manager is not None and firewall.manager.name == "iptables-legacy"
    assert not ensure(firewall)
    subprocess.run(["iptables-legacy", "-P", "FORWARD", "ACCEPT"], check=True)
    assert ensure(firewall)
    assert firewall.manager.name == "nftables"
    assert "FLANNEL" not in subprocess.run(["iptables-legacy-save"], check=True, capture_output=True, text=True).stdout


def test_a_host_with_the_legacy_kind_alone(node: Namespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """There is no program called iptables at all."""
    if complaint(["iptables-legacy", "-S", "FORWARD"]):
        pytest.skip("this kernel has no legacy iptables; run `modprobe iptable_filter`")
    for program in ("", "-restore", "-save"):
        for name in (f"iptables-legacy{program}", f"ip6tables-legacy{program}"):
            (tmp_path / name).symlink_to(str(shutil.which(name)))
    monkeypatch.setenv("PATH", str(tmp_path))
    firewall = Firewall(rules())
    ensure(firewall)
    assert firewall.manager is not None and firewall.manager.name == "iptables-legacy"
    remove_rules()
    assert firewall.difference() == "were gone"


def test_without_rules_nothing_is_run(node: Namespace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    firewall = Firewall(rules(), "none")
    ensure(firewall)
    assert (firewall.manager, firewall.difference()) == (None, "")


def test_a_node_without_rules_does_not_say_that_it_has_some() -> None:
    options = replace(NodeOptions(), firewall="none", ip_masq=True)
    firewall = node_status(NodeState(options))["firewall"]
    assert [firewall[part] for part in ("masquerade", "forward", "guard")] == [False, False, False]
