"""The dhcp plugin and its daemon against a real server, dnsmasq (the topology is drawn in dhcp_lan)."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from cni.dhcp import PLUGIN
from cni.lib.skel import run
from tests.cni.dhcp_lan import OFFICIAL_PLUGIN, Lan, wait_until
from tests.cni.world.world import GO_PLUGINS, REMEDIES

pytestmark = pytest.mark.usefixtures("namespaces")

RANGE = "--dhcp-range=10.9.0.10,10.9.0.99,2m"
OTHER_RANGE = "--dhcp-range=10.9.0.100,10.9.0.199,2m"
QUICK_RENEWAL = ("--dhcp-option=option:T1,1", "--dhcp-option=option:T2,3")  # T1 after 1 s, T2 after 3 s


@pytest.fixture
def lan(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Lan]:
    """A host with two pods, or with as many as the test's parameter says."""
    if shutil.which("dnsmasq") is None:
        pytest.skip("needs dnsmasq: apt-get install dnsmasq-base")
    if Path("/proc/self/setgroups").read_text().strip() == "deny":
        pytest.skip("needs a dnsmasq that may change its groups, which a user namespace forbids: run as root")
    network = Lan(tmp_path, getattr(request, "param", 2))
    try:
        yield network
    finally:
        network.close()


@pytest.fixture
def official() -> None:
    if not os.access(OFFICIAL_PLUGIN, os.X_OK):
        pytest.skip(f"needs the official plugins in {GO_PLUGINS}: {REMEDIES[GO_PLUGINS]}")


def test_add_and_del(lan: Lan) -> None:
    lan.start_server(RANGE)
    lan.start_daemon()
    result = lan.add(0)
    address = result["ips"][0]["address"]
    assert lan.server_leases() == {"c0/lan/eth0": address.removesuffix("/24")}
    assert result == {
        "cniVersion": "1.0.0",
        "ips": [{"address": address, "gateway": "10.9.0.1"}],
        "routes": [{"dst": "0.0.0.0/0", "gw": "10.9.0.1"}],
    }
    assert lan.call("CHECK", 0, conf={"prevResult": result}).stdout == ""
    assert lan.call("DEL", 0).returncode == 0
    wait_until(lambda: lan.server_leases() == {}, "the server to see the release")
    assert lan.call("DEL", 0).returncode == 0


@pytest.mark.parametrize("lan", [50], indirect=True)
def test_fifty_pods_at_once(lan: Lan) -> None:
    lan.start_server(RANGE)
    daemon = lan.start_daemon()
    stdin = json.dumps(lan.conf()).encode()

    def call(verb: str, pod: int) -> dict[str, list[dict[str, str]]]:
        outcome = run(PLUGIN, lan.environment(verb, pod), lambda: stdin)
        assert outcome.status == 0, outcome.output
        result: dict[str, list[dict[str, str]]] = json.loads(outcome.output or "{}")
        return result

    with ThreadPoolExecutor(50) as pool:
        results = list(pool.map(lambda pod: call("ADD", pod), range(50)))
        addresses = {result["ips"][0]["address"].removesuffix("/24") for result in results}
        assert len(addresses) == 50
        assert set(lan.server_leases().values()) == addresses
        assert len(list(Path(f"/proc/{daemon.pid}/task").iterdir())) == 1, "one thread serves all"
        list(pool.map(lambda pod: call("DEL", pod), range(50)))
    wait_until(lambda: lan.server_leases() == {}, "the server to see every release")


def test_short_leases_are_renewed(lan: Lan) -> None:
    lan.start_server(RANGE, *QUICK_RENEWAL)
    lan.start_daemon()
    address = lan.add(0)["ips"][0]["address"]
    discovers = lan.server_count("DHCPDISCOVER")
    wait_until(lambda: lan.server_count("DHCPACK") >= 3, "two renewals")
    assert lan.server_count("DHCPDISCOVER") == discovers
    assert lan.addresses(0) == [address]


