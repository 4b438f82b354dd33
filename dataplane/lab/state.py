"""Where labs are written down, and which of them stand.

    /tmp/udplane-lab-1000/          one directory a user, nobody else may look into it
        default/                    one a lab, named like it
            keeper.json             the process that holds its namespaces
            topology.toml, up.json  what it was made from
            lab.json                what stands (see `view`); it is missing while the lab is coming up
            node1/                  the files of a node, and so on

A lab stands as long as its keeper lives: process id and start time together mean one process only, ever. The directory
of a dead keeper is nobody's, and whoever comes across it clears it away.
"""

import contextlib
import fcntl
import json
import os
import re
import shutil
import signal
import stat
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from dataplane.clock import boot_id, now
from dataplane.errors import UsageError
from dataplane.lab.netns import LabError
from dataplane.lab.view import FILE, LabView

DEFAULT_NAME = "default"
NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,31}")
RECORD = "keeper.json"

INSIDE = "UDPLANE_LAB_INSIDE"
"""Environment variable, in the namespaces of a lab: its name. From there its keeper's process id cannot be seen."""


@dataclass(frozen=True, slots=True)
class Record:
    """Who keeps a lab, and how to find its namespaces."""

    pid: int
    start: int
    """When the process started, in clock ticks since the machine did: the same id later is another process."""
    boot: str
    """Which start of the machine that was."""
    since: float
    """When the lab was called for, by `clock`."""
    topology: str
    pids: bool = True
    """Whether the lab has a process namespace of its own, which the kernel empties when the keeper ends."""
    users: str = ""
    """Its own user namespace, as the kernel names it; the labs of ordinary users have one."""

    @property
    def alive(self) -> bool:
        """Whether that very process is there."""
        return self.start != 0 and (process_start(self.pid), boot_id()) == (self.start, self.boot)

    def write(self, directory: Path) -> None:
        """Put the record into the directory of the lab, whole or not at all."""
        fresh = directory / f"{RECORD}.new"
        fresh.write_text(json.dumps(asdict(self)))
        fresh.rename(directory / RECORD)


@dataclass(frozen=True, slots=True)
class Lab:
    """A lab that is written down."""

    name: str
    directory: Path
    record: Record

    @property
    def inside(self) -> bool:
        """Whether this process is in the namespaces of the lab."""
        return os.environ.get(INSIDE) == self.name

    @property
    def alive(self) -> bool:
        """Whether its keeper lives."""
        return self.inside or self.record.alive

    @property
    def stands(self) -> bool:
        """Whether it is all there, and not coming up any more."""
        return self.alive and (self.directory / FILE).exists()

    def view(self) -> LabView:
        """What stands. Raises LabError while it is coming up."""
        return LabView.read(self.directory)

    def end(self) -> None:
        """End the keeper, and with it every process of the lab, and clear the directory away."""
        with contextlib.suppress(ProcessLookupError):
            if self.record.alive:
                os.kill(self.record.pid, signal.SIGKILL)
        deadline = time.monotonic() + 10
        while self.record.alive and time.monotonic() < deadline:
            time.sleep(0.005)
        for pid in [] if self.record.pids else self._processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        clear(self.directory)

    def _processes(self) -> Iterator[int]:
        """What has come into the lab, known by its user namespace or by what `inside` has told it."""
        told = {f"{INSIDE}={self.name}".encode(), f"UDPLANE_LAB_DIR={self.directory.parent}".encode()}
        for path in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                same = str((path / "ns/user").readlink()) == self.record.users
                if same or told <= set((path / "environ").read_bytes().split(b"\0")):
                    yield int(path.name)


def base_directory() -> Path:
    """Where this user's labs are written down: `UDPLANE_LAB_DIR`, or a directory for temporary files.

    It is made if it is not there. Raises LabError when somebody else could have made it, or can change it.
    """
    given = os.environ.get("UDPLANE_LAB_DIR")
    base = Path(given or Path(os.environ.get("TMPDIR") or "/tmp", f"udplane-lab-{os.geteuid()}")).absolute()
    remedy = "name another directory by UDPLANE_LAB_DIR"
    if base.is_relative_to("/run"):
        raise LabError(f"labs cannot be kept in {base}, since a lab has a /run of its own; {remedy}")
    try:
        with contextlib.suppress(FileExistsError):
            base.mkdir(mode=0o700, parents=bool(given))
        status = base.lstat()
    except OSError as error:
        raise LabError(f"labs cannot be kept in {base}: {error.strerror}; {remedy}") from error
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid():
        raise LabError(f"{base} is no directory of this user's, so no lab is kept there; {remedy}")
    if status.st_mode & 0o022:
        raise LabError(f"others may write into {base}, so no lab is kept there; run chmod 700 {base}")
    return base


