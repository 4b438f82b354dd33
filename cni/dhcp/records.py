"""What the daemon must not forget: one file for each attachment that has been given a lease.

The files lie in a directory beside the daemon's socket (/run/cni/dhcp.sock: /run/cni/dhcp/), on a file system that a
reboot empties. A daemon that is killed and started again reads them and goes on where the former one stopped; the
plugin reads them for GC. A file of a former boot, or one that cannot be read, is worth nothing and is removed.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

from cni.dhcp.lease import Lease, LeaseError
from cni.lib.lean import sha512
from cni.lib.store import read_file, remove, write_atomic

DEFAULT_SOCKET_PATH = "/run/cni/dhcp.sock"

_BOOT_ID = "/proc/sys/kernel/random/boot_id"
_SUFFIX = ".json"


@dataclass
class Record:
    """One attachment: its names, where its interface is, what its client says, and its lease (None: it is lost).

    `namespace` is the device and inode of the network namespace; `uplink` is the host's device behind the interface.
    """

    container_id: str
    network: str
    ifname: str
    netns: str
    namespace: tuple[int, int] = (0, 0)
    hardware: bytes = b""
    uplink: str = ""
    client_id: bytes = b""
    provide: Mapping[int, bytes] = field(default_factory=dict)
    request: tuple[int, ...] = ()
    lease: Lease | None = None

    @property
    def key(self) -> tuple[str, str, str]:
        """What a DEL names it by."""
        return self.container_id, self.network, self.ifname

    def __str__(self) -> str:
        return "/".join(self.key)


class RecordDirectory:
    """The files of one daemon."""

    def __init__(self, path: str) -> None:
        self.path = path

    def save(self, record: Record) -> None:
        """Write a record, whole or not at all. Raises OSError."""
        os.makedirs(self.path, mode=0o700, exist_ok=True)
        shape = asdict(record)
        shape["hardware"], shape["client_id"] = record.hardware.hex(), record.client_id.hex()
        shape["provide"] = {str(code): value.hex() for code, value in record.provide.items()}
        shape["lease"] = record.lease.to_json() if record.lease else None
        shape["boot_id"] = _boot_id()
        write_atomic(self._file(record), json.dumps(shape, indent=1).encode())

    def forget(self, record: Record) -> None:
        """Remove a record; it may be gone. Raises OSError."""
        remove(self._file(record))

    def load(self) -> list[Record]:
        """Every record of this boot; the other files are removed."""
        try:
            names = sorted(name for name in os.listdir(self.path) if name.endswith(_SUFFIX) and name[0] != ".")
        except FileNotFoundError:
            return []
        boot_id = _boot_id()
        records = []
        for name in names:
            path = f"{self.path}/{name}"
            record = _parse(read_file(path) or b"", boot_id)
            if record is None:
                remove(path)
            else:
                records.append(record)
        return records

    def _file(self, record: Record) -> str:
        return f"{self.path}/{sha512(str(record).encode()).hexdigest()[:32]}{_SUFFIX}"


def record_directory(socket_path: str) -> RecordDirectory:
    """The directory that belongs to the daemon behind a socket."""
    stem = socket_path.removesuffix(".sock")
    return RecordDirectory(stem if stem != socket_path else socket_path + ".leases")


def _boot_id() -> str:
    return (read_file(_BOOT_ID) or b"").decode().strip()


def _parse(data: bytes, boot_id: str) -> Record | None:
    try:
        shape = json.loads(data)
        if shape.pop("boot_id") != boot_id:
            return None
        device, inode = shape.pop("namespace")
        record = Record(
            container_id=str(shape["container_id"]),
            network=str(shape["network"]),
            ifname=str(shape["ifname"]),
            netns=str(shape["netns"]),
            namespace=(int(device), int(inode)),
            uplink=str(shape["uplink"]),
            hardware=bytes.fromhex(shape["hardware"]),
            client_id=bytes.fromhex(shape["client_id"]),
            provide={int(code): bytes.fromhex(value) for code, value in shape["provide"].items()},
            request=tuple(int(code) for code in shape["request"]),
        )
        record.lease = Lease.from_json(shape["lease"]) if shape["lease"] is not None else None
        return record
    except (ValueError, TypeError, KeyError, AttributeError, LeaseError):
        return None
