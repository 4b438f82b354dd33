"""Start the interpreter that is kept warm (cni/lib/warm.py), unless it runs already or cannot run here.

Called by a plugin that starts the long way, so this has to be cheap, and no failure may keep the plugin from its work.
"""

from __future__ import annotations

import fcntl

from cni.lib.lean import os
from cni.lib.store import list_directory, make_directory, read_file, remove, same_file

LOCK_SUFFIX = ".lock"
START = """
import sys
sys.path.append(sys.argv[1])
from cni.lib.warm import main
main(sys.argv[2], sys.argv[3], int(sys.argv[4]), int(sys.argv[5]))
"""


def ensure_warm(python: str, library: str, link: str, idle_seconds: int) -> None:
    """See to it that there is a warm interpreter for the next plugin.

    `link` is a symbolic link to the path of its socket, `library` the directory to import from.
    """
    if _has_seccomp_filter():
        return
    try:
        path = os.readlink(link)
        lock = _take_lock(path)
    except OSError:
        return
    try:
        os.set_inheritable(lock, True)
        null = [(os.POSIX_SPAWN_OPEN, fd, "/dev/null", os.O_RDWR, 0) for fd in range(3)]
        arguments = [python, "-IS", "-c", START, library, link, path, str(idle_seconds), str(lock)]
        os.posix_spawn(python, arguments, {}, file_actions=null)
    except OSError:
        pass
    finally:
        os.close(lock)


def _has_seccomp_filter() -> bool:
    """Whether system calls are filtered. What a filter lets pass is not to be seen, so it cannot be compared."""
    status = read_file("/proc/self/status") or b""
    return b"\nSeccomp:\t" in status and b"\nSeccomp:\t0\n" not in status


def _take_lock(path: str) -> int:
    """A descriptor with the lock that a warm interpreter holds. Raises OSError: it runs, or cannot run."""
    directory = path.rpartition("/")[0]
    make_directory(directory, 0o700)
    status = os.stat(directory)
    if status.st_uid != os.geteuid() or status.st_mode & 0o077:
        raise PermissionError(directory)
    lock = os.open(lock_of(path), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not is_lock_of(path, lock):  # the one before has removed it meanwhile
            raise FileNotFoundError(path)
    except OSError:
        os.close(lock)
        raise
    return lock


def is_lock_of(path: str, lock: int) -> bool:
    """Whether a descriptor is that of the lock file for `path`. Raises OSError: there is no such file."""
    return same_file(os.fstat(lock), os.lstat(lock_of(path)))


def lock_of(path: str) -> str:
    """The file that the warm interpreter at `path` holds locked."""
    return f"{path}{LOCK_SUFFIX}"


def forget(path: str, lock: int) -> None:
    """Remove the files of a warm interpreter that ends, given its lock, and their directory with the last of them."""
    try:
        if is_lock_of(path, lock):
            for name in (path, f"{path}.new", lock_of(path)):
                remove(name)
        os.rmdir(path.rpartition("/")[0])
    except OSError:  # somebody else is at work here
        pass


def forget_dead(directory: str) -> None:
    """Remove what warm interpreters have left there that were killed; whoever lives holds its lock."""
    for name in list_directory(directory):
        if not name.endswith(LOCK_SUFFIX):
            continue
        path = f"{directory}/{name.removesuffix(LOCK_SUFFIX)}"
        try:
            lock = _take_lock(path)
        except OSError:
            continue
        forget(path, lock)
        os.close(lock)
