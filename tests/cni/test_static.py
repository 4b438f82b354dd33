"""static: addresses from the configuration. No state, so no node is needed."""

from __future__ import annotations

from typing import Any

import pytest

from tests.cni.plugin_calls import call, failure, success


def conf(version: str = "1.0.0", **more: Any) -> dict[str, Any]:
    ipam = {
        "addresses": [{"address": "10.1.2.3/24", "gateway": "10.1.2.1"}, {"address": "fd00::2/64"}],
        "routes": [{"dst": "0.0.0.0/0"}],
        "dns": {"nameservers": ["1.1.1.1"]},
    }
    return {"cniVersion": version, "name": "n1", "ipam": ipam} | more


def addresses(outcome: Any) -> list[str]:
    return [ip["address"] for ip in success(outcome)["ips"]]


def test_hands_out_what_is_configured() -> None:
    result = success(call("static", "ADD", conf()))
    assert result["ips"] == [{"address": "10.1.2.3/24", "gateway": "10.1.2.1"}, {"address": "fd00::2/64"}]
    assert result["routes"] == [{"dst": "0.0.0.0/0"}]
    assert result["dns"] == {"nameservers": ["1.1.1.1"]}


def test_arguments_replace_and_the_runtime_has_the_last_word() -> None:
    args: dict[str, Any] = {"args": {"cni": {"ips": ["10.5.0.1/16"]}}}
    runtime: dict[str, Any] = {"runtimeConfig": {"ips": ["10.6.0.1/16"]}}
    assert addresses(call("static", "ADD", conf(**args))) == ["10.5.0.1/16"]
    assert addresses(call("static", "ADD", conf(**args, **runtime))) == ["10.6.0.1/16"]


def test_cni_args_add_addresses_and_gateways() -> None:
    environment = "IP=10.7.0.5/24, 10.8.0.5/24;GATEWAY=10.8.0.1"
    ips = success(call("static", "ADD", conf(), CNI_ARGS=environment))["ips"]
    assert {"address": "10.8.0.5/24", "gateway": "10.8.0.1"} in ips
    assert {"address": "10.7.0.5/24"} in ips


@pytest.mark.parametrize(
    ("changes", "args", "msg"),
    [
        ({"ipam": None}, "", "IPAM config missing 'ipam' key"),
        (
            {"ipam": {"addresses": [{"address": "x"}]}},
            "",
            "the 'address' field is expected to be in CIDR notation, got: 'x'",
        ),
        ({}, "IP=10.1.2.3", "the 'ip' field is expected to be in CIDR notation, got: '10.1.2.3'"),
        ({}, "GATEWAY=x", "invalid gateway address: x"),
        (
            {"runtimeConfig": {"ips": ["10.1.2.3"]}},
            "",
            "an entry in the 'ips' field is NOT in CIDR notation, got: '10.1.2.3'",
        ),
        (
            {"cniVersion": "0.2.0", "runtimeConfig": {"ips": ["10.1.2.3/8", "10.1.2.4/8"]}},
            "",
            "CNI version 0.2.0 does not support more than 1 address per family",
        ),
    ],
)
def test_unusable_configurations(changes: dict[str, Any], args: str, msg: str) -> None:
    assert failure(call("static", "ADD", conf(**changes), CNI_ARGS=args)) == {"code": 999, "msg": msg}


def test_check_compares_gateways() -> None:
    assert failure(call("static", "CHECK", conf()))["msg"] == "Required prevResult missing"
    same = {"cniVersion": "1.0.0", "ips": [{"address": "10.1.2.3/24", "gateway": "10.1.2.1"}]}
    assert success(call("static", "CHECK", conf(prevResult=same))) == {}
    other = {"cniVersion": "1.0.0", "ips": [{"address": "10.1.2.3/24", "gateway": "10.1.2.9"}]}
    error = failure(call("static", "CHECK", conf(prevResult=other)))
    assert error["msg"] == "static: Failed to match addr 10.1.2.3 on interface eth0"


@pytest.mark.parametrize("verb", ["DEL", "GC", "STATUS"])
def test_there_is_nothing_to_clean_up(verb: str) -> None:
    assert success(call("static", verb, {"cniVersion": "1.1.0", "name": "n1"})) == {}
