"""Which pod has which of the node's devices: what host-device remembers from ADD to DEL.

    /run/cni/host-device/<hash>      udplane net1/0123abcd/eth0
                                     ens5
                                     /run/netns/cni-1234
                                     veth

The alias of a device in a pod is its name on the node: the official plugin reads it there, so ours must write it there
too, and whose the device is has no room left. So there is a file for each attachment, named after its label (see
cni.lib.ownership): the label, the device's name on the node, the path of the pod's namespace, and the kind of the
link, empty for a physical one. A device goes to one pod at a time: who gets it next ends the claims of all others.
"""

from __future__ import annotations

from cni.lib.lean import sha512
from cni.lib.ownership import network_label
from cni.lib.store import discard, is_temporary, list_directory, make_directory, read_file, write_atomic

DIRECTORY = "/run/cni/host-device"
DIRECTORY_MODE = 0o755
HASH_DIGITS = 32
N_LINES = 4


class Record:
    """What is known of a device that was given away: to whom, its name on the node, where it went, and its kind."""

    def __init__(self, owner: str = "", device: str = "", netns_path: str = "", kind: str = "") -> None:
        self.owner = owner
        self.device = device
        self.netns_path = netns_path
        self.kind = kind

    @property
    def ifname(self) -> str:
        """The device's name in the pod."""
        return self.owner.rpartition("/")[2]


def _path_of(owner: str) -> str:
    digest: str = sha512(owner.encode("utf-8", "surrogateescape")).hexdigest()
    return f"{DIRECTORY}/{digest[:HASH_DIGITS]}"


def remember(record: Record) -> None:
    """Write down that a device is about to be given away, and that nobody else has it. Raises OSError."""
    make_directory(DIRECTORY, DIRECTORY_MODE)
    for other in _records():
        if other.device == record.device and other.owner != record.owner:
            forget(other.owner)
    text = f"{record.owner}\n{record.device}\n{record.netns_path}\n{record.kind}\n"
    write_atomic(_path_of(record.owner), text.encode("utf-8", "surrogateescape"))


def forget(owner: str) -> None:
    """The owner's device is back, or it never went."""
    discard(_path_of(owner))


def of_owner(owner: str) -> Record | None:
    """What an attachment got."""
    return _read(_path_of(owner))


def of_device(device: str) -> Record | None:
    """Who got a device."""
    return next((record for record in _records() if record.device == device), None)


def stale(network: str, live: set[str]) -> list[Record]:
    """What a network's attachments got whose labels are not among `live`."""
    return [one for one in _records() if one.owner.startswith(network_label(network)) and one.owner not in live]


def clear_temporary() -> None:
    """For GC, which runs alone: remove what killed writers have left."""
    for name in list_directory(DIRECTORY):
        if is_temporary(name):
            discard(f"{DIRECTORY}/{name}")


def _records() -> list[Record]:
    names = sorted(name for name in list_directory(DIRECTORY) if not is_temporary(name))
    return [record for name in names if (record := _read(f"{DIRECTORY}/{name}")) is not None]


def _read(path: str) -> Record | None:
    content = read_file(path)
    lines = (content or b"").decode("utf-8", "surrogateescape").split("\n")[:N_LINES]
    if len(lines) < N_LINES or _path_of(lines[0]) != path or not is_device_name(lines[1]):
        return None
    return Record(*lines)


def is_device_name(name: str) -> bool:
    """Whether an alias, which anybody may have written, can be the name of a device."""
    return 0 < len(name) < 16 and name not in (".", "..") and not set("/\0 ").intersection(name)
