"""The runtime of the labs: pods connected by the plugins of this repository, as `udplane cni install` puts them.

pod1   pod2        10.254.7.2, .3
  |     |
cni0  node1        10.254.7.1
"""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dataplane.lab.netns import LabError
from dataplane.lab.overlay import UDPLANE
from dataplane.lab.ping import ping
from dataplane.lab.runtime import Runtime
from dataplane.lab.topology import Lab


@pytest.fixture(scope="module")
def bin_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("bin")
    command = [str(UDPLANE), "cni", "install", "--bin-dir", str(directory), "--keep-warm", "0"]
    subprocess.run(command, check=True, capture_output=True)
    return directory


@pytest.fixture
def lab(namespaces: None) -> Iterator[Lab]:
    with Lab(versions=(4,)) as lab:
        lab.add_node()
        yield lab


def conflist(data_dir: Path, subnet: str) -> dict[str, Any]:
    ipam = {"type": "host-local", "ranges": [[{"subnet": subnet}]], "dataDir": str(data_dir)}
    bridge = {"type": "bridge", "bridge": "cni0", "isGateway": True, "ipam": ipam}
    return {"cniVersion": "1.0.0", "name": "lab", "plugins": [bridge, {"type": "portmap"}]}


def test_pods_reach_each_other_and_leave_nothing(lab: Lab, bin_dir: Path, tmp_path: Path) -> None:
    (node,) = lab.nodes
    runtime = Runtime(node, bin_dir, conflist(tmp_path, "10.254.7.0/24"))
    first, second = lab.start_pod(node, runtime.add), lab.start_pod(node, runtime.add)
    assert [str(pod.address(4)) for pod in node.pods] == ["10.254.7.2", "10.254.7.3"]
    (reply,) = ping(first.netns, second.address(4))
    assert reply is not None
    assert reply.echoed
    links = {link["ifname"] for link in json.loads(node.netns.run(["ip", "-json", "link"]).stdout)}
    assert {"cni0", first.host_device, second.host_device} <= links
    for pod in node.pods:
        runtime.delete(pod)
    left = {link["ifname"] for link in json.loads(node.netns.run(["ip", "-json", "link"]).stdout)}
    assert links - left == {first.host_device, second.host_device}
    assert [file.name for file in (tmp_path / "lab").iterdir() if file.name.startswith("10.")] == []


def test_a_plugins_error_reaches_the_caller(lab: Lab, bin_dir: Path, tmp_path: Path) -> None:
    (node,) = lab.nodes
    runtime = Runtime(node, bin_dir, conflist(tmp_path, "no subnet"))
    with pytest.raises(LabError, match=r"CNI plugin bridge, ADD for pod1: .*no subnet"):
        lab.start_pod(node, runtime.add)
