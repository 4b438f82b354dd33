"""What a node set up on its host is broken, thing by thing, from the node's own list of it; the node mends it.

    pod1 -- cni0 node1 --- underlay --- node2 cni0 -- pod2      10.254.x.0/24, fd00:10:254:x::/64 by lease

A thing that is added to the list without a way to break it here fails the test that compares the two.
"""

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from dataplane.lab.overlay import NETWORK_CONFIG, Daemon, Overlay
from dataplane.lab.ping import ping
from dataplane.lab.topology import Lab
from tests.node.conftest import curl
from tests.waiting import wait_until

RESYNC_SECONDS = 1
BACKENDS = ("udp", "vxlan", "host-gw")


@pytest.fixture(scope="module", params=BACKENDS)
def overlay(
    request: pytest.FixtureRequest, namespaces: None, tun_device: None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Overlay]:
    flags = [f"--iptables-resync={RESYNC_SECONDS}"]
    with Lab() as lab, Overlay(lab, tmp_path_factory.mktemp("overlay"), flags=flags) as overlay:
        config = NETWORK_CONFIG | {"Backend": {"Type": request.param}}
        (overlay.directory / "net-conf.json").write_text(json.dumps(config))
        for _ in range(2):
            lab.add_node()
        overlay.up(pods_per_node=1)
        wait_until(lambda: pods_reach_each_other(overlay), "the pods reach each other")
        yield overlay


def pods_reach_each_other(overlay: Overlay) -> bool:
    source, target = (daemon.node.pods[0] for daemon in overlay.daemons)
    return all(
        answer is not None and answer.echoed
        for version in (4, 6)
        for answer in ping(source.netns, target.address(version), timeout=0.2)
    )


def sh(daemon: Daemon, command: str) -> None:
    daemon.node.netns.run(["sh", "-ec", command])


def device_of(what: str) -> str:
    """The device in a wish's name."""
    match = re.search(r"(udplane0|flannel\.1|flannel-v6\.1)", what)
    assert match, what
    return match.group(1)


def break_parameter(daemon: Daemon, what: str) -> None:
    path = f"/proc/sys/{what}"
    value = daemon.node.netns.run(["cat", path]).stdout.strip()
    sh(daemon, f"echo {1 if value == '0' else 0} > {path}")


def remove_ways(daemon: Daemon, _what: str) -> None:
    sh(
        daemon,
        "for f in -4 -6; do for r in $(ip $f route show proto 85 | cut -d' ' -f1); do ip $f route del $r; done; done",
    )


BREAK: dict[str, Callable[[Daemon, str], Any]] = {
    r"the pod network .*": lambda daemon, _: sh(daemon, "ip addr add 10.254.77.1/24 dev eth0"),
    r"the TUN .*": lambda daemon, what: sh(daemon, f"ip link del {device_of(what)}"),
    r"the vxlan device .*": lambda daemon, what: sh(daemon, f"ip link del {device_of(what)}"),
    r"the MTU of .*": lambda daemon, what: sh(daemon, f"ip link set {device_of(what)} mtu 1000"),
    r"net/.*": break_parameter,
    r"the device .*": lambda daemon, what: sh(daemon, f"ip link set {device_of(what)} down"),
    r"the address of .*": lambda daemon, what: sh(daemon, f"ip addr flush dev {device_of(what)}"),
    r"the way into .*": lambda daemon, what: sh(
        daemon, f"for f in -4 -6; do ip $f route flush dev {device_of(what)}; done"
    ),
    r"the ways to peers": remove_ways,
    r"the way to each peer .*": lambda daemon, _: sh(
        daemon, "ip route add 10.254.0.0/17 via 192.168.0.1; ip route add 10.254.128.0/17 via 192.168.0.1"
    ),
    r"the firewall rules .*": lambda daemon, _: sh(daemon, "nft flush ruleset"),
    r"the subnet file .*": lambda daemon, _: daemon.subnet_file.unlink(),
    r"the note .*": lambda daemon, _: (daemon.directory / "run" / "node.json").unlink(),
    r"the control socket .*": lambda daemon, _: (daemon.directory / "run" / "control.sock").unlink(),
}
"""How each kind of thing is broken, by its name in the list."""

HARMLESS = re.compile(
    r"the note|the control socket|the subnet file|the firewall rules|.*(accept_local|rp_filter|addr_gen)"
)
"""What running pods do not notice at once."""


