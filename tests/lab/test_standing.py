"""A lab that stands, used as a user does: every verb is a process of its own.

pod1 pod2 -- node1 (native) --+-- wire "underlay" --+-- node2 (python) -- pod3 pod4
                              stranger              +-- node3, without udplane: pod5, and pod6 that hangs on nothing
"""

import contextlib
import json
import os
import pty
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from dataplane.lab.state import INSIDE
from dataplane.lab.view import LabView
from tests.lab.labs import Labs, labs
from tests.waiting import wait_until

TOPOLOGY = """
[nodes.node1]
pods = ["pod1", "pod2"]
[nodes.node2]
pods = ["pod3", "pod4"]
engine = "python"
subnet = "10.254.77.0/24"
flags = ["--icmp-rate", "77"]
[nodes.node3]
udplane = false
pods = ["pod5", "pod6"]
[pods.pod6]
wired = false
[hosts.stranger]
address = "192.168.0.66"
[[broken]]
where = "node3"
what = "command"
run = "ip link add broken0 type bridge"
"""

PING = "from dataplane.lab.ping import ping; from dataplane.lab.netns import Namespace; import sys, ipaddress, socket; "
PING += "target = ipaddress.ip_address(socket.getaddrinfo(sys.argv[2], None)[0][4][0]); "
PING += "print([reply and reply.echoed and reply.ttl for reply in ping(Namespace(sys.argv[1]), target)])"


@pytest.fixture(scope="module")
def standing(tun_device: None) -> Iterator[Labs]:
    with labs() as found:
        found.run("up", found.topology(TOPOLOGY))
        yield found


@pytest.fixture(scope="module")
def view(standing: Labs) -> LabView:
    return LabView.read(standing.directory / "default")


def pinged(lab: Labs, source: str, target: str) -> str:
    return lab.run("exec", source, sys.executable, "-I", "-c", PING, source, target).stdout.strip()


@pytest.mark.parametrize("target", ["pod3", "pod4"])
def test_pods_reach_each_other_by_name(standing: Labs, target: str) -> None:
    assert pinged(standing, "pod1", target) == "[60]"


def test_nodes_hosts_and_pods_without_udplane_are_reached(standing: Labs) -> None:
    assert pinged(standing, "node1", "stranger") == "[64]"
    assert pinged(standing, "pod5", "node3") == "[64]"


def test_the_document_tells_what_stands(standing: Labs, view: LabView) -> None:
    assert [place.name for place in view.nodes] == ["node1", "node2", "node3"]
    assert view.node("node2").subnets[0] == "10.254.77.0/24"
    assert (view.node("node2").engine, view.node("node3").backend) == ("python", "")
    assert str(view.find("stranger").address(4)) == "192.168.0.66"
    assert [pod.host_device for pod in view.pods] == [*(f"veth-pod{n}" for n in range(1, 6)), ""]
    names = standing.run("exec", "node1", "ip", "-brief", "link").stdout
    assert all(name in names for name in ("veth-pod1", "veth-pod2", view.node("node1").tunnel, "cni0"))
    assert view.segments[0].ports["node2"] in standing.run("exec", "underlay", "ip", "-brief", "link").stdout


def test_status_shows_the_same(standing: Labs, view: LabView) -> None:
    document = json.loads(standing.run("status", "--json").stdout)
    assert document["nodes"] == {"node1": "ready", "node2": "ready", "node3": "without udplane"}
    assert [pod["name"] for pod in document["lab"]["pods"]] == [pod.name for pod in view.pods]
    text = standing.run("status").stdout
    assert all(place.name in text for place in view.places())
    assert "not connected" in text


def test_what_is_broken_on_purpose_is_broken(standing: Labs) -> None:
    assert "broken0" in standing.run("exec", "node3", "ip", "link").stdout


def test_flags_reach_the_node(standing: Labs) -> None:
    assert "--icmp-rate 77" in (standing.directory / "default/node2/up").read_text()