def test_server_is_away_for_a_while(lan: Lan) -> None:
    server = lan.start_server(RANGE, *QUICK_RENEWAL)
    lan.start_daemon()
    address = lan.add(0)["ips"][0]["address"]
    lan.end(server)
    lan.start_server(RANGE, *QUICK_RENEWAL)
    acks = lan.server_count("DHCPACK")
    wait_until(lambda: lan.server_count("DHCPACK") > acks, "a renewal by the server that came back")
    assert lan.addresses(0) == [address]


def test_server_changes_its_mind(lan: Lan) -> None:
    """A server that refuses the address (DHCPNAK) gets its way: the pod's interface carries the new one."""
    server = lan.start_server(RANGE, "--dhcp-authoritative", *QUICK_RENEWAL)
    lan.start_daemon()
    former = lan.add(0)["ips"][0]["address"]
    lan.end(server)
    lan.leases_file.unlink()
    lan.start_server(OTHER_RANGE, "--dhcp-authoritative", *QUICK_RENEWAL)
    wait_until(lambda: lan.addresses(0) not in ([], [former]), "the new address")
    assert lan.server_count("DHCPNAK") >= 1
    assert lan.addresses(0) == [f"{address}/24" for address in lan.server_leases().values()]
    routes = subprocess.run(["ip", "-n", lan.pods[0], "route"], capture_output=True, text=True, check=True).stdout
    assert "default via 10.9.0.1" in routes
    assert lan.call("CHECK", 0).returncode == 0
    lan.call("DEL", 0)
    wait_until(lambda: lan.server_leases() == {}, "the release of the new lease")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_daemon_is_restarted_with_leases_held(lan: Lan, number: signal.Signals) -> None:
    lan.start_server(RANGE, *QUICK_RENEWAL)
    daemon = lan.start_daemon()
    result = lan.add(0)
    lan.end(daemon, number)
    acks, discovers = lan.server_count("DHCPACK"), lan.server_count("DHCPDISCOVER")
    lan.start_daemon()
    assert lan.call("CHECK", 0, conf={"prevResult": result}).stdout == ""
    wait_until(lambda: lan.server_count("DHCPACK") > acks, "the next daemon to renew the lease")
    assert lan.server_count("DHCPDISCOVER") == discovers  # a slow server was perhaps asked twice before
    assert lan.call("DEL", 0).returncode == 0
    wait_until(lambda: lan.server_leases() == {}, "the next daemon to release the lease")


def test_second_daemon_is_refused(lan: Lan) -> None:
    lan.start_daemon()
    second = lan.run_daemon()
    assert second.returncode == 1
    problem = f"another DHCP daemon is listening on {lan.socket_path}"
    assert second.stderr.splitlines() == [f"dhcp daemon: {problem}; stop it first, or choose another -socketpath"]


def test_release_when_the_interface_is_gone_already(lan: Lan) -> None:
    """The bridge plugin deletes the interface before it calls the IPAM plugin's DEL."""
    lan.start_server(RANGE)
    lan.start_daemon()
    lan.add(0)
    subprocess.run(["ip", "-n", lan.pods[0], "link", "del", "eth0"], check=True)
    assert lan.call("DEL", 0).returncode == 0
    wait_until(lambda: lan.server_leases() == {}, "the server to see the release")


@pytest.mark.parametrize("kind", ["veth", "macvlan"])
def test_release_to_a_server_that_only_the_pods_reach(lan: Lan, kind: str) -> None:
    """The host has no address there, so the release leaves as a frame on the bridge, or on the macvlan's master."""
    lan.start_server(RANGE, netns=lan.move_server_to_pod(1))
    lan.start_daemon()
    if kind == "macvlan":
        lan.ip("link del p0", f"link add link br0 name eth0 netns {lan.pods[0]} type macvlan mode bridge")
    lan.add(0)
    assert list(lan.server_leases()) == ["c0/lan/eth0"]
    lan.ip("link del eth0", netns=lan.pods[0])
    assert lan.call("DEL", 0).returncode == 0
    wait_until(lambda: lan.server_leases() == {}, "the server to see the release")


