"""What can be wrong when a node starts: each ends it with one line that says what to do, and leaves nothing behind.

one node on an underlay: eth0 192.168.0.201, fd00:192:168::201
"""

import asyncio
import json
import os
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from dataplane.lab.overlay import UDPLANE
from dataplane.lab.topology import Lab, Node
from dataplane.leases.lease import LeaseAttrs
from dataplane.stores.base import AcquireRequest
from dataplane.stores.registry import open_store
from tests.node.conftest import complaint, without

CONFIG = {"Network": "10.5.0.0/16"}


@pytest.fixture(scope="module")
def node(namespaces: None, tun_device: None) -> Iterator[Node]:
    with Lab() as lab:
        yield lab.add_node()


@dataclass(slots=True)
class Start:
    """`udplane up` on the node, with its files in `directory`."""

    node: Node
    directory: Path

    def fails(self, *flags: str, status: int = 1, within: str = "exec", store: str = "") -> str:
        """Start, which must fail; returns what it says. `within`: the start of a shell command line, to be finished."""
        files = [f"--run-dir={self.directory}/run", f"--subnet-file={self.directory}/subnet.env"]
        store = store or f"sqlite:{self.directory}/store.db"
        up = [str(UDPLANE), "up", "--engine=python", "--store", store, *files, *flags]
        done = self.node.netns.run(["sh", "-c", f'{within} "$@"', "sh", *up], check=False, timeout=20)
        line = complaint(done, status)
        links = json.loads(self.node.netns.run(["ip", "-json", "link"]).stdout)
        assert sorted(link["ifname"] for link in links if link["ifname"] != "udplane0") == ["eth0", "lo"]
        assert not (self.directory / "run" / "control.sock").exists()
        return line


@pytest.fixture
def start(node: Node, tmp_path: Path) -> Iterator[Start]:
    config(tmp_path, CONFIG)
    yield Start(node, tmp_path)
    subprocess.run(
        ["ip", "-netns", node.netns.name, "link", "delete", "udplane0"], stderr=subprocess.DEVNULL, check=False
    )


def config(directory: Path, document: object) -> None:
    """Put a network config into the store of `directory`, without asking whether it is a good one."""
    store = open_store(f"sqlite:{directory}/store.db")
    asyncio.run(store.set_network_config(json.dumps(document)))


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--iface=eth7"], "there is no interface eth7; see `ip link`"),
        (["--iface=192.0.2.9"], "no interface has the address 192.0.2.9"),
        (["--iface=lo"], "interface lo has no usable"),
        (["--tun=eth0"], "eth0"),
        (["--tun=a/b"], "cannot name a device"),
        (["--workers=2"], "engine python has one worker; leave --workers out"),
        (["--net-config-path=/nonexistent.json"], "cannot read the network config /nonexistent.json"),
        (["--subnet-file=/proc/none/subnet.env"], "cannot write the subnet file /proc/none/subnet.env"),
        (["--run-dir=/proc/none"], "cannot use the run directory /proc/none"),
        (["--healthz-ip=203.0.113.1", "--healthz-port=1"], "cannot use TCP port 1 of 203.0.113.1"),
    ],
)
def test_a_flag_that_does_not_fit_the_host(start: Start, flags: list[str], words: str) -> None:
    assert words in start.fails(*flags)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--store=nothing"], "'nothing' names no store; begin it with one of sqlite:"),
        (["--store=sqlite:"], "sqlite: needs a path"),
    ],
)
def test_a_store_that_is_none_is_wrong_usage(start: Start, flags: list[str], words: str) -> None:
    assert words in start.fails(*flags, status=2)


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ({"Network": "10.5.0.0/16", "Backend": {"Type": "carrier-pigeon"}}, "backend 'carrier-pigeon'"),
        ({"Network": "10.5.0.0/16", "Backend": {"Port": 70000}}, "Port"),
    ],
)
def test_a_config_that_this_node_cannot_follow(start: Start, document: object, words: str) -> None:
    config(start.directory, document)
    assert words in start.fails()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "not valid JSON"),
        ("[]", "JSON object"),
        ('{"Network": "10.5.0.0"}', "'10.5.0.0' is not a network such as 10.5.0.0/16"),
        ("{}", 'has no Network; give the whole pod network, as in "Network": "10.5.0.0/16"'),
        ('{"Network": "10.5.0.0/30"}', "too small for four subnets"),
    ],
)
def test_a_config_file_with_a_mistake(start: Start, text: str, words: str) -> None:
    (start.directory / "net-conf.json").write_text(text)
    path = f"--net-config-path={start.directory}/net-conf.json"
    assert words in start.fails(path, store=f"sqlite:{start.directory}/new.db")


@pytest.mark.parametrize("address", ["127.0.0.1", "224.0.0.1", "10.5.3.3"])
def test_a_public_address_that_no_other_node_would_believe(start: Start, address: str) -> None:
    config(start.directory, CONFIG)
    line = start.fails(f"--public-ip={address}")
    assert address in line
    assert asyncio.run(open_store(f"sqlite:{start.directory}/store.db").leases()) == []


