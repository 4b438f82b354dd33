"""The network of namespaces: what stands where, and that nothing is left of it."""

import os
import subprocess
from ipaddress import ip_address

import pytest

from dataplane.lab.netns import LabError, Namespace
from dataplane.lab.topology import Lab


def named_namespaces() -> set[str]:
    listing = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=True).stdout
    return {line.split()[0] for line in listing.splitlines()}


def test_addresses_follow_the_drawing(routed_lab: Lab) -> None:
    first, second = routed_lab.nodes
    assert [str(first.address(4)), str(second.address(6))] == ["192.168.0.201", "fd00:192:168::202"]
    assert [pod.name for pod in first.pods + second.pods] == ["pod1", "pod2", "pod3", "pod4"]
    assert second.pods[1].address(4) == ip_address("10.254.2.3")
    assert second.pods[1].address(6) == ip_address("fd00:10:254:2::3")


def test_a_node_finds_its_external_interface_by_the_default_route(routed_lab: Lab) -> None:
    for version, router in (("-4", "192.168.0.1"), ("-6", "fd00:192:168::1")):
        route = routed_lab.nodes[0].netns.run(["ip", version, "route", "show", "default"]).stdout
        assert f"via {router} dev eth0" in route


def test_everything_is_gone_when_the_block_ends_by_an_exception(namespaces: None) -> None:
    prefix = f"udp{os.getpid()}-gone-"
    mine = {prefix + "underlay", prefix + "node1"}
    with pytest.raises(KeyboardInterrupt), Lab(prefix=prefix, versions=(4,)) as lab:
        lab.add_node()
        assert mine <= named_namespaces()
        raise KeyboardInterrupt
    assert mine & named_namespaces() == set()


def test_a_lab_that_cannot_be_built_leaves_nothing(namespaces: None) -> None:
    prefix = f"udp{os.getpid()}-blocked-"
    blocker = Namespace.create(prefix + "node1")
    try:
        with pytest.raises(LabError, match=blocker.name), Lab(prefix=prefix) as lab:
            lab.add_node()
        assert [name for name in named_namespaces() if name.startswith(prefix)] == [blocker.name]
    finally:
        blocker.delete()


def test_a_program_that_fails_is_an_error_of_one_line(routed_lab: Lab) -> None:
    with pytest.raises(LabError, match=r"ip link show nothing in \S+ exited with status 1: .*nothing"):
        routed_lab.underlay.run(["ip", "link", "show", "nothing"])


def test_entering_a_missing_namespace_fails(namespaces: None) -> None:
    with pytest.raises(FileNotFoundError), Namespace("udpmissing").entered():
        pass
