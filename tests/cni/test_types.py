"""Results in every version's shape, against texts recorded from the official plugins."""

from __future__ import annotations

import json
from typing import Any

import pytest

from cni.lib.errors import CniError
from cni.lib.types import Result
from cni.lib.versions import VERSIONS

FULL: dict[str, Any] = {
    "cniVersion": "1.1.0",
    "interfaces": [
        {"name": "cni0", "mac": "aa:1d:46:92:07:51", "mtu": 1472},
        {"name": "eth0", "mac": "62:ce:9c:f5:76:5f", "sandbox": "/run/netns/p1", "pciID": "0000:00:1f.0"},
    ],
    "ips": [
        {"interface": 1, "address": "10.1.2.2/24", "gateway": "10.1.2.1"},
        {"interface": 1, "address": "fd00::2/64"},
        {"interface": 1, "address": "10.9.9.9/24"},
    ],
    "routes": [{"dst": "0.0.0.0/0"}, {"dst": "1.0.0.0/8", "gw": "10.1.2.9", "mtu": 1400}, {"dst": "::/0"}],
    "dns": {"nameservers": ["1.1.1.1"], "search": ["a<b"]},
}

BY_FAMILY = """{
    "cniVersion": "0.2.0",
    "ip4": {
        "ip": "10.1.2.2/24",
        "gateway": "10.1.2.1",
        "routes": [
            {
                "dst": "0.0.0.0/0"
            },
            {
                "dst": "1.0.0.0/8",
                "gw": "10.1.2.9"
            }
        ]
    },
    "ip6": {
        "ip": "fd00::2/64",
        "routes": [
            {
                "dst": "::/0"
            }
        ]
    },
    "dns": {
        "nameservers": [
            "1.1.1.1"
        ],
        "search": [
            "a\\u003cb"
        ]
    }
}"""


def full() -> Result:
    return Result.from_json(FULL, "1.1.0")


@pytest.mark.parametrize("version", ["1.0.0", "1.1.0"])
def test_the_newest_shape_keeps_everything_and_has_its_keys_in_order(version: str) -> None:
    whole = FULL | {"cniVersion": version}
    assert full().to_json(version) == whole
    assert full().print(version) == json.dumps(whole, indent=4, sort_keys=True).replace("<", "\\u003c")


def test_the_oldest_shape_is_that_of_the_official_plugins() -> None:
    assert full().print("0.2.0") == BY_FAMILY
    assert full().print("0.1.0") == BY_FAMILY.replace("0.2.0", "0.1.0")


@pytest.mark.parametrize("version", ["0.3.0", "0.3.1", "0.4.0"])
def test_older_lists_name_the_ip_version(version: str) -> None:
    shape = full().to_json(version)
    assert [ip["version"] for ip in shape["ips"]] == ["4", "6", "4"]
    assert list(shape["ips"][0]) == ["version", "interface", "address", "gateway"]
    assert shape["interfaces"][1] == {"name": "eth0", "mac": "62:ce:9c:f5:76:5f", "sandbox": "/run/netns/p1"}


@pytest.mark.parametrize("version", VERSIONS)
def test_every_shape_is_read_back(version: str) -> None:
    shape = full().to_json(version)
    again = Result.from_json(json.loads(json.dumps(shape)), "1.0.0")
    assert again.to_json(version) == shape
    if version in ("0.3.0", "0.4.0", "1.0.0"):
        assert again.to_json("0.4.0") == full().to_json("0.4.0")


def test_an_empty_dns_is_left_out_since_1_0_0() -> None:
    assert Result().to_json("1.1.0") == {"cniVersion": "1.1.0"}
    assert Result().to_json("1.0.0") == {"cniVersion": "1.0.0"}
    assert Result().to_json("0.4.0") == {"cniVersion": "0.4.0", "dns": {}}


def test_a_result_without_version_has_the_configurations() -> None:
    data = {"ip4": {"ip": "10.1.2.3/24"}}
    assert [str(ip.address) for ip in Result.from_json(data, "0.2.0").ips] == ["10.1.2.3/24"]
    assert Result.from_json(data, "1.0.0").ips == []


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"cniVersion": "9"}, 'unsupported CNI result version "9"'),
        ({"ips": [{"address": "10.1.2.3"}]}, "invalid CIDR address: 10.1.2.3"),
        ({"ips": [{"address": "10.1.2.3/8", "gateway": "x"}]}, "invalid IP address: x"),
        ({"routes": [{"dst": ""}]}, "invalid CIDR address: "),
    ],
)
def test_unreadable_results_are_refused(data: dict[str, Any], message: str) -> None:
    with pytest.raises(CniError) as caught:
        Result.from_json(data, "1.0.0")
    assert caught.value.msg == message


def test_no_address_does_not_fit_the_oldest_shape() -> None:
    with pytest.raises(CniError, match=r"^cannot convert: no valid IP addresses$"):
        Result().to_json("0.1.0")
