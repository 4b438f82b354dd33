"""tap on a private node: what it does better than the official plugin, and that a program can open the device.

    p1  eth0 (tap) === a program that opens /dev/net/tun

What both do alike is compared in tests/cni/differential.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cni.lib import process, tuntap
from cni.lib.errors import CniError
from cni.lib.skel import Attachment
from cni.lib.veth import host_name
from tests.cni.node import DUAL_STACK, call, conf, refused, reservations
from tests.cni.world.world import World

TAP = conf("tap", ipam=DUAL_STACK)
# Opens the device as a virtual machine would, and tells of the first frame: who has asked for 10.9.0.9.
READ_ARP_REQUEST = """
import fcntl, os, struct, subprocess
tap = os.open("/dev/net/tun", os.O_RDWR)
fcntl.ioctl(tap, 0x400454CA, struct.pack("16sH22x", b"eth0", 0x1002))
ping = subprocess.Popen(["ping", "-c1", "-W5", "10.9.0.9"], stdout=subprocess.DEVNULL)
while (frame := os.read(tap, 2000))[12:14] != b"\\x08\\x06":
    pass
ping.kill()
ping.wait()
print(".".join(map(str, frame[28:32])), ".".join(map(str, frame[38:42])))
"""


def pod_links(node: World, pod: str = "p1") -> list[str]:
    return [link["ifname"] for link in json.loads(node.sh("ip -j link", pod=pod))]


def test_a_program_gets_the_pods_packets(node: World) -> None:
    call(node, "ADD", TAP)
    node.write("/run/read.py", READ_ARP_REQUEST)
    assert node.sh("timeout 20 python3 /run/read.py", pod="p1").split() == ["10.9.0.2", "10.9.0.9"]


def test_tap_add_that_fails_leaves_nothing(node: World) -> None:
    for keys in ({"ipam": {"type": "host-local"}}, {"bridge": "nope"}, {"mac": "x"}, {"mtu": 1}, {"mtu": 1 << 40}):
        refused(node, "ADD", {**TAP, **keys})
        assert pod_links(node) == ["lo"]
        assert reservations(node) == []
    refused(node, "ADD", TAP, CNI_IFNAME="eth%d")
    assert pod_links(node) == ["lo"]


def test_owner_and_group_may_be_any_that_there_are(node: World) -> None:
    """Those of a user namespace may be beyond half of the range."""
    call(node, "ADD", {**TAP, "owner": (1 << 32) - 2, "group": 3000000000})
    [tap] = json.loads(node.sh("ip -d -j link show eth0", pod="p1"))
    owners = [int(tap["linkinfo"]["info_data"][key]) & 0xFFFFFFFF for key in ("user", "group")]
    assert owners == [(1 << 32) - 2, 3000000000]
    refused(node, "ADD", {**TAP, "owner": (1 << 32) - 1}, "p2")
    assert pod_links(node, "p2") == ["lo"]


def test_tap_leaves_an_interface_that_is_there(node: World) -> None:
    node.sh("ip link add eth0 type veth peer name eth9", pod="p1")
    error = refused(node, "ADD", TAP)
    assert error["msg"] == 'failed to rename tap to "eth0": file exists'
    call(node, "DEL", TAP)
    assert sorted(pod_links(node)) == ["eth0", "eth9", "lo"]


def test_tap_del_leaves_the_pod_that_a_stale_path_leads_to(node: World) -> None:
    call(node, "ADD", TAP)
    result = call(node, "ADD", TAP, "p2")
    for _ in range(2):
        call(node, "DEL", TAP, CNI_NETNS="/run/netns/p2")
    call(node, "CHECK", {**TAP, "prevResult": result}, "p2")
    assert len(reservations(node)) == 2


def test_tap_del_finds_the_device_of_an_add_that_was_killed(node: World) -> None:
    temporary = host_name("net1", Attachment("container-p1", "eth0"))
    node.sh(f"ip tuntap add mode tap name {temporary}", pod="p1")
    call(node, "DEL", TAP)
    assert pod_links(node) == ["lo"]


def test_tap_status_asks_the_ipam_plugin_alone(node: World) -> None:
    call(node, "STATUS", TAP)
    refused(node, "STATUS", {**TAP, "ipam": {"type": "nope"}})


def test_a_device_in_an_selinux_context(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without SELinux there is a file in its place: what is written there, and that ip is what runs then."""
    label = tmp_path / "exec"
    program = tmp_path / "ip"
    label.touch()
    program.write_text(f'#!/bin/sh\ncp {label} {tmp_path}/seen\necho "$@" > {tmp_path}/arguments\n[ "$6" != bad ]\n')
    program.chmod(0o755)
    monkeypatch.setattr(tuntap, "EXEC_LABEL", str(label))
    monkeypatch.setattr(process, "find_program", lambda _name: str(program))
    tuntap.make_labelled_tap("tap7", "user:role:type:s0", ["multi_queue", "user", "7"])
    assert (tmp_path / "seen").read_text() == "user:role:type:s0"
    assert (tmp_path / "arguments").read_text() == "tuntap add mode tap name tap7 multi_queue user 7\n"
    assert label.read_text().startswith("\n"), "the label would hold for the next program as well"
    with pytest.raises(CniError, match=r"failed to run command .*: exit status 1"):
        tuntap.make_labelled_tap("bad", "user:role:type:s0", [])
