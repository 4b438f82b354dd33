"""Whatever a plugin is given, it answers with one error object and status 1, or it succeeds; and it leaves nothing.

    test process: hypothesis makes a request          node of its own: fuzz_worker.py
        files, then calls (plugin, CNI_*, stdin)  ->    skel.run(plugin, ...)  in process, pods p1 and p2
        statuses, outputs, what is left           <-    everything outside its state directories is read-only

The examples of one run come to more than 20,000.
"""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.cni.fuzz.strategies import (
    ENVIRONMENT_CHARACTERS,
    KINDS,
    NETCONFS,
    STATE_FILES,
    VERBS,
    VERSIONS,
    environments,
    netconfs,
    subnet_envs,
)
from tests.cni.world.world import UNSHARE, cni_env, install_plugins, require_world

Call = dict[str, Any]
Answers = list[dict[str, Any]]


def examples(count: int) -> settings:
    """That many examples, however long one takes; the machine's speed is not what is tested."""
    checks = [HealthCheck.too_slow, HealthCheck.function_scoped_fixture, HealthCheck.filter_too_much]
    return settings(max_examples=count, deadline=None, suppress_health_check=checks)


class FuzzNode:
    """A running fuzz_worker.py."""

    def __init__(self, bin_dir: Path) -> None:
        command = [*UNSHARE, sys.executable, "-I", str(Path(__file__).with_name("fuzz_worker.py")), str(bin_dir)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def __call__(self, calls: list[Call], files: dict[str, str] | None = None) -> Answers:
        """The answers to the calls, made after the files were laid out."""
        assert self._process.stdin and self._process.stdout
        self._process.stdin.write(json.dumps({"files": files or {}, "calls": calls}) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, "the plugin took its process with it"
        reply = json.loads(line)
        assert isinstance(reply, list), reply
        return reply

    def close(self) -> None:
        """End the worker, and with it all that it has."""
        assert self._process.stdin and self._process.stdout
        self._process.stdin.close()
        self._process.wait(30)
        self._process.stdout.close()


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FuzzNode]:
    require_world()
    node = FuzzNode(install_plugins(tmp_path_factory.mktemp("bin")))
    yield node
    node.close()


def assert_well_formed(call: Call, answer: dict[str, Any]) -> None:
    """A success whose output is a result or nothing, or exactly one error object."""
    assert answer["internal"] is None, f"{answer['internal']} was told as {answer['stdout']}"
    if answer["exit"] == 0:
        verb = call["env"].get("CNI_COMMAND")
        assert isinstance(json.loads(answer["stdout"]), dict) if verb in ("ADD", "VERSION") else answer["stdout"] == ""
        return
    error = json.loads(answer["stdout"])
    assert answer["exit"] == 1
    assert set(error) <= {"code", "msg", "details"}
    assert isinstance(error["code"], int)
    assert 1 <= error["code"] <= 999
    assert isinstance(error["msg"], str)
    assert error["msg"]


def assert_harmless(node: FuzzNode, call: Call, files: dict[str, str] | None = None) -> None:
    """The call's answer is well formed; it leaves nothing when it failed, and DEL takes back what an ADD made."""
    undo = {**call, "env": {**call["env"], "CNI_COMMAND": "DEL"}}
    is_add = call["env"].get("CNI_COMMAND") == "ADD"
    answers = node([call, undo] if is_add else [call], files)
    for made, answer in zip([call, undo], answers, strict=False):
        assert_well_formed(made, answer)
    if answers[0]["exit"] != 0 or (is_add and answers[1]["exit"] == 0):
        assert answers[-1]["left"] == []


@examples(5000)
@given(
    kind=st.sampled_from(KINDS),
    env=environments(st.sampled_from([*VERBS, "VERSION", "", "add", "\udcff"])),
    stdin=st.one_of(st.text(max_size=30), st.binary(max_size=30).map(lambda data: data.decode("latin-1")), st.just("")),
)
def test_any_environment_and_any_input(node: FuzzNode, kind: str, env: dict[str, str], stdin: str) -> None:
    [answer] = node([{"kind": kind, "env": env, "stdin": stdin}])
    assert_well_formed({"env": env}, answer)
    assert answer["left"] == []


@examples(2000)
@given(env=st.dictionaries(st.sampled_from(list(cni_env("ADD"))), st.text(ENVIRONMENT_CHARACTERS, max_size=24)))
def test_variables_of_any_text(node: FuzzNode, env: dict[str, str]) -> None:
    call = {"kind": "host-local", "env": env, "stdin": json.dumps({"name": "net1", **NETCONFS["host-local"]})}
    assert_harmless(node, call)


@pytest.mark.parametrize("kind", KINDS)
def test_netconfs_near_to_valid_ones(node: FuzzNode, kind: str) -> None:
    @examples(900)
    @given(stdin=netconfs(kind), env=environments(st.sampled_from(["ADD", "ADD", *VERBS])))
    def check(stdin: str, env: dict[str, str]) -> None:
        assert_harmless(node, {"kind": kind, "env": env, "stdin": stdin})

    check()


@pytest.mark.parametrize("kind", ["host-local", "flannel", "tuning"])
def test_state_files_of_any_content(node: FuzzNode, kind: str) -> None:
    @examples(700)
    @given(files=STATE_FILES, verb=st.sampled_from(VERBS))
    def check(files: dict[str, str], verb: str) -> None:
        conf = {"cniVersion": "1.1.0", "name": "net1", **NETCONFS[kind], "cni.dev/valid-attachments": []}
        assert_harmless(node, {"kind": kind, "env": cni_env(verb), "stdin": json.dumps(conf)}, files)

    check()


@examples(1500)
@given(content=subnet_envs(), version=st.sampled_from(VERSIONS), verb=st.sampled_from(["ADD", "ADD", *VERBS]))
def test_subnet_env_of_any_content(node: FuzzNode, content: str, version: str, verb: str) -> None:
    conf = {"cniVersion": version, "name": "net1", "type": "flannel", "cni.dev/valid-attachments": []}
    call = {"kind": "flannel", "env": cni_env(verb), "stdin": json.dumps(conf)}
    assert_harmless(node, call, {"/run/flannel/subnet.env": content})


PATHS = [
    ("flannel", ("subnetFile",)),
    ("flannel", ("dataDir",)),
    ("tuning", ("dataDir",)),
    ("host-local", ("ipam", "dataDir")),
    ("host-local", ("ipam", "resolvConf")),
    ("bridge", ("ipam", "dataDir")),
    ("dhcp", ("ipam", "daemonSocketPath")),
    ("host-device", ("kernelpath",)),
    ("host-device", ("pciBusID",)),
    ("host-device", ("runtimeConfig", "deviceID")),
]
"""Keys of netconfs that name files."""


@pytest.mark.parametrize(("kind", "keys"), PATHS)
def test_a_null_byte_in_a_files_name(node: FuzzNode, kind: str, keys: tuple[str, ...]) -> None:
    conf = copy.deepcopy(NETCONFS[kind]) | {"cniVersion": "1.0.0", "name": "net1", "type": kind}
    *parents, last = keys
    section = conf
    for key in parents:
        section = section[key]
    section[last] = "/run/\0x"
    for verb in VERBS:
        env = {"CNI_COMMAND": verb, "CNI_CONTAINERID": "c1", "CNI_NETNS": "/run/netns/p1", "CNI_IFNAME": "eth0"}
        assert_harmless(node, {"kind": kind, "stdin": json.dumps(conf), "env": env | {"CNI_PATH": "/opt/cni/bin"}})
