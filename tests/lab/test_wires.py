"""Wires between nodes: slow and lossy ones, routers, NAT, and overlays of several backends side by side."""

import json
import random
import re
import sys
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import pytest

from dataplane.lab.impairment import LONGEST_QUEUE, Fate, netem_arguments
from dataplane.lab.topology_file import Host, Impairment, Node, Router, Segment, ready_made
from tests.lab.labs import Labs, labs
from tests.lab.test_standing import PING
from tests.waiting import wait_until

PACKETS = 5000


def departures(impairment: Impairment, n: int = PACKETS, size: int = 976, gap: float = 1.0) -> list[list[float]]:
    """When the copies of each of `n` packets leave, which come `gap` seconds apart."""
    fate = Fate(impairment, random.Random(7))
    return [list(fate.departures(number * gap, size)) for number in range(n)]


def test_a_wire_that_does_nothing_does_nothing() -> None:
    assert departures(Impairment(), 3) == [[0.0], [1.0], [2.0]]


def test_delay_is_for_every_packet() -> None:
    assert departures(Impairment(delay=0.25), 3) == [[0.25], [1.25], [2.25]]


def test_a_rate_spaces_packets_by_their_bits() -> None:
    times = [time for copies in departures(Impairment(rate=8000), 4, gap=0.0) for time in copies]
    assert times == pytest.approx([1.0, 2.0, 3.0, 4.0])


@pytest.mark.parametrize("share", [0.01, 0.2])
def test_loss_and_duplicates_have_their_share(share: float) -> None:
    lost = sum(not copies for copies in departures(Impairment(loss=share)))
    twice = sum(len(copies) == 2 for copies in departures(Impairment(duplicate=share)))
    assert lost == pytest.approx(share * PACKETS, rel=0.3)
    assert twice == pytest.approx(share * PACKETS, rel=0.3)


def test_some_overtake_where_packets_are_reordered() -> None:
    early = sum(
        copies[0] < number + 0.5 for number, copies in enumerate(departures(Impairment(delay=10, reorder=0.25)))
    )
    assert early == pytest.approx(0.25 * PACKETS, rel=0.2)


def test_the_same_seed_has_the_same_fate() -> None:
    impairment = Impairment(1e6, 0.1, 0.1, 0.1, 0.1)
    assert departures(impairment) == departures(impairment)


def test_netem_is_told_the_same() -> None:
    words = " ".join(netem_arguments(Impairment(2e6, 0.0205, 0.015, 0.02, 0.5)))
    queue = f"limit {LONGEST_QUEUE}"
    assert words == f"{queue} delay 20500us loss 1.5% duplicate 2% reorder 50% rate 2000000bit"


@pytest.fixture
def lab(tun_device: None) -> Iterator[Labs]:
    with labs() as found:
        yield found


def pinged(lab: Labs, source: str, target: str) -> str:
    return lab.run("exec", source, sys.executable, "-I", "-c", PING, source, target).stdout.strip()


RTT = PING.replace("reply and reply.echoed and reply.ttl", "reply and reply.rtt")


@pytest.mark.parametrize("impairment", ['delay = "40ms"', 'delay = "40ms"\nrate = "50mbit"\nduplicate = "100%"'])
def test_a_slow_wire_is_slow_in_both_directions(lab: Labs, impairment: str) -> None:
    lab.run("up", lab.topology(f"[segments.far]\n{impairment}\n"))
    shown = lab.run("exec", "pod1", sys.executable, "-I", "-c", RTT, "pod1", "pod3").stdout
    assert float(shown.strip("[]\n")) > 0.08
    assert pinged(lab, "node1", "far") == "[64]"
    if "duplicate" in impairment:
        text = lab.run("inject", "pod1", "IP(dst=pod3, ttl=3)/UDP()").stdout
        assert re.search(r"node2 +decap +\+2 .*ttl_exceeded", text)


def test_a_wire_that_loses_everything_loses_everything(lab: Labs) -> None:
    lab.run("up", lab.topology("[segments.dead]\n[nodes.a]\n[nodes.b]\n[hosts.c]\n"))
    assert pinged(lab, "a", "c") == "[64]"
    lab.run("down")
    hosts = '[hosts.c]\nsegment = "dead"\n[hosts.d]\nsegment = "dead"\n'
    text = f'[segments.live]\n[segments.dead]\nloss = "100%"\n[nodes.a]\n{hosts}'
    lab.run("up", lab.topology(text))
    assert pinged(lab, "c", "d") == "[None]"


