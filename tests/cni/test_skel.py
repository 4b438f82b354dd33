"""The protocol: what is checked, in which order, and what is answered. Texts as recorded from the official skeleton."""

from __future__ import annotations

import json
from typing import Any

import pytest

from cni.lib import registry
from cni.lib.errors import CniError
from cni.lib.skel import Attachment, Call, Outcome, Plugin, run
from cni.lib.types import Result
from cni.lib.versions import VERSIONS
from tests.cni.plugin_calls import call, environment, failure, success

STATIC = {"cniVersion": "1.0.0", "name": "n1", "ipam": {"addresses": [{"address": "10.1.2.3/24"}]}}


def test_without_a_command_the_plugin_introduces_itself() -> None:
    outcome = run(registry.load_plugin("static"), {}, pytest.fail)
    assert (outcome.status, outcome.output) == (0, "")
    assert outcome.errors.endswith("CNI protocol versions supported: 0.1.0, 0.2.0, 0.3.0, 0.3.1, 0.4.0, 1.0.0, 1.1.0\n")


def test_version_reads_no_input() -> None:
    outcome = run(registry.load_plugin("static"), {"CNI_COMMAND": "VERSION"}, pytest.fail)
    assert outcome.output.endswith("]}\n")
    assert success(outcome) == {"cniVersion": "1.1.0", "supportedVersions": list(VERSIONS)}


@pytest.mark.parametrize(
    ("verb", "overrides", "code", "msg", "details"),
    [
        ("add", {}, 4, "unknown CNI_COMMAND: add", None),
        (
            "ADD",
            {"CNI_NETNS": "", "CNI_IFNAME": "", "CNI_CONTAINERID": "", "CNI_PATH": ""},
            4,
            "required env variables [CNI_CONTAINERID,CNI_NETNS,CNI_IFNAME,CNI_PATH] missing",
            None,
        ),
        ("DEL", {"CNI_NETNS": "", "CNI_PATH": ""}, 4, "required env variables [CNI_PATH] missing", None),
        ("ADD", {"CNI_CONTAINERID": "-a", "CNI_IFNAME": ""}, 4, "invalid characters in containerID", "-a"),
        (
            "ADD",
            {"CNI_IFNAME": "a" * 16},
            4,
            "interface name is too long",
            "interface name should be less than 16 characters",
        ),
        ("ADD", {"CNI_IFNAME": ".."}, 4, "interface name is . or ..", None),
        ("ADD", {"CNI_IFNAME": "a\udcff"}, 4, "interface name is not UTF-8, so no result could tell it", None),
        ("ADD", {"CNI_IFNAME": "a/b"}, 4, "interface name contains / or : or whitespace characters", None),
    ],
)
def test_the_environment_is_checked_first(
    verb: str, overrides: dict[str, str], code: int, msg: str, details: str | None
) -> None:
    wanted = {"code": code, "msg": msg, **({"details": details} if details else {})}
    assert failure(call("static", verb, b"not json", **overrides)) == wanted


@pytest.mark.parametrize(
    ("conf", "code", "msg"),
    [
        (b"", 6, "error unmarshall network config: unexpected end of JSON input"),
        (b"[]", 6, "error unmarshall network config: json: cannot unmarshal array into Go value of type "),
        ({"name": 3}, 6, "error unmarshall network config: json: cannot unmarshal number into Go struct field .name"),
        ({}, 7, "missing network name"),
        (b"null", 7, "missing network name"),
        ({"name": "a b"}, 7, "invalid characters found in network name"),
        ({"name": "n", "cniVersion": 1}, 6, "decoding version from network config: json: cannot unmarshal number into"),
        ({"name": "n", "cniVersion": "1.2.0"}, 1, "incompatible CNI versions"),
    ],
)
def test_then_the_configuration(conf: Any, code: int, msg: str) -> None:
    error = failure(call("static", "ADD", conf))
    assert error["code"] == code
    assert error["msg"].startswith(msg)


def test_the_error_object_is_printed_as_go_prints_it() -> None:
    outcome = call("static", "ADD", {"name": "n", "cniVersion": "9"})
    versions = " ".join(f'\\"{version}\\"' for version in VERSIONS)
    assert outcome.output == (
        '{\n    "code": 1,\n    "msg": "incompatible CNI versions",\n'
        f'    "details": "config is \\"9\\", plugin supports [{versions}]"\n}}'
    )


@pytest.mark.parametrize(
    ("verb", "version", "allowed"),
    [
        ("CHECK", "0.3.1", False),
        ("CHECK", "0.4.0", True),
        ("GC", "1.0.0", False),
        ("GC", "1.1.0", True),
        ("STATUS", "1.0.0", False),
        ("STATUS", "1.1.0", True),
    ],
)
def test_verbs_begin_with_a_version(verb: str, version: str, allowed: bool) -> None:
    outcome = call("flannel", verb, {**STATIC, "cniVersion": version, "subnetFile": "/nowhere"})
    if allowed:
        assert "config version does not allow" not in outcome.output
    else:
        assert failure(outcome) == {"code": 1, "msg": f"config version does not allow {verb}"}


