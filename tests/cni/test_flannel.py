"""flannel with its usual delegate, on a node of its own.

  node                                        pods p1, p2
+--------------------------------------+    +--------------+
| /run/flannel/subnet.env              |    |              |
| flannel -> bridge -> host-local      |    | eth0         |
| cni0 10.78.5.1/24 ------------------------- 10.78.5.2/24 |
| /var/lib/cni/flannel/<container>     |    |              |
+--------------------------------------+    +--------------+
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cni.lib.errors import CniError
from cni.lib.subnet_env import SubnetEnv
from tests.cni.plugin_calls import call, failure, success
from tests.cni.world.state import comparable, differences
from tests.cni.world.world import World

COMPLETE = "FLANNEL_NETWORK=10.78.0.0/16\nFLANNEL_SUBNET=10.78.5.1/24\nFLANNEL_MTU=1472\nFLANNEL_IPMASQ=false\n"
STATE = "/var/lib/cni/flannel"
SAVED = (
    '{"bridge":"cbr0","cniVersion":"1.1.0","hairpinMode":true,"ipMasq":true,'
    '"ipam":{"dataDir":"/var/lib/cni/networks","ranges":[[{"subnet":"10.78.5.0/24"}]],'
    '"routes":[{"dst":"10.78.0.0/16"}],"type":"host-local"},'
    '"isDefaultGateway":true,"isGateway":true,"mtu":1472,"name":"net1","type":"bridge"}'
)


def conf(**more: Any) -> dict[str, Any]:
    delegate = {"bridge": "cbr0", "hairpinMode": True, "isDefaultGateway": True}
    base = {"cniVersion": "1.1.0", "name": "net1", "type": "flannel", "delegate": delegate}
    return base | {"ipam": {"dataDir": "/var/lib/cni/networks"}} | more


@pytest.fixture
def node(shared_node: World) -> World:
    shared_node.reset("p1", "p2")
    shared_node.write("/run/flannel/subnet.env", COMPLETE)
    return shared_node


def run(node: World, verb: str, netconf: dict[str, Any], **env: str) -> Any:
    done = node.plugin("flannel", verb, netconf, env)
    assert done.exit == 0, done.stdout
    assert done.stderr == ""
    return done.json if done.stdout else None


def files(node: World) -> list[str]:
    return node.sh(f"ls -A {STATE} 2>/dev/null || true").split()


def traces(node: World) -> str:
    """What an attachment leaves on the node while it lives."""
    listing = node.sh("ip -br link show type veth; ls /var/lib/cni/networks/net1 2>/dev/null | grep '^10' || true")
    return listing + node.sh("iptables-save -t nat | grep CNI- || true")


def test_the_delegate_is_told_what_subnet_env_says_and_that_is_kept(node: World) -> None:
    result = run(node, "ADD", conf())
    assert result["ips"][0]["address"] == "10.78.5.2/24"
    assert {"dst": "10.78.0.0/16"} in result["routes"]
    assert files(node) == ["container-p1", "container-p1@eth0"]
    assert node.sh(f"cat {STATE}/container-p1") == node.sh(f"cat {STATE}/container-p1@eth0") == SAVED
    assert node.sh(f"stat -c %a {STATE} {STATE}/container-p1").split() == ["700", "600"]
    node.sh("ping -c1 -W2 10.78.5.1", pod="p1")


def test_two_interfaces_of_one_pod_are_kept_apart(node: World) -> None:
    second = conf(name="net2", subnetFile="/run/second.env", delegate={"bridge": "cbr1"})
    node.write("/run/second.env", COMPLETE.replace("10.78", "10.79"))
    run(node, "ADD", conf())
    run(node, "ADD", second, CNI_IFNAME="eth1")
    assert files(node) == ["container-p1", "container-p1@eth0", "container-p1@eth1"]
    run(node, "DEL", second, CNI_IFNAME="eth1")
    assert files(node) == ["container-p1", "container-p1@eth0"]
    node.sh("ping -c1 -W2 10.78.5.1", pod="p1")
    run(node, "DEL", conf())
    assert files(node) == []
    assert traces(node) == ""


LOST = {
    "nothing": "true",
    "subnet.env": "rm /run/flannel/subnet.env",
    "the kept configuration": f"rm -r {STATE}",
    "both": f"rm -r {STATE} /run/flannel/subnet.env",
}


@pytest.mark.parametrize("environment", [{}, {"CNI_NETNS": ""}, {"CNI_NETNS": "/run/netns/gone"}])
@pytest.mark.parametrize("lost", LOST)
def test_del_cleans_up_whatever_is_lost(node: World, lost: str, environment: dict[str, str]) -> None:
    run(node, "ADD", conf())
    node.sh(LOST[lost])
    for _ in range(3):
        run(node, "DEL", conf(), **environment)
    assert traces(node) == ""
    assert files(node) == []


CHANGED: dict[str, Any] = {
    "type-number": {"type": 5},
    "type-unknown": {"type": "nope"},
    "name": {"name": "x"},
    "ipam": {"ipam": {}},
    "another-type": {"type": "ptp"},
}


@pytest.mark.parametrize("changed", CHANGED)
def test_del_cleans_up_whatever_the_delegate_section_says_by_now(node: World, changed: str) -> None:
    run(node, "ADD", conf())
    run(node, "DEL", conf(delegate=CHANGED[changed]))
    assert traces(node) == ""
    assert files(node) == []


@pytest.mark.parametrize("changed", CHANGED)
def test_gc_collects_by_every_delegate_that_is_kept(node: World, changed: str) -> None:
    """One that is not there fails, after the others have done their work."""
    run(node, "ADD", conf())
    gc = conf(delegate=CHANGED[changed], **{"cni.dev/valid-attachments": []})
    done = node.plugin("flannel", "GC", gc)
    assert done.exit == (1 if changed == "type-unknown" else 0), done
    assert traces(node) == ""


def test_del_without_any_trace_of_an_add(node: World) -> None:
    node.sh("rm /run/flannel/subnet.env")
    before = comparable(node.snapshot("p1"))
    run(node, "DEL", conf())
    assert not differences(before, comparable(node.snapshot("p1")))


def test_a_del_that_fails_can_be_repeated(node: World) -> None:
    run(node, "ADD", conf())
    done = node.plugin("flannel", "DEL", conf(), {"CNI_PATH": "/nowhere"})
    assert done.json["msg"] == 'failed to find plugin "bridge" in path [/nowhere]'
    assert files(node) == ["container-p1", "container-p1@eth0"]
    run(node, "DEL", conf())
    assert traces(node) == ""


@pytest.mark.parametrize("torn", ["", "{", "[]", '{"type":1}', '{"type":"bridge","name":"another"}'])
def test_a_torn_configuration_is_made_anew(node: World, torn: str) -> None:
    run(node, "ADD", conf())
    for name in files(node):
        node.write(f"{STATE}/{name}", torn)
    run(node, "DEL", conf())
    assert traces(node) == ""


@pytest.mark.parametrize(
    ("delegate", "msg"),
    [
        (
            {"bridge": "cbr0", "mtu": "many"},
            "failed to load netconf: json: cannot unmarshal string into Go struct field",
        ),
        ({"type": "none-of-this-name"}, 'failed to find plugin "none-of-this-name" in path [/opt/cni/bin]'),
        (
            {"bridge": "cbr0", "runtimeConfig": {"mac": "zz"}},
            "failed to make veth pair: address zz: invalid MAC address",
        ),
    ],
)
def test_an_add_that_fails_leaves_nothing(node: World, delegate: dict[str, Any], msg: str) -> None:
    run(node, "ADD", conf(), CNI_CONTAINERID="container-p2", CNI_NETNS="/run/netns/p2")
    before = comparable(node.snapshot("p1"))
    done = node.plugin("flannel", "ADD", conf(delegate=delegate))
    assert done.json["msg"].startswith(f"failed to delegate add: {msg}")
    assert not differences(before, comparable(node.snapshot("p1")))


def test_a_kept_configuration_that_the_delegate_refuses_gives_way_to_the_current_one(node: World) -> None:
    run(node, "ADD", conf())
    for name in files(node):
        node.write(f"{STATE}/{name}", SAVED.replace("1472", '"many"'))
    run(node, "DEL", conf())
    assert traces(node) == ""
    assert files(node) == []


def test_gc_takes_what_dead_pods_left(node: World) -> None:
    run(node, "ADD", conf())
    run(node, "ADD", conf(), CNI_CONTAINERID="container-p2", CNI_NETNS="/run/netns/p2")
    node.write(f"{STATE}/.container-p3@eth0.tmp", SAVED)
    node.write(f"{STATE}/.container-p4@eth0.tmp", "")
    alive: dict[str, Any] = {"cni.dev/valid-attachments": [{"containerID": "container-p2", "ifname": "eth0"}]}
    run(node, "GC", conf(**alive))
    assert files(node) == ["container-p2", "container-p2@eth0"]
    assert "10.78.5.3" in traces(node)
    assert "10.78.5.2" not in traces(node)
    node.sh("ping -c1 -W2 10.78.5.1", pod="p2")


@pytest.mark.parametrize("lost", LOST)
def test_gc_takes_what_is_left_whatever_is_lost(node: World, lost: str) -> None:
    run(node, "ADD", conf())
    node.sh(LOST[lost])
    run(node, "GC", conf(**{"cni.dev/valid-attachments": []}))
    assert traces(node) == ""


def test_check_is_the_delegates(node: World) -> None:
    result = run(node, "ADD", conf())
    run(node, "CHECK", conf(prevResult=result))
    node.sh("ip link del eth0", pod="p1")
    assert "not found" in node.plugin("flannel", "CHECK", conf(prevResult=result)).json["msg"]


def test_udplanes_limit_for_super_packets_reaches_the_pod(node: World) -> None:
    node.write("/run/flannel/subnet.env", COMPLETE + "UDPLANE_GSO_MAX_SIZE=50000\n")
    run(node, "ADD", conf())
    assert '"gsoMaxSize":50000' in node.sh(f"cat {STATE}/container-p1")
    assert "gso_max_size 50000" in node.sh("ip -d link show dev eth0", pod="p1")


def test_dual_stack(node: World) -> None:
    node.write(
        "/run/flannel/subnet.env", COMPLETE + "FLANNEL_IPV6_NETWORK=fd78::/48\nFLANNEL_IPV6_SUBNET=fd78:0:0:5::1/64\n"
    )
    result = run(node, "ADD", conf())
    assert [ip["address"] for ip in result["ips"]] == ["10.78.5.2/24", "fd78:0:0:5::2/64"]
    node.sh("ping -c1 -W2 fd78:0:0:5::1", pod="p1")


def test_without_subnet_env_the_node_is_not_ready_and_pods_are_to_be_tried_again(tmp_path: Path) -> None:
    path = tmp_path / "subnet.env"
    netconf = conf(subnetFile=str(path), dataDir=str(tmp_path / "state"))
    reason = f"open {path}: no such file or directory. Check the flannel pod log for this node."
    msg = f"failed to load flannel 'subnet.env' file: {reason}"
    for verb, code in (("ADD", 11), ("STATUS", 50)):
        error = failure(call("flannel", verb, netconf))
        assert (error["code"], error["msg"]) == (code, msg)
        assert "udplane" in error["details"]
    path.write_text("FLANNEL_NETWORK=10.78.0.0/16\nFLANNEL_SUBNET=10.78.5.1/24\n")
    assert f"{path} is missing FLANNEL_MTU, FLANNEL_IPMASQ" in failure(call("flannel", "ADD", netconf))["msg"]
    path.write_text("")
    everything = (
        "FLANNEL_NETWORK, FLANNEL_IPV6_NETWORK, FLANNEL_SUBNET, FLANNEL_IPV6_SUBNET, FLANNEL_MTU, FLANNEL_IPMASQ"
    )
    assert everything in failure(call("flannel", "ADD", netconf))["msg"]
    assert success(call("flannel", "DEL", netconf)) == {}


@pytest.mark.parametrize(
    ("delegate", "msg"),
    [
        ({"type": 5}, "'delegate' dictionary, if present, must have (string) 'type' field"),
        ({"name": "x"}, "'delegate' dictionary must not have 'name' field, it'll be set by flannel"),
        ({"ipam": {}}, "'delegate' dictionary must not have 'ipam' field, it'll be set by flannel"),
    ],
)
def test_what_the_delegate_section_may_not_say(delegate: dict[str, Any], msg: str) -> None:
    assert failure(call("flannel", "ADD", conf(delegate=delegate))) == {"code": 999, "msg": msg}


LINES = st.sampled_from(
    [
        "FLANNEL_NETWORK",
        "FLANNEL_SUBNET",
        "FLANNEL_MTU",
        "FLANNEL_IPMASQ",
        "FLANNEL_IPV6_SUBNET",
        "UDPLANE_GSO_MAX_SIZE",
    ]
).flatmap(lambda key: st.text(max_size=12).map(lambda value: f"{key}={value}\n"))


@given(content=st.binary(max_size=80) | st.lists(LINES, max_size=6).map(lambda lines: "".join(lines).encode()))
def test_any_subnet_env_is_read_or_refused(content: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.getbasetemp() / "subnet.env"
    path.write_bytes(content)
    try:
        env = SubnetEnv(str(path))
    except CniError as refused:
        assert refused.msg.startswith("failed to load flannel 'subnet.env' file: ")
        assert refused.code == 11
    else:
        assert env.mtu is not None
        assert env.subnet or env.subnet_v6


def test_a_second_network_is_listed_once(tmp_path: Path) -> None:
    path = tmp_path / "subnet.env"
    path.write_text(COMPLETE.replace("10.78.0.0/16", "10.78.0.0/16,10.80.0.0/16,10.78.0.0/16"))
    env = SubnetEnv(str(path))
    assert [str(network) for network in env.networks] == ["10.78.0.0/16", "10.80.0.0/16"]
    assert str(env.subnet) == "10.78.5.0/24"
    assert json.dumps([env.mtu, env.ip_masq, env.gso_max_size]) == "[1472, false, 0]"
