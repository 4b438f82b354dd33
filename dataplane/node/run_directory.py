"""The run directory: what a node keeps for the commands that talk to it or come after it.

The directory itself is locked (flock) by the running node; a second one with the same directory is refused.

| file | what |
| --- | --- |
| `control.sock` | the control socket, while the node runs |
| `node.json` | the lease and the devices that the node has, kept so that `udplane leave` can give them back |
"""

import contextlib
import errno
import fcntl
import json
import logging
import os
import socket
import struct
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from ipaddress import ip_network
from pathlib import Path

from dataplane.errors import NodeError, UdplaneError, file_error
from dataplane.kernel.leftovers import NOTHING, Leftovers
from dataplane.leases.lease import Lease, LeaseAttrs, Subnets
from dataplane.stores.base import StoreOptions

_log = logging.getLogger(__name__)

_CREDENTIALS_LEN = struct.calcsize("3i")


@dataclass(frozen=True, slots=True)
class NodeRecord:
    """All that must be known to take a node away that does not run any more."""

    store: str
    store_options: StoreOptions
    lease: Lease
    leftovers: Leftovers
    netns: str
    """Which network namespace the device is in: `net:[4026531840]`."""

    def to_json(self) -> str:
        """The record as a text. The store's password is left out: whoever leaves has to give it again."""
        options = asdict(replace(self.store_options, etcd_password=""))
        lease = {"key": self.lease.key, "value": self.lease.attrs.to_json(), "expires": self.lease.expires}
        document = {
            "store": self.store,
            "store_options": options,
            "lease": lease | {"node": self.lease.node, "mark": self.lease.mark},
            "devices": dict(self.leftovers.devices),
            "routed_networks": [str(network) for network in self.leftovers.networks],
            "files": [str(path) for path in self.leftovers.files],
            "netns": self.netns,
        }
        return json.dumps(document, indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> "NodeRecord":
        """Read what `to_json` wrote. ValueError, TypeError, KeyError or UdplaneError for anything else."""
        document = json.loads(text)
        lease = document["lease"]
        return cls(
            store=str(document["store"]),
            store_options=StoreOptions(**document["store_options"]),
            lease=Lease(
                Subnets.from_key(lease["key"]),
                LeaseAttrs.from_json(lease["value"]),
                lease["expires"],
                lease["node"],
                mark=str(lease.get("mark", "")),
            ),
            leftovers=Leftovers(
                {str(name): str(kind) for name, kind in document["devices"].items()},
                tuple(ip_network(text) for text in document["routed_networks"]),
                tuple(Path(text) for text in document.get("files", [document.get("subnet_file")]) if text),
            ),
            netns=str(document["netns"]),
        )


class RunDirectory:
    """One node's run directory at `path`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.control_socket = path / "control.sock"
        self.note = path / "node.json"

    @contextlib.contextmanager
    def locked(self, wait_seconds: float = 0) -> Iterator[None]:
        """Be the one node of this directory, which is made if need be; NodeError if another is, even after waiting."""
        try:
            self.path.mkdir(mode=0o755, parents=True, exist_ok=True)
            descriptor = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise NodeError(
                f"cannot use the run directory {self.path}: {error.strerror}; run as root or choose another --run-dir"
            ) from error
        try:
            deadline = time.monotonic() + wait_seconds
            while not _try_lock(descriptor):
                if time.monotonic() >= deadline:
                    raise NodeError(
                        f"a node runs already with {self.path}; see `udplane status --run-dir {self.path}`, "
                        "or give this one its own --run-dir, --subnet-file and --tun"
                    )
                time.sleep(0.02)
            yield
        finally:
            os.close(descriptor)

    def remember(self, record: NodeRecord) -> None:
        """Keep `record`, whole or not at all; NodeError if the file system refuses."""
        text = record.to_json()
        temporary = self.note.with_suffix(".new")
        try:
            self.path.mkdir(mode=0o755, parents=True, exist_ok=True)
            temporary.touch(mode=0o600)
            temporary.write_text(text)
            temporary.replace(self.note)
        except OSError as error:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise file_error(f"cannot write {self.note}: {{}}; choose another --run-dir", error) from error

    def recall(self) -> NodeRecord | None:
        """What the last node here had; None if there was none. NodeError if the file is damaged."""
        try:
            return NodeRecord.from_json(self.note.read_text())
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError, KeyError, AttributeError, UdplaneError) as error:
            raise NodeError(
                f"{self.note} cannot be read ({error}); remove it, and the device with `ip link delete` yourself"
            ) from error

    def forget(self) -> None:
        """The node is gone for good."""
        for name in ("node.json", "control.sock"):
            (self.path / name).unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            self.path.rmdir()


class Note:
    """The record of a node in its run directory: a `wishes.Wish`. Set `record`; None is nothing to note yet."""

    vital = False
    leftovers = NOTHING

    def __init__(self, directory: RunDirectory) -> None:
        self.what = f"the note {directory.note}"
        self.record: NodeRecord | None = None
        self._directory = directory

    def difference(self) -> str:
        """Whether it is gone or another."""
        try:
            text = self._directory.note.read_text()
        except OSError as error:
            return f"was gone ({error.strerror})" if self.record is not None else ""
        return "was changed" if self.record is not None and text != self.record.to_json() else ""

    def fulfil(self) -> None:
        """Write it."""
        if self.record is not None:
            self._directory.remember(self.record)


@contextlib.contextmanager
def claimed_device(tun: str) -> Iterator[None]:
    """Be the one node in this network namespace that uses the device `tun`; NodeError if another one does.

    A TUN with several queues lets several processes attach, so the kernel would not refuse a second node. An abstract
    unix socket belongs to the network namespace and vanishes with its process (unix(7)), which makes it the lock that
    is needed. But anybody can have that name: it counts if root or this user has it.
    """
    name = f"\0udplane/{tun}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as claim:
        try:
            claim.bind(name)
            claim.listen(1)  # so that others can see whose it is
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            holder = _holder(name)
            if holder is None or holder[1] not in (0, os.geteuid()):
                stranger = f"process {holder[0]} of user {holder[1]}" if holder else "somebody"
                _log.warning("%s who is no node has the name that claims %s; going on without it", stranger, tun)
            else:
                raise NodeError(
                    f"another node, process {holder[0]}, uses the device {tun} in this network namespace; stop it, or "
                    "give this one its own --tun"
                ) from error
        yield


def _holder(name: str) -> tuple[int, int] | None:
    """Process and user who listen at the abstract unix socket `name`; None if nobody listens."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.setblocking(False)
        try:
            sock.connect(name)
        except BlockingIOError:
            pass  # connections that nobody takes fill its queue
        except OSError:
            return None
        try:
            pid, uid, _ = struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS_LEN))
        except OSError:
            return None
    return pid, uid


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
