"""Network namespaces: open one by its path, work inside it for a moment (namespaces(7), setns(2)).

Plugins are single-threaded and most of their work on a pod goes through a netlink socket that was opened inside, so
the process is inside only to open that socket and to write sysctls, and always comes back.
"""

from __future__ import annotations

import fcntl

from cni.lib.errors import CniError
from cni.lib.lean import CLONE_NEWNET, os, setns
from cni.lib.netlink import NetlinkSocket
from cni.lib.store import same_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType

OWN_NETNS = "/proc/thread-self/ns/net"
NS_GET_NSTYPE = 0xB703


class NetnsMissingError(CniError):
    """The path does not lead to a network namespace any more, or never did."""


class Netns:
    """An open network namespace. `path` is how the runtime named it; `fd` keeps it alive."""

    def __init__(self, path: str) -> None:
        """Open the namespace at `path`. Raises NetnsMissingError with the text of the official plugins."""
        self.path = path
        try:
            self.fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise NetnsMissingError(f'failed to Statfs "{path}": {reason.lower()}') from None
        try:
            is_netns = fcntl.ioctl(self.fd, NS_GET_NSTYPE) == CLONE_NEWNET
        except OSError:
            is_netns = False
        if not is_netns:
            magic = _filesystem_magic(self.fd)
            os.close(self.fd)
            raise NetnsMissingError(f'unknown FS magic on "{path}": {magic:x}')
        self._outside = -1

    def close(self) -> None:
        """Let go of the namespace."""
        os.close(self.fd)

    def __enter__(self) -> Netns:
        """Go inside."""
        self._outside = os.open(OWN_NETNS, os.O_RDONLY | os.O_CLOEXEC)
        setns(self.fd)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        """Come back."""
        setns(self._outside)
        os.close(self._outside)

    def netlink(self) -> NetlinkSocket:
        """A netlink socket of this namespace."""
        with self:
            return NetlinkSocket()

    def is_own(self) -> bool:
        """Whether this process is in it already."""
        return same_file(os.fstat(self.fd), os.stat(OWN_NETNS))


def open_netns(path: str) -> Netns:
    """Open the pod's namespace as interface plugins do, with their wording of the failure."""
    try:
        return Netns(path)
    except NetnsMissingError as missing:
        raise NetnsMissingError(f'failed to open netns "{path}": {missing.msg}') from None


def open_netns_if_present(path: str) -> Netns | None:
    """For DEL: None when the path is empty or the namespace is gone, which is then no error."""
    if not path:
        return None
    try:
        return Netns(path)
    except NetnsMissingError:
        return None


class NetnsLock:
    """A lock on a network namespace, for work on what it has one of, such as its nat table.

    Without an argument it is on the one that the caller is in. It is an flock(2) on the namespace itself, so it leaves
    no file behind, and nodes that share a file system but not a network do not wait for each other.
    """

    def __init__(self, netns: Netns | None = None) -> None:
        self._path = f"/proc/self/fd/{netns.fd}" if netns is not None else OWN_NETNS

    def __enter__(self) -> None:
        self._fd = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        fcntl.flock(self._fd, fcntl.LOCK_EX)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        os.close(self._fd)


def _filesystem_magic(fd: int) -> int:
    """statfs(2)'s f_type, for the error message alone."""
    import ctypes

    buffer = (ctypes.c_long * 32)()
    return int(buffer[0]) if ctypes.CDLL(None).fstatfs(fd, buffer) == 0 else 0