def test_a_command_has_its_own_status_arguments_and_directory(standing: Labs, tmp_path: Path) -> None:
    assert standing.run("exec", "pod1", "sh", "-c", "exit 7", status=None).returncode == 7
    assert standing.run("exec", "pod1", "printf", "%s|", "-n", "--lab", "a  b").stdout == "-n|--lab|a  b|"
    assert standing.run("exec", "pod1", "--", "pwd").stdout.strip() == str(Path.cwd())
    assert standing.run("exec", "pod1", "cat", stdin="read me").stdout == "read me"


def test_on_a_node_commands_ask_that_node(standing: Labs, view: LabView) -> None:
    status = json.loads(standing.run("exec", "node2", "udplane", "status", "--json").stdout)
    assert status["lease"]["subnets"] == list(view.node("node2").subnets)


def test_an_unknown_name_is_unknown_at_once(standing: Labs) -> None:
    ask = "import socket\ntry: socket.getaddrinfo('no-such-name.example', 80)\nexcept OSError: print('unknown')"
    assert standing.run("exec", "pod1", sys.executable, "-I", "-c", ask).stdout == "unknown\n"


def test_processes_have_a_namespace_of_their_own(standing: Labs) -> None:
    shown = standing.run("exec", "pod1", "cat", "/proc/1/cmdline").stdout
    if json.loads((standing.directory / "default/keeper.json").read_bytes())["pids"]:
        assert "keeper_init" in shown


def test_verbs_work_inside_too(standing: Labs) -> None:
    inside = "udplane lab exec node2 ip -brief link; udplane lab status; udplane lab down"
    done = standing.run("exec", "pod1", "sh", "-c", inside, status=None)
    assert "veth-pod3" in done.stdout
    assert "topology mine" in done.stdout
    assert "leave it first" in done.stderr


def test_a_shell_says_where_it_is(standing: Labs) -> None:
    main, far = pty.openpty()
    shell = subprocess.Popen(
        standing.command("shell", "node1"), env=standing.environment, stdin=far, stdout=far, stderr=far
    )
    os.close(far)
    os.set_blocking(main, False)
    seen = b""

    def shown(text: bytes) -> bool:
        nonlocal seen
        with contextlib.suppress(BlockingIOError):
            seen += os.read(main, 65536)
        return text in seen

    try:
        wait_until(lambda: shown(b"node1"), "the prompt")
        os.write(main, b"echo $((6 * 7))-; ip -brief link show cni0\n")
        wait_until(lambda: shown(b"42-") and shown(b"cni0"), "the answer")
        os.write(main, b"exit 3\n")
        assert shell.wait(10) == 3
    finally:
        shell.kill()
        os.close(main)


def test_a_command_ends_with_whoever_called_it(standing: Labs) -> None:
    def running() -> bool:
        return b"sleep\x001234\0" in standing.command_lines()

    sleeper = standing.start("exec", "pod1", "sleep", "1234")
    wait_until(running, "the sleeper to be inside")
    sleeper.terminate()
    sleeper.communicate(timeout=30)
    wait_until(lambda: not running(), "it to end")