def test_a_busy_port(start: Start) -> None:
    with start.node.netns.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind((str(start.node.address(4)), 8285))
        assert "UDP port 8285 of 192.168.0.201 is in use by another program; find it with `ss" in start.fails()


def test_no_tun_device(start: Start) -> None:
    line = start.fails(within="exec unshare -m sh -c 'mount -t tmpfs none /dev/net && exec \"$@\"' sh")
    assert "there is no /dev/net/tun; run `modprobe tun`" in line


def test_no_permission(start: Start) -> None:
    line = start.fails(within="exec setpriv --bounding-set=-all --inh-caps=-all")
    assert "run as root" in line


def test_a_network_that_is_used_up(start: Start) -> None:
    config(start.directory, {"Network": "10.5.0.0/28", "SubnetLen": 30})
    store = open_store(f"sqlite:{start.directory}/store.db")
    for host in (1, 2, 3):
        asyncio.run(store.acquire(AcquireRequest(LeaseAttrs(public_ip=IPv4Address(f"192.0.2.{host}")))))
    assert "subnets of 10.5.0.0/28 are taken; release a lease with `udplane leave`" in start.fails()


def test_a_store_on_a_read_only_file_system(start: Start) -> None:
    mount = f"mount --bind {start.directory} {start.directory} && mount -o remount,ro,bind {start.directory}"
    flags = ["--run-dir=/run/udplane-test", "--subnet-file=/run/udplane-test/subnet.env"]
    line = start.fails(*flags, within=f"exec unshare -m sh -c 'mount -t tmpfs none /run && {mount} && exec \"$@\"' sh")
    assert "read-only; make it and its directory writable" in line


def test_a_store_that_is_a_file_of_somebody_else(start: Start) -> None:
    (start.directory / "store.db").write_bytes(os.urandom(4096))
    assert "is damaged or no udplane store" in start.fails()


def test_peers_that_overlap(start: Start) -> None:
    peer = '[[peer]]\nnode = "{0}"\npublic-ip = "192.168.0.{1}"\nsubnets = ["10.5.1.0/24"]\n'
    (start.directory / "peers.toml").write_text(
        '[network]\nNetwork = "10.5.0.0/16"\n' + peer.format("a", 201) + peer.format("b", 202)
    )
    assert "the peers overlap" in start.fails(store=f"static:{start.directory}/peers.toml")


def test_an_mtu_that_leaves_too_little_for_ipv6(start: Start) -> None:
    config(start.directory, CONFIG | {"EnableIPv6": True, "IPv6Network": "fd00:5::/48"})
    start.node.netns.ip("link set eth0 mtu 1300")
    try:
        assert "only 1272 bytes of MTU are left for udplane0, but IPv6 needs 1280" in start.fails()
    finally:
        start.node.netns.ip("link set eth0 mtu 1500")


def test_no_nft_and_no_iptables(start: Start) -> None:
    line = start.fails(within=without("nft", "iptables", "iptables-legacy"))
    assert "nft is not installed; iptables is not installed; " in line
    assert "on Debian: apt-get install nftables, or start the node with --firewall none" in line


def test_a_kernel_without_what_nft_and_iptables_need(start: Start) -> None:
    """They are installed and fail; that is no reason to install them."""
    for program in ("nft", "iptables", "iptables-legacy", "iptables-restore", "iptables-legacy-restore"):
        (start.directory / program).write_text("#!/bin/sh\necho netlink: Error: Operation not supported >&2; exit 1\n")
        (start.directory / program).chmod(0o755)
    line = start.fails(within=f"PATH={start.directory}:$PATH exec")
    assert "`nft list tables` says: netlink: Error: Operation not supported" in line
    assert "`iptables-legacy -w 5 -S FORWARD` says: netlink: Error" in line
    assert "--firewall none" in line
    assert "not installed" not in line


@pytest.mark.parametrize(
    ("command", "undo", "words"),
    [
        (
            "ip route add 10.5.0.0/16 via 192.168.0.9",
            "ip route del 10.5.0.0/16 via 192.168.0.9",
            "the route 10.5.0.0/16 via 192.168.0.9 dev eth0 is in the place of the pod network's own by udplane0",
        ),
        (
            "ip addr add 10.5.200.1/24 dev eth0",
            "ip addr del 10.5.200.1/24 dev eth0",
            "the pod network 10.5.0.0/16 is used by eth0, whose link has 10.5.200.0/24; choose a Network",
        ),
    ],
)
def test_somebody_else_uses_the_pod_network(start: Start, command: str, undo: str, words: str) -> None:
    before = start.node.netns.run(["ip", "route"]).stdout
    start.node.netns.run(command.split())
    try:
        assert words in start.fails()
    finally:
        start.node.netns.run(undo.split())
        start.node.netns.run(["ip", "link", "delete", "udplane0"], check=False)
    assert start.node.netns.run(["ip", "route"]).stdout == before
