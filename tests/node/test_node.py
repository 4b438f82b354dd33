"""The life of nodes: what they do to their hosts, what they say, what a restart and a departure leave.

    pod1 -- cni0 node1 --- underlay --- node2 cni0 -- pod2      10.254.x.0/24, fd00:10:254:x::/64 by lease

Each node is the real `udplane up` in a namespace of its own, with the python engine; what the engines do to packets is
tested elsewhere. Tests that change a node put it back, so that all share one overlay.
"""

import json
import signal
import sqlite3
import subprocess
from collections.abc import Iterator
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest

from dataplane.lab.overlay import NETWORK_CONFIG, TUN, Daemon, Overlay
from dataplane.lab.ping import ping
from dataplane.lab.topology import Lab
from dataplane.node.document import StatusDocument
from tests.node.conftest import complaint, curl, udplane
from tests.node.test_document import differing
from tests.node.test_metrics import sample
from tests.waiting import wait_until

NETWORK, NETWORK6 = str(NETWORK_CONFIG["Network"]), str(NETWORK_CONFIG["IPv6Network"])


@pytest.fixture(scope="module")
def overlay(namespaces: None, tun_device: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Overlay]:
    flags = ["--ip-masq", "--iptables-resync=1"]
    with Lab() as lab, Overlay(lab, tmp_path_factory.mktemp("overlay"), engine="python", flags=flags) as overlay:
        for _ in range(2):
            lab.add_node()
        overlay.up(pods_per_node=1)
        for daemon in overlay.daemons:
            wait_until(lambda: len(daemon.status()["peers"]) == 1, "both nodes know each other")  # noqa: B023
        yield overlay


@pytest.fixture
def node1(overlay: Overlay) -> Daemon:
    return overlay.daemons[0]


def pods_reach_each_other(overlay: Overlay, version: int = 4) -> bool:
    source, target = (daemon.node.pods[0] for daemon in overlay.daemons)
    return bool(ping(source.netns, target.address(version), timeout=0.5))


def restart(overlay: Overlay, number: int) -> Daemon:
    """Start the daemon of a node again."""
    daemon = overlay.start(overlay.lab.nodes[number])
    overlay.daemons[number] = daemon
    daemon.wait_until_ready()
    return daemon


def ip_json(daemon: Daemon, *arguments: str) -> list[dict[str, Any]]:
    result: list[dict[str, Any]] = json.loads(daemon.node.netns.run(["ip", "-json", *arguments]).stdout)
    return result


def ruleset(daemon: Daemon) -> str:
    return daemon.node.netns.run(["nft", "list", "ruleset"]).stdout


def log_has(daemon: Daemon, words: str) -> None:
    wait_until(lambda: words in daemon.log.read_text(), f"the log says {words!r}")


def test_pods_reach_each_other(overlay: Overlay) -> None:
    for version in (4, 6):
        assert pods_reach_each_other(overlay, version)


def test_the_host_is_set_up_as_flannel_does(overlay: Overlay, node1: Daemon) -> None:
    subnets, mtu = node1.lease()
    (link,) = ip_json(node1, "addr", "show", TUN)
    assert [(a["local"], a["prefixlen"]) for a in link["addr_info"]] == [
        (str(subnets[0].network_address), 32),
        (str(subnets[1].network_address), 128),
    ]
    assert (link["mtu"], mtu) == (1472, 1472)
    routes = ip_json(node1, "route", "show", NETWORK) + ip_json(node1, "-6", "route", "show", NETWORK6)
    assert [route["dev"] for route in routes] == [TUN, TUN]
    for table in ("ip flannel-ipv4", "ip6 flannel-ipv6"):
        assert f"table {table} {{" in ruleset(node1)
    env = dict(line.split("=") for line in node1.subnet_file.read_text().split())
    assert env["FLANNEL_NETWORK"] == NETWORK
    assert env["FLANNEL_SUBNET"] == f"{subnets[0][1]}/24"
    assert env["FLANNEL_IPMASQ"] == "true"


