"""Who holds which address: host-local's state, shared with the official plugin.

The official layout, in `<dataDir>/<network>/`:

    lock                  flock(2)ed by whoever reads or writes here
    10.1.2.3              one file for each address: `<container id>\\r\\n<interface>` (old plugins: the id alone)
    last_reserved_ip.0    where the search in range set 0 goes on

The official plugin reads every file at every ADD and DEL, to see what a container holds already. Ours keeps an index
beside it, in `<dataDir>/.udplane/<network>/`, a name that no network can have:

    <container id>@<interface>    a symbolic link whose target lists the addresses: `10.1.2.3,fd00::3`
    stamp                         the state directory as we left it: its mtime and the last reserved addresses
    boot_id                       the boot in which this store was last used

While the stamp matches, nobody else has written, so the index is complete: a verb costs the same with one
reservation and with five thousand. Otherwise everything is read once and the index is made anew. The index is a
cache and nothing more: what it says about an address is checked against the address's file, and removing it is safe.

What heals on the way: a file that a crash left empty counts as free, since whoever writes holds the lock; and when
the machine has booted since, the reservations from before belong to no pod, because no network namespace survives a
boot. That goes for those of the official plugin as well, whose files tell their age.

A file that somebody has edited in place leaves no trace in the directory, and none in the index. An attachment that
holds less than the index should know of is therefore looked for in the files, but only by who must not miss it: DEL
and CHECK.
"""

from __future__ import annotations

from cni.lib.ip import format_ip, parse_ip
from cni.lib.lean import os, sha512
from cni.lib.skel import Attachment
from cni.lib.store import FileLock, list_directory, make_directory, read_file, remove, write_all

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType

BOOT_ID = "/proc/sys/kernel/random/boot_id"
UPTIME = "/proc/uptime"
RUN_DIR = "/run"
LOCK_MODE = 0o750
FILE_MODE = 0o600
LONGEST_NAME = 255


def encode_owner(owner: Attachment) -> bytes:
    """The content of an address's file."""
    return f"{owner.container_id}\r\n{owner.ifname}".encode("utf-8", "surrogateescape")


def decode_owner(content: bytes) -> Attachment | None:
    """Who holds an address, from its file's content; None when the file says nothing."""
    text = content.decode("utf-8", "surrogateescape").strip("\0 \t\r\n")
    container_id, _, ifname = text.partition("\r\n")
    return Attachment(container_id, ifname) if text else None