def breaker(what: str) -> Callable[[Daemon, str], Any]:
    ways = [way for pattern, way in BREAK.items() if re.fullmatch(pattern, what)]
    assert len(ways) == 1, f"say in BREAK how {what!r} is broken"
    return ways[0]


def wishes(daemon: Daemon) -> list[str]:
    names: list[str] = daemon.status()["host"]["wishes"]
    return names


def put_back(daemon: Daemon, what: str) -> int:
    counts: dict[str, int] = daemon.status()["host"]["put_back"]
    return counts.get(what, 0)


def log_lines(daemon: Daemon) -> list[str]:
    return [line for line in daemon.log.read_text().splitlines() if "somebody changed the host" in line]


def test_everything_that_was_set_up_comes_back(overlay: Overlay) -> None:
    node = overlay.daemons[0]
    for what in wishes(node):
        lines, before = len(log_lines(node)), put_back(node, what)
        breaker(what)(node, what)
        if what.startswith("the way to each peer"):
            wait_until(lambda: "leave by eth0" in "".join(health(node)[1]["troubles"]), "what leads elsewhere is named")
            sh(node, "ip route del 10.254.0.0/17; ip route del 10.254.128.0/17")
            wait_until(lambda: health(node)[0] == 200, "it is gone")
            continue
        if what.startswith("the pod network"):
            wait_until(lambda: health(node)[0] == 503, "a LAN inside of the pod network is seen")
            sh(node, "ip addr del 10.254.77.1/24 dev eth0")
            wait_until(lambda: health(node)[0] == 200, "it is gone")
            continue
        wait_until(lambda: answers(node) and put_back(node, what) > before, f"{what} is put back")  # noqa: B023
        wait_until(lambda: pods_reach_each_other(overlay), f"traffic is back after {what}")
        wait_until(lambda: not differences(node), f"all is well after {what}")
        assert len(log_lines(node)) <= lines + 2, f"a line for {what}"
        assert health(node)[0] == 200


def answers(daemon: Daemon) -> bool:
    return daemon.node.netns.run(daemon.command("status", "--json"), check=False).returncode == 0


def differences(daemon: Daemon) -> dict[str, str]:
    found: dict[str, str] = ask(daemon, "/v1/host")[1]["differences"]
    return {what: text for what, text in found.items() if text}


def health(daemon: Daemon) -> tuple[int, Any]:
    return ask(daemon, "/healthz")


def ask(daemon: Daemon, path: str) -> tuple[int, Any]:
    body, _, status = curl(daemon, path, "-w", "\n%{http_code}").rpartition("\n")
    return int(status), json.loads(body)


def test_a_second_reader_of_the_tun_is_named(overlay: Overlay) -> None:
    """It has what a part of the pods send; only somebody with CAP_NET_ADMIN can do it."""
    node = overlay.daemons[0]
    if node.status()["backend"]["type"] != "udp":
        pytest.skip("only the udp backend has a TUN")
    program = "from dataplane.forwarding.tun import TunDevice\ndevice = TunDevice.open('udplane0', vnet_header=True)\n"
    program += "import sys; print(1, flush=True); sys.stdin.read()"
    command = node.node.netns.command([sys.executable, "-I", "-c", program])
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as second:
        assert second.stdout and second.stdin
        assert second.stdout.readline() == b"1\n"
        wait_until(lambda: health(node)[0] == 503, "the health check fails")
        assert "reads packets of udplane0, too; end it" in health(node)[1]["troubles"][0]
        second.stdin.close()
    wait_until(lambda: health(node)[0] == 200, "the health check is well")
    wait_until(lambda: pods_reach_each_other(overlay), "traffic is back")


def test_a_renamed_device_is_made_anew(overlay: Overlay) -> None:
    node = overlay.daemons[0]
    device = node.status()["backend"]["device"]
    if device is None:
        pytest.skip("host-gw has no device of its own")
    sh(node, f"ip link set {device} down; ip link set {device} name renamed0; ip link set renamed0 up")
    wait_until(lambda: health(node)[0] == 200 and not differences(node), "all is well")
    wait_until(lambda: pods_reach_each_other(overlay), "traffic is back")
    assert "renamed0" not in node.node.netns.run(["ip", "-brief", "link"]).stdout