def test_behind_the_bridge_plugin(lan: Lan, plugin_dir: Path) -> None:
    """The whole chain as a runtime runs it: bridge, which asks dhcp, which asks the daemon."""
    lan.start_server(RANGE)
    lan.start_daemon()
    lan.ip("link del p0")
    conf = json.dumps({**lan.conf(), "bridge": "br0"})

    def bridge(verb: str) -> subprocess.CompletedProcess[str]:
        environment = {**lan.environment(verb, 0), "CNI_PATH": str(plugin_dir)}
        argv = ["nsenter", f"--net=/run/netns/{lan.host}", str(plugin_dir / "bridge")]
        return subprocess.run(argv, input=conf, env=environment, capture_output=True, text=True, timeout=60)

    result = json.loads(bridge("ADD").stdout)
    assert lan.addresses(0) == [result["ips"][0]["address"]]
    assert lan.server_leases() == {"c0/lan/eth0": result["ips"][0]["address"].removesuffix("/24")}
    assert bridge("DEL").returncode == 0
    wait_until(lambda: lan.server_leases() == {}, "the server to see the release")
    assert bridge("DEL").returncode == 0


def test_plugin_that_is_killed_leaves_no_lease(lan: Lan) -> None:
    """Its connection ends before the daemon has an answer, so nobody would ever use or release the lease."""
    lan.start_daemon()
    waiting = lan.start_call("ADD", 0)
    wait_until(lambda: "acquiring lease" in lan.log("daemon"), "the call to reach the daemon")
    lan.end(waiting, signal.SIGKILL)
    lan.start_server(RANGE)
    lan.add(1)
    assert list(lan.server_leases()) == ["c1/lan/eth0"]


def test_daemon_survives_nonsense(lan: Lan) -> None:
    lan.start_server(RANGE)
    lan.start_daemon()
    for nonsense in (b"", b"GET / HTTP/1.0\n\n", b"CONNECT /_goRPC_ HTTP/1.0\n\n\xf8\xff\xff", b"x" * 10_000):
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(lan.socket_path)
            connection.sendall(nonsense)
            connection.shutdown(socket.SHUT_WR)
            connection.settimeout(5)
            while connection.recv(1000):
                pass
    assert lan.add(0)["ips"]


SHORT_LEASES = """
import socket
from dataclasses import replace
from cni.dhcp.message import Kind, Option, decode

server, address, mask = (socket.inet_aton(text) for text in ("10.9.0.1", "10.9.0.77", "255.255.255.0"))
options = {Option.SERVER_ID: server, Option.LEASE_TIME: bytes([0, 0, 0, 2]), Option.SUBNET_MASK: mask}
options[Option.ROUTER] = server
answers = {Kind.DISCOVER: Kind.OFFER, Kind.REQUEST: Kind.ACK}
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as endpoint:
    endpoint.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
    endpoint.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"br0")
    endpoint.bind(("", 67))
    print("ready", flush=True)
    while True:
        message = decode(endpoint.recv(2000))
        if message.kind in answers:
            answer = replace(message, op=2, kind=answers[message.kind], yiaddr=address, options=options)
            endpoint.sendto(answer.encode(), ("255.255.255.255", 68))
            print(answer.kind.name, flush=True)
"""


def test_lease_that_expires_and_comes_back(lan: Lan) -> None:
    """dnsmasq's shortest lease is two minutes; this server's is two seconds."""

    def start_server() -> subprocess.Popen[bytes]:
        n_before = lan.log("short").count("ready")
        process = lan.start([sys.executable, "-I", "-c", SHORT_LEASES], "short")
        wait_until(lambda: lan.log("short").count("ready") > n_before, "the server")
        return process

    server = start_server()
    lan.start_daemon()
    lan.add(0)
    assert lan.addresses(0) == ["10.9.0.77/24"]
    wait_until(lambda: lan.log("short").count("ACK") >= 2, "a renewal")
    lan.end(server)
    wait_until(lambda: lan.addresses(0) == [], "the address to be taken away")
    start_server()
    wait_until(lambda: lan.addresses(0) == ["10.9.0.77/24"], "the address to come back")
    lan.call("DEL", 0)


