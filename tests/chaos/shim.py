"""A wrong clock and short memory for one node at a time; shim.c, loaded into the node, does what is written here."""

import mmap
import os
import struct
import subprocess
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

import pytest

FIELDS = ("clock_seconds", "refuse_size", "refused")
"""The members of struct wrong in shim.c; int64 all."""

_NUMBER = struct.Struct("=q")


def build(directory: Path) -> Path:
    """The library for LD_PRELOAD, compiled into `directory`; the test is skipped where there is no C library's own."""
    library = directory / "shim.so"
    compiler = (sysconfig.get_config_var("CC") or "cc").split()
    command = [*compiler, "-shared", "-fPIC", "-O1", "-o", library, Path(__file__).with_name("shim.c")]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip(f"needs a C compiler ({compiler[0]}): apt-get install -y gcc libc6-dev")
    assert done.returncode == 0, done.stderr
    return library


class Shim:
    """What is wrong for one node, which is to be started `within` it."""

    def __init__(self, library: Path, directory: Path) -> None:
        """Make the page that the node shares in `directory`."""
        self._library = library
        self._file = directory / "wrong"
        self._file.write_bytes(bytes(_NUMBER.size * len(FIELDS)))
        with self._file.open("r+b") as file:
            self._page = mmap.mmap(file.fileno(), 0)

    @contextmanager
    def within(self) -> Iterator[None]:
        """What is started in the block has this clock and memory."""
        with patch.dict(os.environ, LD_PRELOAD=str(self._library), UDPLANE_CHAOS=str(self._file)):
            yield

    def set(self, **wrong: int) -> None:
        """Make something wrong, or right with 0."""
        for name, value in wrong.items():
            _NUMBER.pack_into(self._page, FIELDS.index(name) * _NUMBER.size, value)