def test_the_verbs_version_counts_before_the_plugins() -> None:
    def verb(call: Call) -> None:
        raise AssertionError

    late = Plugin("firewall", add=verb, delete=verb, check=verb, gc=verb, status=verb)
    conf = json.dumps({**STATIC, "cniVersion": "0.3.1"}).encode()
    outcome = run(late, environment("CHECK"), lambda: conf)
    assert failure(outcome) == {"code": 1, "msg": "config version does not allow CHECK"}
    assert failure(run(late, environment("ADD"), lambda: conf))["msg"] == "incompatible CNI versions"


def test_a_configuration_without_version_is_answered_in_the_oldest() -> None:
    assert success(call("static", "ADD", {**STATIC, "cniVersion": ""}))["cniVersion"] == "0.1.0"


def test_the_hosts_own_netns_is_refused_before_anything_is_done() -> None:
    own = "/proc/self/ns/net"
    assert failure(call("static", "ADD", STATIC, CNI_NETNS=own))["code"] == 8
    assert success(call("static", "ADD", STATIC, CNI_NETNS=own, CNI_NETNS_OVERRIDE="True"))


def plugin_that_raises(error: Exception) -> Plugin:
    def verb(call: Call) -> None:
        raise error

    return Plugin("static", add=verb, delete=verb, check=verb, gc=verb, status=verb)


@pytest.mark.parametrize(
    ("error", "wanted"),
    [
        (CniError("full", 11, "wait"), {"code": 11, "msg": "full", "details": "wait"}),
        (OSError(2, "No such file or directory", "/x"), {"code": 999, "msg": "open /x: no such file or directory"}),
        (OSError(28, "No space left on device"), {"code": 999, "msg": "no space left on device"}),
        (ValueError("odd"), {"code": 999, "msg": "odd"}),
        (RecursionError(), {"code": 999, "msg": "RecursionError"}),
    ],
)
def test_whatever_goes_wrong_is_one_error_object(error: Exception, wanted: dict[str, Any]) -> None:
    outcome = run(plugin_that_raises(error), environment("DEL"), lambda: json.dumps(STATIC).encode())
    assert failure(outcome) == wanted


def test_an_add_whose_result_its_version_cannot_hold_is_undone() -> None:
    """Versions before 0.3.0 have no result without an address."""
    calls: list[tuple[str, str, str]] = []

    def note(one: Call) -> None:
        calls.append((one.command, one.env["CNI_COMMAND"], one.name))

    def add(one: Call) -> Result:
        note(one)
        return Result()

    plugin = Plugin("any", add=add, delete=note, check=note, gc=note, status=note)
    outcome = run(plugin, environment("ADD"), b'{"cniVersion": "0.2.0", "name": "n1"}'.strip)
    assert failure(outcome)["msg"] == "cannot convert: no valid IP addresses"
    assert calls == [("ADD", "ADD", "n1"), ("DEL", "DEL", "n1")]


def test_standard_input_that_cannot_be_read() -> None:
    def read() -> bytes:
        raise OSError(5, "Input/output error")

    outcome: Outcome = run(registry.load_plugin("static"), environment("ADD"), read)
    assert failure(outcome) == {"code": 5, "msg": "error reading from stdin: input/output error"}


def test_gc_knows_what_is_valid_by_either_key() -> None:
    def valid(conf: dict[str, Any]) -> set[Attachment] | None:
        given = Call(environment("GC"))
        given.conf = conf
        return given.valid_attachments()

    one = [{"containerID": "c1", "ifname": "eth0"}]
    assert valid({"cni.dev/valid-attachments": one}) == {Attachment("c1", "eth0")}
    assert valid({"cni.dev/attachments": one}) == {Attachment("c1", "eth0")}
    assert valid({"cni.dev/valid-attachments": []}) == set()
    assert valid({}) is None


@pytest.mark.parametrize(
    ("args", "msg"),
    [
        ("IP", 'ARGS: invalid pair "IP"'),
        ("IP=a=b", 'ARGS: invalid pair "IP=a=b"'),
        ("FOO=bar", 'ARGS: unknown args ["FOO=bar"]'),
        ("FOO=bar;BAR=x;IgnoreUnknown=false", 'ARGS: unknown args ["FOO=bar" "BAR=x"]'),
        ("IgnoreUnknown=x", 'ARGS: error parsing value of pair "IgnoreUnknown=x": boolean unmarshal error'),
    ],
)
def test_unusable_cni_args(args: str, msg: str) -> None:
    assert failure(call("static", "ADD", STATIC, CNI_ARGS=args))["msg"].startswith(msg)


def test_cni_args_of_others_are_ignored_when_asked() -> None:
    result = success(call("static", "ADD", STATIC, CNI_ARGS="IgnoreUnknown=1;K8S_POD_NAME=p;IP=10.1.2.9/24"))
    assert [ip["address"] for ip in result["ips"]] == ["10.1.2.3/24", "10.1.2.9/24"]
