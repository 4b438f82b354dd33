"""State on disk that survives the plugin: read it, replace it whole, lock it.

A file is written under a temporary name and renamed, so a plugin that is killed, or a full disk, leaves the old file
or the new one, never a torn one. Nothing is flushed to the disk: what plugins keep is about network namespaces, and
none of those survives the loss of power.
"""

from __future__ import annotations

import fcntl

from cni.lib.lean import os

S_IFMT = 0o170000
S_IFDIR = 0o040000

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType


def read_file(path: str) -> bytes | None:
    """The content of a file, or None if there is none. Raises OSError for every other reason."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        parts = []
        while part := os.read(fd, 65536):
            parts.append(part)
        return b"".join(parts)
    finally:
        os.close(fd)


def write_all(fd: int, data: bytes) -> None:
    """Write every byte. Raises OSError."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def write_atomic(path: str, data: bytes, mode: int = 0o600) -> None:
    """Replace a file's content in one step. Raises OSError."""
    temporary = temporary_of(path)
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
    try:
        try:
            write_all(fd, data)
        finally:
            os.close(fd)
        os.rename(temporary, path)
    except BaseException:
        remove(temporary)
        raise


def temporary_of(path: str) -> str:
    """Where `write_atomic` writes first. A process that is killed there leaves this file."""
    directory, slash, name = path.rpartition("/")
    return f"{directory}{slash}.{name}.tmp"


def remove(path: str) -> bool:
    """Remove a file; gives whether it was there."""
    try:
        os.unlink(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def discard(path: str) -> None:
    """Remove a file that `write_atomic` made, and what a writer that was killed left of it."""
    remove(path)
    remove(temporary_of(path))


def is_temporary(name: str) -> bool:
    """Whether `write_atomic` gives such names to what is not finished."""
    return name.startswith(".") and name.endswith(".tmp")


def same_file(one: os.stat_result, other: os.stat_result) -> bool:
    """Whether two statuses are of one file."""
    return (one.st_dev, one.st_ino) == (other.st_dev, other.st_ino)


def is_directory(path: str) -> bool:
    """Whether there is a directory of that name."""
    try:
        return os.stat(path).st_mode & S_IFMT == S_IFDIR
    except OSError:
        return False


def list_directory(path: str) -> list[str]:
    """The names in a directory, none where there is no such directory. Raises OSError for every other reason."""
    try:
        return os.listdir(path)
    except (FileNotFoundError, NotADirectoryError):
        return []


def make_directory(path: str, mode: int) -> None:
    """Make a directory, with its parents (mode 0755), unless it is there. Raises OSError."""
    if is_directory(path):
        return
    parent = path.rstrip("/").rpartition("/")[0]
    if parent:
        make_directory(parent, 0o755)
    try:
        os.mkdir(path, mode)
    except FileExistsError:  # another plugin was faster, or it is a file
        if not is_directory(path):
            raise


class FileLock:
    """An exclusive flock(2) on a file, which is made when missing; the kernel gives it back when the process dies."""

    def __init__(self, path: str, mode: int = 0o600) -> None:
        self._path = path
        self._mode = mode
        self._fd = -1

    def __enter__(self) -> FileLock:
        self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, self._mode)
        fcntl.flock(self._fd, fcntl.LOCK_EX)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        os.close(self._fd)
