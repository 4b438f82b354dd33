"""`udplane doctor` finds what was broken on purpose, and says what to do about it.

one node on an underlay: eth0 192.168.0.201, fd00:192:168::201
"""

import asyncio
import contextlib
import json
import socket
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from dataplane.lab.overlay import UDPLANE
from dataplane.lab.topology import Lab, Node
from dataplane.stores.registry import open_store
from tests.node.conftest import without

Findings = dict[tuple[str, str], dict[str, str]]


@pytest.fixture(scope="module")
def node(namespaces: None, tun_device: None) -> Iterator[Node]:
    with Lab() as lab:
        yield lab.add_node()


@pytest.fixture
def store(tmp_path: Path) -> str:
    url = f"sqlite:{tmp_path}/store.db"
    text = '{"Network": "10.5.0.0/16", "EnableIPv6": true, "IPv6Network": "fd00:5::/48"}'
    asyncio.run(open_store(url).set_network_config(text))
    return url


def examined(node: Node, store: str, *flags: str, within: str = "exec") -> tuple[int, Findings]:
    """The exit status, and the findings that are not OK by level and check."""
    command = [str(UDPLANE), "doctor", "--json", "--engine=python", "--store", store, *flags]
    done = node.netns.run(["sh", "-c", f'{within} "$@"', "sh", *command], check=False)
    findings = json.loads(done.stdout)
    assert all(bool(finding["remedy"]) == (finding["level"] != "OK") for finding in findings), findings
    return done.returncode, {(f["level"], f["check"]): f for f in findings if f["level"] != "OK"}


def test_a_good_host_passes(node: Node, store: str) -> None:
    assert examined(node, store) == (0, {})


def test_the_report_for_people_ends_with_the_sum(node: Node, store: str) -> None:
    done = node.netns.run([str(UDPLANE), "doctor", "--engine=python", "--store", store])
    assert done.stdout.splitlines()[-1] == "0 failures, 0 warnings"
    assert done.stdout.startswith("OK")


def test_a_store_without_config(node: Node, tmp_path: Path) -> None:
    status, findings = examined(node, f"sqlite:{tmp_path}/none.db")
    assert status == 1
    assert "udplane config set" in findings["FAIL", "store"]["text"]


def test_no_such_interface(node: Node, store: str) -> None:
    status, findings = examined(node, store, "--iface=eth7")
    assert (status, set(findings)) == (1, {("FAIL", "interface")})


def test_no_tun_device(node: Node, store: str) -> None:
    status, findings = examined(
        node, store, within="exec unshare -m sh -c 'mount -t tmpfs none /dev/net && exec \"$@\"' sh"
    )
    assert (status, set(findings)) == (1, {("FAIL", "tun")})
    assert "modprobe tun" in findings["FAIL", "tun"]["remedy"]


def test_no_privilege(node: Node, store: str) -> None:
    status, findings = examined(node, store, within="exec setpriv --bounding-set=-all --inh-caps=-all")
    assert status == 1
    assert findings["FAIL", "privilege"]["text"] == "CAP_NET_ADMIN and CAP_NET_RAW not held"


def test_no_firewall_program(node: Node, store: str) -> None:
    status, findings = examined(node, store, within=without("nft", "iptables", "iptables-legacy"))
    assert (status, set(findings)) == (1, {("FAIL", "rules")})


def test_the_firewall_program_that_is_wished_for_is_looked_at(node: Node, store: str) -> None:
    hidden = without("iptables", "iptables-legacy")
    status, findings = examined(node, store, "--firewall=iptables", within=hidden)
    assert (status, set(findings)) == (1, {("FAIL", "rules")})
    assert "iptables is not installed" in findings["FAIL", "rules"]["text"]


def test_the_programs_of_an_administrator_are_found_off_the_path(node: Node, store: str) -> None:
    """`su` on Debian leaves the caller's PATH, which has no /usr/sbin."""
    assert examined(node, store, within="PATH=/usr/bin:/bin exec") == (0, {})


def test_a_default_route_by_the_tun_is_not_taken_for_the_underlay(node: Node, store: str) -> None:
    node.netns.ip(
        "tuntap add udplane0 mode tun", "link set udplane0 up", "addr add 10.5.1.0/32 dev udplane0",
        "route replace default dev udplane0", "route append default via 192.168.0.1 metric 9",
    )  # fmt: skip
    try:
        assert examined(node, store) == (0, {})
    finally:
        node.netns.ip(
            "link del udplane0", "route del default via 192.168.0.1 metric 9", "route add default via 192.168.0.1"
        )


def test_a_busy_port(node: Node, store: str) -> None:
    with node.netns.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind((str(node.address(4)), 8285))
        status, findings = examined(node, store)
    assert (status, set(findings)) == (1, {("FAIL", "port")})


def test_an_mtu_too_small_for_ipv6(node: Node, store: str) -> None:
    node.netns.ip("link set eth0 mtu 1300")
    try:
        status, findings = examined(node, store)
    finally:
        node.netns.ip("link set eth0 mtu 1500")
    assert (status, set(findings)) == (1, {("FAIL", "mtu")})
    assert findings["FAIL", "mtu"]["remedy"] == "raise it: ip link set eth0 mtu 1308"


def test_a_pod_network_that_hides_the_underlay(node: Node, store: str) -> None:
    asyncio.run(open_store(store).set_network_config('{"Network": "192.168.0.0/16"}'))
    status, findings = examined(node, store)
    assert (status, set(findings)) == (1, {("FAIL", "network")})


def test_a_lease_that_no_node_believes_is_a_warning(node: Node, store: str) -> None:
    with contextlib.closing(sqlite3.connect(store.removeprefix("sqlite:"))) as database:
        database.execute("INSERT INTO leases VALUES ('128.0.0.0-1', '{\"PublicIP\": \"192.168.0.66\"}', NULL)")
        database.commit()
    status, findings = examined(node, store)
    assert (status, set(findings)) == (0, {("WARN", "leases")})
    assert "the nodes ignore 128.0.0.0/1 of node 192.168.0.66" in findings["WARN", "leases"]["text"]


def test_strict_reverse_path_filtering_is_a_warning(node: Node, store: str) -> None:
    node.netns.sysctl({"net/ipv4/conf/eth0/rp_filter": 1})
    try:
        status, findings = examined(node, store)
    finally:
        node.netns.sysctl({"net/ipv4/conf/eth0/rp_filter": 0})
    assert (status, set(findings)) == (0, {("WARN", "rp_filter")})


def test_a_table_that_drops_forwarded_traffic_is_a_warning(node: Node, store: str) -> None:
    chain = "table inet site { chain f { type filter hook forward priority 0; policy drop; }; }"
    node.netns.run(["nft", chain])
    try:
        status, findings = examined(node, store)
    finally:
        node.netns.run(["nft", "delete", "table", "inet", "site"])
    assert (status, set(findings)) == (0, {("WARN", "rules")})