def test_del_while_the_daemon_is_away(lan: Lan) -> None:
    lan.start_server(RANGE)
    daemon = lan.start_daemon()
    lan.add(0)
    lan.add(1)
    lan.end(daemon, signal.SIGKILL)
    for _ in range(2):
        assert lan.call("DEL", 0).returncode == 0
    wait_until(lambda: list(lan.server_leases()) == ["c1/lan/eth0"], "the server to see the release")
    lan.start_daemon()
    assert "c1/lan/eth0: lease resumed" in lan.log("daemon")
    assert "c0/lan/eth0: lease resumed" not in lan.log("daemon")


def test_pod_that_vanishes_gives_its_lease_back(lan: Lan) -> None:
    lan.start_server(RANGE, *QUICK_RENEWAL)
    lan.start_daemon()
    lan.add(0)
    subprocess.run(["ip", "-n", lan.pods[0], "link", "del", "eth0"], check=True)
    wait_until(lambda: lan.server_leases() == {}, "the daemon to notice and release")


def test_gc_releases_what_the_runtime_does_not_list(lan: Lan) -> None:
    lan.start_server(RANGE)
    lan.start_daemon()
    lan.add(0)
    lan.add(1)
    valid = [{"containerID": "c1", "ifname": "eth0"}]
    done = lan.call("GC", 0, conf={"cniVersion": "1.1.0", "cni.dev/valid-attachments": valid})
    assert done.returncode == 0, done.stdout
    wait_until(lambda: set(lan.server_leases()) == {"c1/lan/eth0"}, "the stale lease's release")


def test_status_tells_whether_the_daemon_listens(lan: Lan) -> None:
    missing = lan.call("STATUS", 0, conf={"cniVersion": "1.1.0"})
    assert (missing.returncode, json.loads(missing.stdout)["code"]) == (1, 50)
    lan.start_daemon()
    assert lan.call("STATUS", 0, conf={"cniVersion": "1.1.0"}).returncode == 0


def test_no_server(lan: Lan) -> None:
    lan.start_daemon("-resendtimeout", "300ms")
    done = lan.call("ADD", 0)
    assert (done.returncode, json.loads(done.stdout)) == (
        1,
        {"code": 999, "msg": "error calling DHCP.Allocate: no more tries"},
    )


def test_options_are_provided_and_requested(lan: Lan) -> None:
    lan.start_server(RANGE, "--dhcp-option=121,10.50.0.0/16,10.9.0.2")
    lan.start_daemon()
    conf = {"provide": [{"option": "host-name", "fromArg": "K8S_POD_NAME"}], "request": [{"option": "121"}]}
    result = lan.add(0, conf=conf, args="IgnoreUnknown=1;K8S_POD_NAME=web-0")
    assert result["routes"] == [{"dst": "10.50.0.0/16", "gw": "10.9.0.2"}]
    assert " web-0 " in lan.leases_file.read_text()
    refused = lan.call("ADD", 1, conf={"request": [{"option": "nonsense"}]})
    assert "Can not parse option" in json.loads(refused.stdout)["msg"]


@pytest.mark.parametrize("our_daemon", [True, False])
def test_official_counterpart(lan: Lan, official: None, our_daemon: bool) -> None:
    """The official plugin with our daemon, and our plugin with the official daemon."""
    lan.start_server(RANGE)
    lan.start_daemon(official=not our_daemon)
    result = lan.add(0, official=our_daemon)
    assert result["ips"][0]["gateway"] == "10.9.0.1"
    assert list(lan.server_leases()) == ["c0/lan/eth0"]
    missing = lan.call("ADD", 1, official=our_daemon, conf={"provide": [{"option": "nonsense", "value": "x"}]})
    assert "Can not parse option" in json.loads(missing.stdout)["msg"]
    assert lan.call("DEL", 0, official=our_daemon).returncode == 0
    if our_daemon:  # the official one forgets the lease and does not tell the server
        wait_until(lambda: lan.server_leases() == {}, "the release")
