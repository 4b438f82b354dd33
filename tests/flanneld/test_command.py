"""How `udplane flanneld` starts and ends: order, texts, exit statuses."""

import json
import re
import subprocess
from pathlib import Path

import pytest

from dataplane import __version__
from dataplane.errors import NodeError
from dataplane.flanneld import command
from dataplane.lab.overlay import UDPLANE
from dataplane.leases.network_config import NetworkConfig
from tests.flanneld.host import Host

KLOG_LINE = r"[IWEF]\d{4} \d\d:\d\d:\d\d\.\d{6} +\d+ \w+\.py:\d+\] .+"
"""As klog's formatHeader writes it: level, date, time, process, source."""


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command with nothing else in its environment."""
    return subprocess.run(
        [str(UDPLANE), "flanneld", *arguments],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )


def test_the_version_goes_to_stderr() -> None:
    for flag in ("-version", "--version=true"):
        done = run(flag)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", f"{__version__}\n")


@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_help_goes_to_stderr(flag: str) -> None:
    done = run(flag)
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr.startswith("Usage: udplane flanneld [OPTION]...\n  -etcd-cafile string\n    \t")


def test_an_unknown_flag_is_refused_in_gos_words() -> None:
    done = run("--ip-masq", "--nope")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("flag provided but not defined: -nope\nUsage: udplane flanneld [OPTION]...\n")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["-subnet-lease-renew-margin=0"], "Invalid subnet-lease-renew-margin option, out of acceptable range"),
        (["--etcd-endpoints=http://a:1,https://a:2"], "give all with http:// or all with https://"),
        (["--kube-subnet-mgr"], "this is no Kubernetes pod"),
        (["--etcd-endpoints=https://127.0.0.1:1", "--etcd-cafile=/nonexistent"], "check --etcd-cafile"),
    ],
)
def test_what_cannot_run_ends_with_one_line(arguments: list[str], words: str) -> None:
    done = run(*arguments)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("E")
    assert words in line


def test_a_variable_that_cannot_be_read_is_said_and_left_out() -> None:
    done = run("--kube-subnet-mgr", FLANNELD_IP_MASQ="maybe")
    assert done.returncode == 1
    first, second = done.stderr.splitlines()
    assert 'Failed to set flag FLANNELD from env: FLANNELD_IP_MASQ: invalid boolean value "maybe"' in first
    assert "this is no Kubernetes pod" in second


def test_what_has_no_effect_is_named_in_one_line() -> None:
    done = run("--kube-subnet-mgr", "-v=2", "--ip-blackhole-route", "stray", EVENT_QUEUE_DEPTH="10")
    warnings = [line.partition("] ")[2] for line in done.stderr.splitlines() if line.startswith("W")]
    assert warnings == [
        "arguments after the flags mean nothing: stray",
        "without effect here: -ip-blackhole-route, -v, EVENT_QUEUE_DEPTH",
    ]


def test_the_start_goes_in_flannels_order_and_ends_with_status_0(host: Host) -> None:
    """Health checks before the network config; ready when the subnet file is there; the API server told last."""
    daemon = host.start()
    daemon.says("cannot read the network config")
    assert host.health("healthz") == (200, "flanneld is running")
    assert host.health("readyz") == (503, "flanneld is not ready yet")
    assert host.health("metrics")[0] == 404
    assert not host.subnet_file.exists()
    host.configure(EnableNFTables=True)
    host.wait_until_ready(daemon)
    assert host.subnet_file.exists()
    annotations, condition = (patch for _, patch in host.server.patches)
    prefix = "flannel.alpha.coreos.com/"
    assert annotations["metadata"]["annotations"] == {
        prefix + "backend-data": "null",
        prefix + "backend-type": "",
        prefix + "kube-subnet-manager": "true",
        prefix + "public-ip": "192.168.0.201",
    }
    assert condition["status"]["conditions"][0]["reason"] == "FlannelIsUp"
    assert daemon.stop() == 0
    assert host.health("healthz")[0] == 0
    assert [line for line in daemon.log.read_text().splitlines() if not re.fullmatch(KLOG_LINE, line)] == []


def test_flags_reach_the_node_through_variables_too(host: Host) -> None:
    host.configure(EnableNFTables=True)
    host.environment = {
        "FLANNELD_PUBLIC_IP": "192.0.2.7",
        "FLANNELD_IFACE": "eth0",
        "FLANNELD_KUBE_ANNOTATION_PREFIX": "net.example.com/pods",
        "FLANNELD_SET_NODE_NETWORK_UNAVAILABLE": "false",
    }
    host.wait_until_ready(host.start("--public-ip=192.0.2.8"))
    ((_, patch),) = host.server.patches
    assert patch["metadata"]["annotations"]["net.example.com/pods-public-ip"] == "192.0.2.8"


def test_an_interface_that_is_not_there_ends_the_start(host: Host) -> None:
    host.configure(EnableNFTables=True)
    daemon = host.start("--iface=nope0")
    assert daemon.process.wait(20) == 1
    daemon.says("Could not find valid interface matching nope0: ")
    daemon.says("Failed to find interface to use that matches the interfaces and/or regexes provided")
    assert "Traceback" not in daemon.log.read_text()


def test_a_health_port_in_use_ends_the_start(host: Host) -> None:
    with host.netns.socket(2, 1) as taken:
        taken.bind(("127.0.0.1", 8286))
        taken.listen()
        daemon = host.start()
        assert daemon.process.wait(20) == 1
    daemon.says("cannot use TCP port 8286 of 127.0.0.1")


@pytest.mark.parametrize(
    ("config", "present", "missing"),
    [
        ({"Network": "10.5.0.0/16"}, ["bridge-nf-call-iptables"], None),
        ({"Network": "10.5.0.0/16"}, [], "bridge-nf-call-iptables"),
        ({"Network": "10.5.0.0/16", "EnableNFTables": True}, [], None),
        (
            {"EnableIPv4": False, "EnableIPv6": True, "IPv6Network": "fd00::/48"},
            ["bridge-nf-call-iptables"],
            "bridge-nf-call-ip6tables",
        ),
    ],
)
def test_br_netfilter_must_be_there_for_iptables(
    config: dict[str, object],
    present: list[str],
    missing: str | None,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setattr(command, "_BRIDGE_SYSCTLS", tmp_path)
    for name in present:
        (tmp_path / name).write_text("1\n")
    parsed = NetworkConfig.parse(json.dumps(config))
    if missing is None:
        command._require_br_netfilter(parsed)
    else:
        with pytest.raises(NodeError, match=rf"br_netfilter: .*/{missing} is missing; run `modprobe br_netfilter`"):
            command._require_br_netfilter(parsed)
