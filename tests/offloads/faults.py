"""Faults that a test switches on in a running node: what a kernel of another age or make would answer.

The library of faults.c is loaded into the node and shares a page with the test. `Faults.set` writes to it, and the next
system call of the node meets the fault.
"""

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

FIELDS = (
    "super_write_errno",
    "segmented_send_errno",
    "too_big_errno",
    "most_per_call",
    "refused_udp_segment",
    "refused_udp_gro",
    "refused_tun_offloads",
    "hits",
)
"""The members of struct faults in faults.c, which says what each does; uint32 all."""

NUMBER = struct.Struct("=I")
SOURCE = Path(__file__).with_name("faults.c")


class Faults:
    """The faults of the nodes that were started `within` it; none at first."""

    def __init__(self, directory: Path) -> None:
        """Build the library, and make the page, in `directory`."""
        self._library = directory / "faults.so"
        self._file = directory / "faults"
        compiler = (sysconfig.get_config_var("CC") or "cc").split()
        try:
            subprocess.run(
                [*compiler, "-shared", "-fPIC", "-Wall", "-Wextra", "-Werror", "-o", self._library, SOURCE], check=True
            )
        except FileNotFoundError:
            pytest.skip(f"needs a C compiler ({compiler[0]}): apt-get install -y gcc libc6-dev")
        self._file.write_bytes(bytes(NUMBER.size * len(FIELDS)))
        with self._file.open("r+b") as file:
            self._page = mmap.mmap(file.fileno(), 0)

    @contextmanager
    def within(self) -> Iterator[None]:
        """Programs that are started in the block meet the faults."""
        with patch.dict(os.environ, LD_PRELOAD=str(self._library), UDPLANE_TEST_FAULTS=str(self._file)):
            yield

    def set(self, **faults: int) -> None:
        """Switch faults on, or off with 0."""
        for name, value in faults.items():
            NUMBER.pack_into(self._page, FIELDS.index(name) * NUMBER.size, value)

    def clear(self) -> None:
        """No faults, and none counted."""
        self.set(**dict.fromkeys(FIELDS, 0))

    @property
    def hits(self) -> int:
        """How many system calls came out differently for a fault."""
        return int(NUMBER.unpack_from(self._page, FIELDS.index("hits") * NUMBER.size)[0])