def test_a_shell_reads_a_script(standing: Labs) -> None:
    assert standing.run("shell", "pod1", stdin="echo in $UDPLANE_LAB_INSIDE\n").stdout == "in default\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["exec", "pod9", "true"], "nothing in this lab is called 'pod9'; there are node1"),
        (["exec", "pod1"], "which command"),
        (["exec", "--lab", "other", "pod1", "true"], "no lab called other stands; there are default"),
        (["exec", "--lab", "A/B", "pod1", "true"], "'A/B' is no name for a lab"),
        (["shell", "nowhere"], "nothing in this lab is called 'nowhere'"),
        (["up"], "lab default stands already"),
        (["up", "no-such-topology", "--lab", "x"], "there is no topology no-such-topology"),
        (["up", "--lab", "x", "--seed", "many"], "invalid int value"),
        (["down", "--lab", "x"], "no lab called x stands"),
        (["down", "--all", "--lab", "x"], "leave one out"),
        (["walk", "pod1", "pod1"], "is pod1 itself"),
        (["walk", "pod1", "127.0.0.9"], "is pod1 itself"),
        (["walk", "pod1", "224.0.0.1"], "many receivers"),
        (["walk", "pod1", "255.255.255.255"], "many receivers"),
        (["capture", "pod1"], "into which file"),
        (["capture", "pod1", "eth7", "-w", "/dev/null"], "pod1 has no device eth7 that is up; there are eth0"),
        (["inject", "pod1", "1 + 1"], "is no packet but int: 2"),
        (["inject", "pod1", "IP(", "--count", "2"], "cannot be read at character"),
        (["inject", "pod1", "IPP()"], "did you mean IP?"),
        (["inject", "pod1", "IP(dst='nowhere')/UDP()"], "names are those of `udplane lab status`"),
        (["inject", "pod1", "IP(dst=pod3)/UDP()/('x' * 70000)"], "too large"),
        (["inject", "pod1", "IP(dst=pod3)/UDP()/('x' * 9000)"], "longer than the MTU"),
        (["inject", "pod1", "1/0"], "ZeroDivisionError"),
        (["inject", "pod1", "Raw('x')"], "--to PLACE"),
        (["inject", "pod1", "IP(dst=pod3)", "--device", "eth0"], "start with Ethernet"),
        (["inject", "pod1", "Ether()/IP(dst=pod3)", "--device", "eth9"], "no such device"),
        (["inject", "pod1", "IP(dst='0.0.0.0/0')/UDP()"], "more than 256 packets"),
        (["inject", "pod1", "IP()", "--to", "node1:99999"], "write a place or an address"),
        (["inject", "pod1", "IP()", "--count", "0"], "no number from 1 to 1000"),
    ],
)
def test_what_cannot_be_is_one_line(standing: Labs, arguments: list[str], message: str) -> None:
    done = standing.run(*arguments, status=None)
    assert done.returncode in (1, 2)
    assert message in done.stderr
    assert arguments[0] == "up" or done.stderr.count("\n") == 1 or "usage:" in done.stderr


def moved(text: str) -> dict[tuple[str, str, str], int]:
    """Which counters moved, as inject prints them."""
    found = re.findall(r"^  (\S+) +(encap|decap|event) +\+(\d+) .*\((\w+)\)$", text, re.MULTILINE)
    return {(node, direction, name): int(by) for node, direction, by, name in found}


def test_an_expression_is_sent_and_its_fate_told(standing: Labs) -> None:
    text = standing.run("inject", "pod1", 'IP(dst="pod4")/UDP(dport=9)/"hello"').stdout
    assert "33 bytes" in text
    assert moved(text)["node1", "encap", "forwarded"] >= 1
    assert moved(text)["node2", "decap", "forwarded"] >= 1


def test_ipv6_goes_the_same_way(standing: Labs) -> None:
    fate = moved(standing.run("inject", "pod1", 'IPv6(dst="pod4")/ICMPv6EchoRequest()').stdout)
    assert fate["node2", "decap", "forwarded"] >= 1


def test_a_ttl_that_runs_out_is_told(standing: Labs) -> None:
    fate = moved(standing.run("inject", "pod1", "IP(dst=pod4, ttl=2)/ICMP()", "--count", "3").stdout)
    assert fate["node1", "encap", "ttl_exceeded"] == 3


@pytest.mark.parametrize(
    ("where", "way"),
    [("node1", ["--device", "udplane0"]), ("node1", ["--to", "node2"]), ("stranger", ["--to", "node2:8285"])],
)
def test_a_forged_source_is_told_by_who_stops_it(standing: Labs, where: str, way: list[str]) -> None:
    text = standing.run("inject", where, 'IP(src="10.254.9.9", dst=pod4)/UDP()/"x"', *way).stdout
    reason = "unknown_sender" if where == "stranger" else "foreign_source"
    assert moved(text)["node2", "decap", reason] == 1