def test_status_tells_everything(overlay: Overlay, node1: Daemon) -> None:
    before = node1.status()
    assert pods_reach_each_other(overlay)
    after = node1.status()
    subnets, _ = node1.lease()
    assert after["phase"] == "ready"
    assert after["lease"]["state"] == "held"
    assert after["lease"]["subnets"] == [str(subnet) for subnet in subnets]
    rules = {"manager": "nftables", "masquerade": True, "forward": True, "guard": True}
    assert after["firewall"] == rules | {"guard_dropped": 0, "guard_lacking": ""}
    assert (after["backend"]["type"], after["backend"]["engine"], after["backend"]["port"]) == ("udp", "python", 8285)
    (peer,), (known,) = after["peers"], before["peers"]
    assert peer["subnets"] == [str(subnet) for subnet in overlay.daemons[1].lease()[0]]
    assert peer["address"] == str(overlay.lab.nodes[1].address(4))
    assert peer["last_seen_seconds"] < 5
    assert (
        peer["tx_packets"] - known["tx_packets"]
        == after["counters"]["encap"]["packets"] - (before["counters"]["encap"]["packets"])
    )
    assert peer["rx_packets"] > known["rx_packets"]


def test_status_has_the_keys_of_its_definition(node1: Daemon) -> None:
    status = node1.status()
    assert status["peers"]
    assert list(differing(status, StatusDocument)) == []


def test_prometheus_gets_the_same_numbers(node1: Daemon) -> None:
    text = curl(node1, "/metrics")
    peer = node1.status()["peers"][0]
    labels = {"subnet": ",".join(peer["subnets"]), "address": peer["address"]}
    assert sample(text, "peer_packets_total", **labels, direction="receive") <= peer["rx_packets"]
    assert (sample(text, "ready"), sample(text, "peers", state="reachable")) == (1, 1)


def test_status_for_people_is_no_wider_than_a_screen(node1: Daemon) -> None:
    text = node1.node.netns.run(node1.command("status")).stdout
    text = text.replace(str(node1.directory.parent), "/run/udplane")  # a test's directory may have a long path
    assert max(map(len, text.splitlines())) <= 100
    for word in ("ready", "held", "udplane0", "nftables", "PEER", "encap", "decap"):
        assert word in text


def test_peers_are_listed(node1: Daemon) -> None:
    (peer,) = json.loads(node1.node.netns.run(node1.command("peers", "--json")).stdout)
    assert peer["subnets"] == node1.status()["peers"][0]["subnets"]
    assert "192.168.0.202:8285" in node1.node.netns.run(node1.command("peers")).stdout


def test_stats_in_a_pipe_are_one_line_a_sample(node1: Daemon) -> None:
    lines = node1.node.netns.run(node1.command("stats", "--count", "2", "--interval", "0.05")).stdout.splitlines()
    assert len(lines) == 2
    for line in lines:
        values = dict(word.split("=") for word in line.split())
        assert set(values) >= {"time", "encap_pps", "encap_bps", "decap_pps", "decap_drops_ps"}
        assert all(int(value) >= 0 for value in values.values())


def test_stats_in_json_are_counters_and_peers(node1: Daemon) -> None:
    document = json.loads(node1.node.netns.run(node1.command("stats", "--json")).stdout)
    assert set(document) == {"counters", "peers"}


def test_a_drop_is_counted_under_its_reason_and_put_into_words(overlay: Overlay, node1: Daemon) -> None:
    dropped = node1.status()["counters"]["encap"]["drops"]["no_route"]
    ping(node1.node.pods[0].netns, IPv4Address("10.254.255.254"), timeout=1)
    assert node1.status()["counters"]["encap"]["drops"]["no_route"] == dropped + 1
    assert "no lease covers the destination (no_route)" in node1.node.netns.run(node1.command("status")).stdout


def test_rules_that_somebody_removed_come_back(node1: Daemon) -> None:
    before = ruleset(node1)
    node1.node.netns.run(["nft", "delete", "table", "ip", "flannel-ipv4"])
    assert ruleset(node1) != before
    wait_until(lambda: ruleset(node1) == before, "the rules are back")
    log_has(node1, "somebody changed the host: the firewall rules of the pod network were")