class Reservations:
    """A network's reservations, locked from `with` on until it ends. Raises OSError where the disk refuses."""

    def __init__(self, data_dir: str, network: str, n_range_sets: int, forget_former_boot: bool = True) -> None:
        """The store of `network` under `data_dir`, whose configuration has `n_range_sets` range sets."""
        self._dir = f"{data_dir}/{network}"
        self._index_dir = f"{data_dir}/.udplane/{network}"
        self._n_range_sets = n_range_sets
        self._forget_former_boot = forget_former_boot
        self._by_owner: dict[Attachment, list[bytes]] | None = None  # the whole index, when it had to be made anew
        self._complete = True
        self._lock = FileLock(f"{self._dir}/lock", LOCK_MODE)

    def exists(self) -> bool:
        """Whether anything was ever reserved. Who does not reserve asks first, and leaves no empty store behind."""
        return read_file(f"{self._dir}/lock") is not None or any(map(parse_ip, list_directory(self._dir)))

    def __enter__(self) -> Reservations:
        make_directory(self._dir, 0o755)
        self._lock.__enter__()
        try:
            try:
                make_directory(self._index_dir, 0o755)
            except OSError:  # a full disk: without an index, everything is read
                pass
            self._notice_boot()
            if read_file(f"{self._index_dir}/stamp") != self._stamp():
                self.rebuild_index()
        except BaseException:
            self._lock.__exit__(None, None, None)
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        try:
            if self._complete:
                self._write_index("stamp", self._stamp())
        finally:
            self._lock.__exit__(kind, error, tb)

    def reserve(self, ip: bytes, owner: Attachment, range_set: int) -> bool:
        """Take an address; False if it is taken already."""
        path = self._path(ip)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        try:
            fd = os.open(path, flags, FILE_MODE)
        except FileExistsError:
            if self._owner(ip) is not None:
                return False
            os.unlink(path)
            fd = os.open(path, flags, FILE_MODE)
        try:
            write_all(fd, encode_owner(owner))
            _write(f"{self._dir}/last_reserved_ip.{range_set}", format_ip(ip).encode())
        except OSError:
            os.unlink(path)
            raise
        finally:
            os.close(fd)
        self._index(owner, [*self._indexed(owner), ip])
        return True

    def held_by(self, owner: Attachment) -> list[bytes]:
        """The addresses that an attachment holds, as far as the index knows."""
        return [ip for ip in self._indexed(owner) if self._owner(ip) == owner]

    def surely_held_by(self, *owners: Attachment) -> dict[bytes, Attachment]:
        """The addresses that attachments hold; reads every file if the index knows fewer than there should be."""
        held = {ip: owner for owner in owners for ip in self.held_by(owner)}
        if len(held) < self._n_range_sets:
            held = {ip: owner for ip, owner in self.all().items() if owner in owners}
        return held

    def release_ips(self, owner: Attachment, ips: list[bytes]) -> None:
        """Give back some of what an attachment holds; what it does not hold any more goes from the index as well."""
        for ip in ips:
            remove(self._path(ip))
        self._index(owner, self.held_by(owner))

    def all(self) -> dict[bytes, Attachment]:
        """Every reservation; reads every file. Files that a crash left empty are removed on the way."""
        found = {}
        for ip in self.taken():
            owner = self._owner(ip)
            if owner is None:
                remove(self._path(ip))
            else:
                found[ip] = owner
        return found

    def taken(self) -> set[bytes]:
        """The addresses that have a file."""
        return {ip for ip in map(parse_ip, os.listdir(self._dir)) if ip}

    def last_reserved(self, range_set: int) -> bytes | None:
        """Where the search in a range set goes on."""
        text = read_file(f"{self._dir}/last_reserved_ip.{range_set}") or b""
        return parse_ip(text.decode("ascii", "replace"))

    def _path(self, ip: bytes) -> str:
        return f"{self._dir}/{format_ip(ip)}"

    def _owner(self, ip: bytes) -> Attachment | None:
        return decode_owner(read_file(self._path(ip)) or b"")

    def _stamp(self) -> bytes:
        lasts = [read_file(f"{self._dir}/last_reserved_ip.{i}") or b"" for i in range(self._n_range_sets)]
        return b" ".join([str(os.stat(self._dir).st_mtime_ns).encode(), *lasts])

    def _write_index(self, name: str, content: bytes) -> None:
        try:
            _write(f"{self._index_dir}/{name}", content)
        except OSError:  # a full disk: without a stamp that matches, the next verb makes the index anew
            remove(f"{self._index_dir}/{name}")

    def _marker(self, owner: Attachment) -> str:
        name = f"{owner.container_id}@{owner.ifname}"
        if len(name) > LONGEST_NAME:
            name = "@" + sha512(name.encode("utf-8", "surrogateescape")).hexdigest()[:32]
        return f"{self._index_dir}/{name}"

    def _indexed(self, owner: Attachment) -> list[bytes]:
        if self._by_owner is not None:
            return self._by_owner.get(owner, [])
        try:
            target = os.readlink(self._marker(owner))
        except OSError:
            return []
        return [ip for ip in map(parse_ip, target.split(",")) if ip]

    def _index(self, owner: Attachment, ips: list[bytes]) -> None:
        marker = self._marker(owner)
        if self._by_owner is not None:
            self._by_owner[owner] = ips
        try:
            remove(marker)
            if ips:
                os.symlink(",".join(map(format_ip, ips)), marker)
        except OSError:  # as above
            self._complete = False

    def rebuild_index(self) -> None:
        """Read every file, and keep the result in memory as well, in case the disk takes no index."""
        by_owner: dict[Attachment, list[bytes]] = {}
        for ip, owner in self.all().items():
            by_owner.setdefault(owner, []).append(ip)
        wanted = {self._marker(owner) for owner in by_owner}
        for name in list_directory(self._index_dir):
            path = f"{self._index_dir}/{name}"
            if "@" in name and path not in wanted:
                remove(path)
        for owner, ips in by_owner.items():
            if set(self._indexed(owner)) != set(ips):
                self._index(owner, ips)
        self._by_owner = by_owner

    def _notice_boot(self) -> None:
        """Free what a former boot left. Who was indexed then, or has a file older than this boot, is gone.

        At the first use on a node nobody is indexed, but the official plugin may have been here before.
        """
        path = f"{self._index_dir}/boot_id"
        current, former = read_file(BOOT_ID) or b"", read_file(path)
        if current == former or not current:
            return
        if self._forget_former_boot:
            booted = _boot_time()
            for ip, owner in self.all().items():
                if (former and ip in self._indexed(owner)) or os.stat(self._path(ip)).st_mtime < booted:
                    remove(self._path(ip))
        self._write_index("boot_id", current)


def _write(path: str, content: bytes) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, FILE_MODE)
    try:
        write_all(fd, content)
    finally:
        os.close(fd)


def _boot_time() -> float:
    """When this machine was booted, in seconds since the epoch; never later than the clock of that moment said.

    The clock may have been set forward since then, and files of this boot look older for it. What lies in /run was
    made in this boot, so the oldest thing there tells what the clock said at first.
    """
    import time

    booted = time.time() - float((read_file(UPTIME) or b"0").split()[0])
    if os.stat(RUN_DIR).st_dev != os.stat("/").st_dev:  # a file system in memory, as it should be
        booted = min(booted, *(os.lstat(f"{RUN_DIR}/{name}").st_ctime for name in list_directory(RUN_DIR)), booted)
    return booted
