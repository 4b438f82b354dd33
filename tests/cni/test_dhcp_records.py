"""The daemon's records on disk, and what a configuration says of DHCP options."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cni.dhcp.attachment import Attachment
from cni.dhcp.client import Timing
from cni.dhcp.lease import Lease
from cni.dhcp.loop import Loop
from cni.dhcp.message import BOOTREPLY, Kind, Message
from cni.dhcp.options import default_client_id, read_provided, read_requested
from cni.dhcp.records import Record, RecordDirectory, record_directory
from cni.lib.errors import CniError
from cni.lib.gojson import Fields

LEASE = Lease(bytes([10, 0, 0, 9]), {51: bytes(4), 54: bytes([10, 0, 0, 1])}, 12.5, bytes(6))


def example(**changes: Any) -> Record:
    record = Record("c1", "lan", "eth0", "/run/netns/x", (4, 77), bytes(6), "br0", b"\0id", {12: b"web"}, (1, 3), LEASE)
    for name, value in changes.items():
        setattr(record, name, value)
    return record


def test_record_reads_back(tmp_path: Path) -> None:
    directory = RecordDirectory(str(tmp_path / "new"))
    assert directory.load() == []
    records = [example(), example(ifname="eth1", lease=None)]
    for record in records:
        directory.save(record)
    assert sorted(directory.load(), key=str) == records
    directory.forget(records[0])
    directory.forget(records[0])
    assert directory.load() == records[1:]


class Flood:
    """A port on which there is always one more message."""

    def __init__(self, message: bytes) -> None:
        self.message = message
        self.n_read = 0

    def receive(self) -> tuple[bytes, bytes]:
        self.n_read += 1
        assert self.n_read < 10_000
        return self.message, bytes(6)


@pytest.mark.parametrize("kind", [None, Kind.NAK])
def test_a_flood_of_answers_leaves_the_other_pods_their_turn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: Kind | None
) -> None:
    attachment = Attachment(example(), RecordDirectory(str(tmp_path)), Loop(), print, Timing(), broadcast=False)
    flood = Flood(Message(BOOTREPLY, kind, 7, bytes(6)).encode() if kind else b"nonsense")
    monkeypatch.setattr(attachment, "_port", flood)
    attachment._on_answer()
    assert 1 < flood.n_read < 100


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b"null", b'{"boot_id": "x"}', b"\xff\xfe"])
def test_damaged_record_is_removed(tmp_path: Path, damage: bytes) -> None:
    (tmp_path / "torn.json").write_bytes(damage)
    assert RecordDirectory(str(tmp_path)).load() == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("key", ["boot_id", "container_id", "namespace", "hardware", "lease", "provide", "request"])
@pytest.mark.parametrize("value", [None, 5, "zz", {"a": "b"}])
def test_record_with_one_wrong_value_never_raises(tmp_path: Path, key: str, value: object) -> None:
    directory = RecordDirectory(str(tmp_path))
    directory.save(example())
    (file,) = tmp_path.iterdir()
    file.write_text(json.dumps({**json.loads(file.read_text()), key: value}))
    assert len(directory.load()) == len(list(tmp_path.iterdir()))


def test_record_of_a_former_boot_is_removed(tmp_path: Path) -> None:
    directory = RecordDirectory(str(tmp_path))
    directory.save(example())
    (file,) = tmp_path.iterdir()
    file.write_text(json.dumps({**json.loads(file.read_text()), "boot_id": "another"}))
    assert directory.load() == []
    assert not file.exists()


def test_directory_lies_beside_the_socket() -> None:
    assert record_directory("/run/cni/dhcp.sock").path == "/run/cni/dhcp"
    assert record_directory("/run/x").path == "/run/x.leases"


def test_client_identifier_fits_its_option() -> None:
    assert default_client_id("c1", "lan", "eth0") == b"\0c1/lan/eth0"
    assert len(default_client_id("c" * 300, "lan", "eth0")) == 255


def ipam(**conf: Any) -> Fields:
    return Fields(conf, "IPAMConfig")


def test_provided_options() -> None:
    conf = ipam(
        provide=[
            {"option": "12", "value": "web"},
            {"option": "vendor-class-identifier", "fromArg": "VENDOR"},
            {"option": "77", "fromArg": "ABSENT"},
        ]
    )
    assert read_provided(conf, "IgnoreUnknown=1;VENDOR=a=b") == {12: b"web", 60: b"a=b"}


@pytest.mark.parametrize(
    ("request_list", "codes"),
    [
        ([], (1, 3)),
        ([{"option": "121"}], (121, 1, 3)),
        ([{"option": "routers"}], (3, 1)),
        ([{"skipDefault": True, "option": "subnet-mask"}, {"option": "121"}], (1, 121)),
        ([{"skipDefault": True}], ()),
    ],
)
def test_requested_options(request_list: list[dict[str, object]], codes: tuple[int, ...]) -> None:
    assert read_requested(ipam(request=request_list)) == codes


@pytest.mark.parametrize(
    ("option", "reason"),
    [("nonsense", "invalid syntax"), ("", "invalid syntax"), ("256", "value out of range"), ("²", "invalid syntax")],
)
def test_unknown_option(option: str, reason: str) -> None:
    with pytest.raises(CniError, match=f"Can not parse option.*{reason}"):
        read_requested(ipam(request=[{"option": option}]))


def test_value_that_is_too_long() -> None:
    with pytest.raises(CniError, match='value too long for option "12"'):
        read_provided(ipam(provide=[{"option": "12", "value": "x" * 256}]), "")
    with pytest.raises(CniError, match='from CNI_ARGS "NAME"'):
        read_provided(ipam(provide=[{"option": "12", "fromArg": "NAME"}]), "NAME=" + "x" * 256)