def labs(*, clear_dead: bool = True) -> list[Lab]:
    """The labs of this user by name. Those of a dead keeper are cleared away, or without `clear_dead` told too.

    From inside of a lab no keeper can be seen, so there is that lab alone.
    """
    found = []
    for directory in sorted(base_directory().iterdir()):
        lab = _read(directory)
        if lab is None or (INSIDE in os.environ and not lab.inside):
            continue
        if clear_dead and not lab.alive:
            bury(lab)
        else:
            found.append(lab)
    return found


def bury(lab: Lab) -> None:
    """Clear a dead lab away, unless another one has got its name meanwhile."""
    with _alone(lab.directory.parent):
        if _record_of(lab.directory) == lab.record:
            lab.end()


def find(name: str | None) -> Lab:
    """The lab called `name`, else the one that UDPLANE_LAB names, else the only one that stands, else the default.

    Raises LabError when it does not stand.
    """
    standing = {lab.name: lab for lab in labs()}
    name = chosen_name(name, list(standing.values()))
    lab = standing.get(name)
    if lab is None:
        others = f"; there are {', '.join(standing)}" if standing else ""
        raise LabError(f"no lab called {name} stands{others}; `udplane lab up{option(name)}` makes one")
    if not lab.stands:
        raise LabError(
            f"lab {name} is coming up; try again in a moment, or take it down: udplane lab down{option(name)}"
        )
    return lab


def chosen_name(name: str | None, standing: Sequence[Lab]) -> str:
    """The name of the lab that is meant, as in `find`."""
    name = name or os.environ.get(INSIDE) or os.environ.get("UDPLANE_LAB")
    if name is None:
        name = standing[0].name if len(standing) == 1 else DEFAULT_NAME
    return checked_name(name)


def claim(name: str, topology: str) -> Lab:
    """Make the directory of a lab that comes up, for this process. Raises LabError when there is such a lab."""
    if INSIDE in os.environ:
        raise LabError(f"this is inside of lab {os.environ[INSIDE]}; leave it first (exit), others are made outside")
    base = base_directory()
    directory = base / checked_name(name)
    labs()  # clears the dead away
    for left in base.glob(".new-*-*"):
        if not process_start(int(left.name.split("-")[1])):
            clear(left)
    record = Record(os.getpid(), process_start(os.getpid()), boot_id(), now(), topology)
    fresh = Path(tempfile.mkdtemp(prefix=f".new-{os.getpid()}-", dir=base))
    record.write(fresh)
    try:
        with _alone(base):
            fresh.rename(directory)
    except OSError as error:
        clear(fresh)
        raise LabError(f"lab {name} stands already; use it, or first: udplane lab down{option(name)}") from error
    return Lab(name, directory, record)


def option(name: str) -> str:
    """What a command line about this lab has behind the verb; nothing for the default one."""
    return "" if name == DEFAULT_NAME else f" --lab {name}"


def checked_name(name: str) -> str:
    """The name of a lab. Raises UsageError if it is none."""
    if not NAME.fullmatch(name):
        raise UsageError(f"{name!r} is no name for a lab: up to 32 small letters, digits and -, such as mtu-2")
    return name


def clear(directory: Path) -> None:
    """Remove a directory; what cannot be removed stays."""
    shutil.rmtree(directory, ignore_errors=True)


def process_start(pid: int) -> int:
    """When a process started, in clock ticks since the machine did; 0 if it is not there or has ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0
    return 0 if fields[0] in "ZX" else int(fields[19])


@contextlib.contextmanager
def _alone(base: Path) -> Iterator[None]:
    """Let nobody else take or clear away the directory of a lab meanwhile."""
    descriptor = os.open(base, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _read(directory: Path) -> Lab | None:
    """The lab of a directory; None if it is something else."""
    if not NAME.fullmatch(directory.name) or not (directory / RECORD).is_file():
        return None
    return Lab(directory.name, directory, _record_of(directory))


def _record_of(directory: Path) -> Record:
    """Who keeps the lab of a directory; nobody, if it cannot be read."""
    try:
        return Record(**json.loads((directory / RECORD).read_bytes()))
    except (OSError, ValueError, TypeError):
        return Record(0, 0, "", 0.0, "unknown")