def test_a_lost_store_stops_no_traffic_and_is_said(overlay: Overlay, node1: Daemon) -> None:
    store = Path(overlay.store.removeprefix("sqlite:"))
    hidden = store.with_suffix(".hidden")
    store.rename(hidden)
    try:
        wait_until(lambda: node1.status()["store"]["trouble"], "status says that the store is gone")
        assert pods_reach_each_other(overlay)
        assert "OUT OF REACH" in node1.node.netns.run(node1.command("status")).stdout
        assert node1.status()["phase"] == "ready"
    finally:
        hidden.rename(store)
    wait_until(lambda: not node1.status()["store"]["trouble"], "status says that the store is back")
    log_has(node1, "the store is back")


def test_a_revoked_lease_is_noticed_and_taken_again(overlay: Overlay, node1: Daemon) -> None:
    subnets, _ = node1.lease()
    key = f"{subnets[0]}&{subnets[1]}".replace("/", "-")
    with sqlite3.connect(overlay.store.removeprefix("sqlite:")) as database:
        assert database.execute("DELETE FROM leases WHERE key = ?", (key,)).rowcount == 1
    database.close()
    log_has(node1, "lease lost: ")
    wait_until(lambda: node1.status()["lease"]["state"] == "held", "the node has a lease again")
    assert node1.lease()[0] == subnets
    wait_until(lambda: pods_reach_each_other(overlay), "pods reach each other")


def test_a_stopped_node_leaves_what_pods_need_and_finds_it_again(overlay: Overlay, node1: Daemon) -> None:
    subnets, _ = node1.lease()
    (link,), rules = ip_json(node1, "addr", "show", TUN), ruleset(node1)
    node1.stop()
    assert node1.process.returncode == 0
    log_has(node1, "stopped; pods keep their network")
    assert ip_json(node1, "addr", "show", TUN)[0]["ifindex"] == link["ifindex"]
    assert ruleset(node1) == rules
    assert node1.subnet_file.exists()
    assert "no node runs" in complaint(udplane(node1.node.netns, *node1.command("status")[1:]))
    again = restart(overlay, 0)
    assert again.lease()[0] == subnets
    assert ip_json(again, "addr", "show", TUN)[0]["ifindex"] == link["ifindex"]
    wait_until(lambda: pods_reach_each_other(overlay), "pods reach each other")


def test_a_killed_node_comes_back_to_what_it_had(overlay: Overlay) -> None:
    node = overlay.daemons[0]
    subnets, _ = node.lease()
    node.process.send_signal(signal.SIGKILL)
    node.process.wait()
    assert restart(overlay, 0).lease()[0] == subnets
    wait_until(lambda: pods_reach_each_other(overlay), "pods reach each other")


def test_a_second_node_is_refused(overlay: Overlay, tmp_path: Path) -> None:
    node = overlay.daemons[0]

    def second(run_dir: Path, *flags: str) -> str:
        files = ["--run-dir", str(run_dir), "--subnet-file", str(tmp_path / "subnet.env")]
        return complaint(udplane(node.node.netns, "up", "--store", overlay.store, "--engine", "python", *files, *flags))

    assert "a node runs already with" in second(node.directory / "run")
    assert f"uses the device {TUN} in this network namespace" in second(tmp_path / "run")
    assert "UDP port 8285 of 192.168.0.201 is in use" in second(tmp_path / "run", "--tun", "other0")
    assert pods_reach_each_other(overlay)


def test_status_answers_from_another_namespace_and_curl(node1: Daemon) -> None:
    """The control socket is a file, so it does not matter where one asks from."""
    run_dir = node1.directory / "run"
    command = ["curl", "-sS", "--unix-socket", "control.sock", "http://udplane/v1/status"]
    done = subprocess.run(command, cwd=run_dir, capture_output=True, check=True)
    assert json.loads(done.stdout)["pid"] == node1.process.pid