def test_a_frame_leaves_as_it_is(standing: Labs) -> None:
    text = standing.run("inject", "pod1", 'Ether(dst="ff:ff:ff:ff:ff:ff")/ARP(pdst="10.254.1.1")').stdout
    assert "no counter of a node moved" in text


def test_a_capture_holds_every_device_of_a_place(standing: Labs, tmp_path: Path) -> None:
    file = tmp_path / "node1.pcapng"
    capture = standing.start("capture", "node1", "-w", str(file))
    assert capture.stderr is not None
    assert "capturing eth0" in capture.stderr.readline()
    standing.run("inject", "pod1", 'IP(dst="pod4")/UDP(dport=9)/"hello"')
    standing.run("inject", "pod1", 'IPv6(dst="pod4")/UDP(dport=9)/"hello"')
    capture.terminate()
    _, errors = capture.communicate(timeout=30)
    assert re.search(r"captured [0-9]+ packets", errors)
    if not shutil.which("tshark"):
        pytest.skip("needs tshark")
    lines = [shlex.split(line) for line in standing.run("capture", "--lua").stdout.splitlines()]
    assert lines[-1] == ["wireshark", "-d", "udp.port==8285,ip", "FILE"]
    fields = ["-T", "fields", "-e", "frame.interface_name", "-e", "frame.protocols"]
    shown = subprocess.run(
        ["tshark", *lines[0][1:3], "-r", str(file), *fields],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "HOME": str(tmp_path), "LANG": "C.UTF-8"},
    ).stdout
    assert {line.split("\t")[0] for line in shown.splitlines()} >= {"eth0", "cni0", "udplane0", "veth-pod1"}
    assert "eth0\teth:ethertype:ip:udp:udplane:ip:udp" in shown


def test_list_names_it(standing: Labs) -> None:
    (lab,) = json.loads(standing.run("list", "--json").stdout)["labs"]
    assert (lab["name"], lab["topology"], lab["state"]) == ("default", "mine", "stands")
    assert "two-nodes" in standing.run("list").stdout


def test_a_node_that_was_killed_is_told_and_starts_again_by_its_command_line(standing: Labs) -> None:
    standing.run(
        "exec", "node2", "sh", "-c", "kill -9 $(udplane status --json | sed -n 's/.*\"pid\": \\([0-9]*\\).*/\\1/p')"
    )
    wait_until(
        lambda: json.loads(standing.run("status", "--json").stdout)["nodes"]["node2"] == "gone", "node2 to be gone"
    )
    standing.run("exec", "node2", "sh", "-c", 'setsid "$(dirname "$UDPLANE_RUN_DIR")/up" >/dev/null 2>&1 &')
    wait_until(
        lambda: json.loads(standing.run("status", "--json").stdout)["nodes"]["node2"] == "ready", "node2 to be back"
    )
    wait_until(lambda: pinged(standing, "pod1", "pod3") == "[60]", "pods to reach each other again")
    assert INSIDE not in os.environ


def test_a_transfer_tells_how_much_arrived_and_how_fast(standing: Labs, view: LabView) -> None:
    told = json.loads(standing.run("transfer", "pod1", "pod4", "--seconds", "0.2", "--json").stdout)
    assert (told["from"], told["to"]) == ("pod1", "pod4")
    assert told["bytes"] > 0 < told["gbits_per_second"]
    assert "pod1 → pod2" in standing.run("transfer", "pod1", "pod2", "--seconds", "0.1", "--family", "6").stdout
    assert "pod6 has no address" in standing.run("transfer", "pod1", "pod6", status=1).stderr
    assert "no number of seconds" in standing.run("transfer", "pod1", "pod2", "--seconds", "1e9", status=2).stderr