def test_routers_lead_on_and_tell_of_a_narrow_wire(lab: Labs) -> None:
    lab.run("up", "routers")
    assert pinged(lab, "pod1", "pod4") == "[60]"
    assert pinged(lab, "node1", "node2") == "[62]"
    big = 'IP(dst=pod4, flags="DF")/ICMP()/(b"x" * 1400)'
    wait_until(lambda: "too_big" in lab.run("inject", "pod1", big).stdout, "node1 to hear of the narrow wire")
    assert "path: 1372" in lab.run("exec", "node1", "udplane", "status").stdout


def lab_address(lab: Labs, name: str) -> str:
    document = json.loads(lab.run("status", "--json").stdout)["lab"]
    places = [place for kind in ("nodes", "pods", "hosts") for place in document[kind]]
    return str(next(place for place in places if place["name"] == name)["addresses"][0].partition("/")[0])


SERVER = """
import socket
server = socket.create_server(("0.0.0.0", 80))
print("listens", flush=True)
print(server.accept()[1][0], flush=True)
"""


def test_a_nat_hides_who_asks(lab: Labs) -> None:
    lab.run("up", "nat")
    server = lab.start("exec", "server", sys.executable, "-I", "-c", SERVER)
    assert server.stdout is not None
    assert server.stdout.readline() == "listens\n"
    connect = f"import socket; socket.create_connection(('{lab_address(lab, 'server')}', 80), 5)"
    lab.run("exec", "pod1", sys.executable, "-I", "-c", connect)
    seen, _ = server.communicate(timeout=10)
    gateway = json.loads(lab.run("status", "--json").stdout)["lab"]["hosts"][0]
    assert f"{seen.strip()}/24" in gateway["addresses"]
    assert pinged(lab, "server", "node1") == "[None]"


def test_three_backends_stand_side_by_side(lab: Labs) -> None:
    done = lab.run("up", "backends", status=None)
    if done.returncode != 0 and "vxlan" in done.stderr:
        pytest.skip(f"this kernel makes no VXLAN device: {done.stderr.strip()[-100:]}")
    assert [pinged(lab, f"pod{n}", f"pod{n + 1}") for n in (1, 3, 5)] == ["[60]", "[62]", "[62]"]
    assert pinged(lab, "pod1", "pod3") == "[False]"


def test_the_example_of_the_documents_stands(lab: Labs) -> None:
    page = (Path(__file__).parents[2] / "docs/labs/topology.md").read_text()
    (example,) = re.findall(r"^```toml\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    lab.run("up", lab.topology(example))
    document = json.loads(lab.run("status", "--json").stdout)["lab"]
    assert [pod["host_device"] for pod in document["pods"]] == ["veth-pod1", "", "veth-pod3", "veth-pod4"]
    assert document["nodes"][1]["subnets"] == ["10.20.7.0/24"]
    assert pinged(lab, "stranger", "server") == "[62]"
    assert pinged(lab, "pod1", "pod3") == "[None]"
    lab.run("exec", "node2", "ip", "link", "set", "veth-pod3", "up")
    wait_until(lambda: pinged(lab, "pod1", "pod3") == "[60]", "the pod to be found again")


def test_every_key_is_on_its_page() -> None:
    page = (Path(__file__).parents[2] / "docs/labs/topology.md").read_text()
    kinds = (Segment, Router, Node, Host)
    keys = {field.name for kind in kinds for field in fields(kind)} - {"name", "place", "impairment"}
    assert [key for key in sorted(keys | {"rate", "loss", "wired", "where", "run"}) if f"`{key}`" not in page] == []
    assert [name for name in ready_made() if f"`{name}`" not in page] == []


def test_engines_differ_by_node(lab: Labs) -> None:
    pytest.importorskip("numpy")
    lab.run("up", "three-nodes", "--seed", "5")
    nodes = json.loads(lab.run("status", "--json").stdout)["lab"]["nodes"]
    assert [node["engine"] for node in nodes] == ["python", "numpy", "native"]
    assert not any(subnet.startswith("10.254.") for node in nodes for subnet in node["subnets"])
    assert pinged(lab, "pod1", "pod4") == pinged(lab, "pod3", "pod6") == "[60]"


def test_an_engine_for_all_is_named_at_the_call(lab: Labs) -> None:
    lab.run("up", "--engine", "python", lab.topology("[nodes.a]\n[nodes.b]\n"))
    nodes = json.loads(lab.run("status", "--json").stdout)["lab"]["nodes"]
    assert [node["engine"] for node in nodes] == ["python", "python"]
