"""The run directory: one node at a time, and a record that survives it."""

import os
import subprocess
import sys
from ipaddress import IPv4Address, IPv4Network, IPv6Network
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dataplane.errors import NodeError
from dataplane.kernel.leftovers import Leftovers
from dataplane.lab.netns import Namespace
from dataplane.leases.lease import Lease, LeaseAttrs, Subnets
from dataplane.node.run_directory import NodeRecord, RunDirectory, claimed_device
from dataplane.stores.base import StoreOptions
from tests.conftest import needs_whole_system

RECORD = NodeRecord(
    store="etcd://127.0.0.1:2379",
    store_options=StoreOptions(etcd_prefix="/pods", etcd_username="me", etcd_password="secret"),
    lease=Lease(
        Subnets(IPv4Network("10.5.1.0/24"), IPv6Network("fd00:5:1::/64")),
        LeaseAttrs(public_ip=IPv4Address("192.168.0.1"), backend_data='{"a":1}'),
        expires=1e9,
        node="alpha",
    ),
    leftovers=Leftovers({"udplane0": "tun"}, (IPv4Network("10.5.0.0/16"),), (Path("/run/flannel/subnet.env"),)),
    netns="net:[1]",
)


def test_a_record_is_recalled_but_for_the_password(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path)
    directory.remember(RECORD)
    recalled = directory.recall()
    assert recalled is not None
    assert recalled.lease == RECORD.lease
    assert recalled.store_options.etcd_username == "me"
    assert recalled.store_options.etcd_password == ""
    assert "secret" not in (tmp_path / "node.json").read_text()
    assert recalled.leftovers == RECORD.leftovers
    assert recalled.netns == "net:[1]"


def test_where_no_node_was_there_is_no_record(tmp_path: Path) -> None:
    assert RunDirectory(tmp_path).recall() is None


@settings(suppress_health_check=[*HealthCheck], max_examples=50)
@given(st.one_of(st.binary(max_size=60), st.sampled_from([b"{}", b"[]", b'{"lease": 3}', b'{"lease": {}}'])))
def test_a_damaged_record_is_one_clear_line(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "node.json").write_bytes(data)
    with pytest.raises(NodeError, match=r"node.json cannot be read .*; remove it") as error:
        RunDirectory(tmp_path).recall()
    assert "\n" not in str(error.value)


def test_a_second_node_is_refused_until_the_first_is_gone(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path / "run")
    with (
        directory.locked(),
        pytest.raises(NodeError, match="a node runs already with"),
        RunDirectory(tmp_path / "run").locked(),
    ):
        raise AssertionError("both hold the lock")
    with RunDirectory(tmp_path / "run").locked():
        pass


def test_the_lock_of_a_killed_process_is_free(tmp_path: Path) -> None:
    text = "from dataplane.node.run_directory import RunDirectory; from pathlib import Path\n"
    text += f"with RunDirectory(Path({str(tmp_path)!r})).locked(): print('locked', flush=True); input()"
    with subprocess.Popen([sys.executable, "-I", "-c", text], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == b"locked\n"
        with pytest.raises(NodeError), RunDirectory(tmp_path).locked():
            raise AssertionError("both hold the lock")
        holder.kill()
    with RunDirectory(tmp_path).locked():
        pass


def test_a_directory_that_cannot_be_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with (
        pytest.raises(NodeError, match=r"cannot use the run directory .*; run as root or choose another --run-dir"),
        RunDirectory(tmp_path / "file" / "run").locked(),
    ):
        raise AssertionError("it was made all the same")


def test_one_node_for_each_device() -> None:
    name = f"u{os.getpid()}"
    with (
        claimed_device(name),
        claimed_device(name + "b"),
        pytest.raises(NodeError, match=f"another node, process {os.getpid()}, uses the device {name}"),
        claimed_device(name),
    ):
        raise AssertionError("both hold the device")
    with claimed_device(name):
        pass


def test_forgetting_leaves_nothing(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path / "run")
    with directory.locked():
        directory.remember(RECORD)
        directory.forget()
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("listens", [True, False])
def test_a_stranger_cannot_keep_a_node_from_its_device(namespaces: None, listens: bool) -> None:
    """Any user can bind the abstract name that claims a device."""
    needs_whole_system("a second user")
    space = Namespace.create(f"claim{os.getpid()}")
    program = "import socket; s = socket.socket(socket.AF_UNIX); s.bind('\\0udplane/tun7')\n"
    program += "s.listen(0)\n" if listens else ""
    command = ["setpriv", "--reuid=65534", sys.executable, "-I", "-c", program + "print('bound', flush=True); input()"]
    try:
        with (
            space.entered(),
            subprocess.Popen(space.command(command), stdin=subprocess.PIPE, stdout=subprocess.PIPE) as stranger,
        ):
            assert stranger.stdout and stranger.stdin
            assert stranger.stdout.readline() == b"bound\n"
            with claimed_device("tun7"):
                pass
            stranger.stdin.close()
    finally:
        space.delete()
