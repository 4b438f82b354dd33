"""Names of unix sockets for paths of any length."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

MAX_PATH = 107
"""Bytes that a socket's path may have: sun_path of include/uapi/linux/un.h without the zero at its end."""


@contextlib.contextmanager
def socket_name(path: Path) -> Iterator[str]:
    """What to bind or connect a socket to so that it is the one at `path`; valid within the block.

    A path that is too long is reached by its directory, which stays open meanwhile. Raises OSError when there is none.
    """
    if len(os.fsencode(path)) <= MAX_PATH:
        yield str(path)
        return
    directory = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{directory}/{path.name}"
    finally:
        os.close(directory)
