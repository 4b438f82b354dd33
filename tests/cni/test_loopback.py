"""loopback, in a pod of its own.

node          pod p1
                lo 127.0.0.1/8, ::1/128
"""

from __future__ import annotations

from typing import Any

import pytest

from tests.cni.plugin_calls import call, failure, success
from tests.cni.world.world import World

ADDRESSES = {"127.0.0.1/8", "::1/128"}


@pytest.fixture
def node(shared_node: World) -> World:
    shared_node.reset("p1")
    return shared_node


def conf(version: str = "1.0.0", **more: Any) -> dict[str, Any]:
    return {"cniVersion": version, "name": "cni-loopback", "type": "loopback"} | more


@pytest.mark.parametrize("version", ["0.1.0", "0.2.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"])
def test_brings_lo_up_and_answers_in_the_right_shape(node: World, version: str) -> None:
    assert node.plugin("loopback", "ADD", conf(version)).exit == 0
    result = node.plugin("loopback", "ADD", conf(version)).json
    node.sh("ping -c1 -W2 127.0.0.1", pod="p1")
    if version < "0.3.0":
        assert {result["ip4"]["ip"], result["ip6"]["ip"]} == ADDRESSES
    else:
        assert {ip["address"] for ip in result["ips"]} == ADDRESSES
        assert result["interfaces"] == [{"name": "lo", "mac": "00:00:00:00:00:00", "sandbox": "/run/netns/p1"}]


def test_passes_on_an_earlier_result(node: World) -> None:
    earlier = {"cniVersion": "1.0.0", "ips": [{"address": "10.1.2.3/24"}]}
    assert node.plugin("loopback", "ADD", conf(prevResult=earlier)).json == earlier


def test_check_and_del(node: World) -> None:
    node.plugin("loopback", "ADD", conf())
    assert node.plugin("loopback", "CHECK", conf()).exit == 0
    for _ in range(2):
        assert node.plugin("loopback", "DEL", conf()).exit == 0
    assert node.plugin("loopback", "CHECK", conf()).json["msg"] == "loopback interface is down"


def test_another_address_on_lo_is_refused_before_anything_is_done(node: World) -> None:
    node.sh("ip addr add 10.1.2.3/32 dev lo", pod="p1")
    error = node.plugin("loopback", "ADD", conf()).json
    assert error["msg"] == 'loopback interface found with non-loopback address "10.1.2.3"'
    assert node.plugin("loopback", "CHECK", conf()).json["msg"] == "loopback interface is down"


def test_one_address_of_each_family_is_reported(node: World) -> None:
    node.sh("ip link set lo up; ip addr add 127.0.0.5/8 dev lo", pod="p1")
    assert [ip["address"] for ip in node.plugin("loopback", "ADD", conf()).json["ips"]] == ["127.0.0.1/8", "::1/128"]


def test_a_pod_that_is_gone() -> None:
    assert success(call("loopback", "DEL", conf())) == {}
    assert success(call("loopback", "DEL", conf(), CNI_NETNS="/etc/hostname")) == {}
    missing = "/run/netns/there-is-none-of-this-name"
    assert failure(call("loopback", "ADD", conf()))["msg"] == f'failed to Statfs "{missing}": no such file or directory'
    assert failure(call("loopback", "ADD", conf(), CNI_NETNS="/proc/self/stat"))["msg"].endswith(": 9fa0")
