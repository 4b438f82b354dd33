"""The plugin of docs/cni-own-plugin.md, in both languages, as it stands there."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cni.node import HOST_LOCAL, call, collect, conf, refused
from tests.cni.world.world import BIN_DIR, REPO, World, cni_env, install_plugins, require_world

PAGE = (REPO / "docs" / "cni-own-plugin.md").read_text()
PLUGINS = dict(re.findall(r"```(sh|python)\n(.*?)```", PAGE, re.DOTALL))
HOSTS = conf("hosts")
PTP = conf("ptp", ipam=HOST_LOCAL)


@pytest.fixture(params=PLUGINS)
def node(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    """A node with udplane's plugins and the one of the page."""
    require_world()
    missing = [program for program in ("jq", "flock") if request.param == "sh" and shutil.which(program) is None]
    if missing:
        pytest.skip(f"needs {', '.join(missing)}: apt-get install jq util-linux")
    with World(install_plugins(tmp_path)) as world:
        world.reset("p1", "p2")
        world.write(f"{BIN_DIR}/hosts", PLUGINS[request.param])
        world.sh(f"chmod +x {BIN_DIR}/hosts")
        yield world


def lines(node: World) -> list[str]:
    return node.sh("cat /run/hosts/net1 2>/dev/null || true").splitlines()


def add(node: World, pod: str) -> dict[str, Any]:
    return {"prevResult": call(node, "ADD", {**HOSTS, "prevResult": call(node, "ADD", PTP, pod)}, pod)}


def test_a_pods_life(node: World) -> None:
    call(node, "DEL", HOSTS)
    result = add(node, "p1")
    assert result["prevResult"]["ips"][0]["address"] == "10.9.0.2/24"
    add(node, "p2")
    assert lines(node) == ["10.9.0.2  container-p1", "10.9.0.3  container-p2"]
    call(node, "CHECK", {**HOSTS, **result})
    for _ in range(2):
        call(node, "DEL", HOSTS, CNI_NETNS="")
    assert lines(node) == ["10.9.0.3  container-p2"]
    assert "has no line of container-p1" in refused(node, "CHECK", {**HOSTS, **result})["msg"]
    collect(node, HOSTS, "p2")
    assert lines(node) == ["10.9.0.3  container-p2"]


def test_what_is_not_right_is_an_error_document(node: World) -> None:
    error = refused(node, "ADD", HOSTS)
    assert (error["code"], error["msg"]) == (7, "hosts: comes after the plugin that wires the pod")
    assert refused(node, "FROB", HOSTS)["code"] == 4
    env = cni_env("VERSION", CNI_CONTAINERID=None, CNI_NETNS=None, CNI_IFNAME=None)
    assert "1.1.0" in node.plugin("hosts", "VERSION", "", env).json["supportedVersions"]


def test_twenty_at_once(node: World) -> None:
    result = call(node, "ADD", PTP)
    node.write("/run/conf.json", json.dumps({**HOSTS, "prevResult": result}))
    command = ["sh", "-c", f"exec {BIN_DIR}/hosts </run/conf.json"]
    containers = [f"c{number}" for number in range(20)]
    pids = [node.start(*command, log=f"/run/{c}.log", env=cni_env("ADD", CNI_CONTAINERID=c)) for c in containers]
    node.sh("timeout 30 sh -c 'until test $(wc -l </run/hosts/net1) = 20; do sleep 0.02; done'")
    for pid in pids:
        node.stop(pid)
    assert sorted(lines(node)) == sorted(f"10.9.0.2  {container}" for container in containers)
