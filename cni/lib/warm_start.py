"""Start the interpreter that is kept warm (cni/lib/warm.py), unless it runs already or cannot run here.

Called by a plugin that starts the long way, so this has to be cheap, and no failure may keep the plugin from its work.
"""

from __future__ import annotations

import fcntl

from cni.lib.lean import os
from cni.lib.store import make_directory, read_file

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
    except OSError:
        os.close(lock)
        raise
    return lock


def lock_of(path: str) -> str:
    """The file that the warm interpreter at `path` holds locked."""
    return f"{path}.lock"
