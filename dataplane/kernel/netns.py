"""Moving from one network namespace to another. Namespaces belong to threads, so only the calling thread moves."""

import ctypes
import os
from pathlib import Path
from typing import IO

from dataplane.errors import NodeError

CLONE_NEWNET = 0x40000000
"""setns(2): the descriptor must be a network namespace (include/uapi/linux/sched.h)."""


def current_netns() -> str:
    """The network namespace of the calling thread, as the kernel names it: `net:[4026531840]`."""
    return str(Path("/proc/thread-self/ns/net").readlink())


def set_netns(namespace: IO[bytes]) -> None:
    """Move the calling thread into an open network namespace (os.setns needs Python 3.12). Raises OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(namespace.fileno(), CLONE_NEWNET) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def enter_netns_of(pid: int) -> None:
    """Move the calling thread into the network namespace of process `pid`. NodeError if that is not allowed."""
    there = Path(f"/proc/{pid}/ns/net")
    try:
        if str(there.readlink()) == current_netns():
            return
        with there.open("rb") as namespace:
            set_netns(namespace)
    except OSError as error:
        raise NodeError(
            f"cannot enter the network namespace of process {pid}: {error.strerror}; run as root where the node runs"
        ) from error
