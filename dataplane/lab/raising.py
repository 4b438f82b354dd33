"""How a lab comes to stand: a keeper is started in new namespaces, and followed until it says that all is there.

Whoever waits keeps the keeper alive: when this process ends before the lab stands, by Ctrl-C or in any other way, the
keeper notices and ends too. Afterwards the lab is the keeper's alone; one that was called from a shell in a terminal
goes with that shell, unless it is told to stay.
"""

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from dataplane.errors import UdplaneError
from dataplane.kernel.programs import complaint
from dataplane.lab import keeper, private, state, topology_file
from dataplane.lab.netns import LabError
from dataplane.lab.plan import make_plan
from dataplane.lab.view import LabView
from dataplane.system_path import add_system_directories

PROCESSES = ["--pid", "--fork", "--kill-child"]
"""A process namespace for unshare(1), of which the keeper is the first process."""

SHELLS = {"bash", "zsh", "fish", "sh", "dash", "ksh", "mksh", "ash", "tcsh", "csh", "nu", "xonsh", "elvish"}


@dataclass(frozen=True, slots=True)
class Request:
    """Which lab is wished for."""

    topology: str
    """Name of one that comes with udplane, or a file's."""
    name: str
    seed: int | None = None
    engine: str = ""
    """Takes the place of every engine that the topology names."""
    stay: bool = False
    """Whether it outlives the terminal that it is called from."""


def raise_lab(request: Request, say: Callable[[str], None]) -> LabView:
    """Make that lab. Returns when it stands; raises UdplaneError with notes when it cannot, and nothing is left then.

    `say` is told what is going on.
    """
    file, text, directory = topology_file.locate(request.topology)
    topology = topology_file.parse(text, file, directory, engine=request.engine)
    make_plan(topology, request.seed)
    add_system_directories()
    lab = state.claim(request.name, topology.name)
    try:
        flags, pids = _namespaces()
        choices = {"file": file, "directory": str(directory), "seed": request.seed, "engine": request.engine}
        choices |= {"users": "--user" in flags, "pids": pids}
        (lab.directory / keeper.CHOICES).write_text(json.dumps(choices))
        (lab.directory / keeper.TOPOLOGY).write_text(text, "utf-8")
        with _session(request.stay) as session:
            _follow(lab, [*flags, *(PROCESSES if pids else [])], session, say)
        return lab.view()
    except BaseException:
        for dead in (lab, *(one for one in state.labs(clear_dead=False) if one.name == lab.name)):
            if dead.record.pid != os.getpid():
                dead.end()
        state.clear(lab.directory)
        raise


def _namespaces() -> tuple[list[str], bool]:
    """The flags for unshare(1), and whether processes get one too. ForbiddenError if there are none to be had."""
    obstacle = private.obstacle()
    if obstacle is not None:
        raise private.ForbiddenError(*obstacle)
    flags, _ = private.unshare_flags()
    fresh_proc = ["unshare", *flags, *PROCESSES, "--", "mount", "-t", "proc", "proc", "/proc"]
    return flags, not complaint(fresh_proc)


@contextlib.contextmanager
def _session(stay: bool) -> Iterator[list[int]]:
    """A descriptor that tells when the shell of this terminal ends; none where there is no such shell, or to `stay`.

    A terminal that is closed ends its shell. An open descriptor of the terminal itself would keep sshd from closing it.
    """
    found = []
    with contextlib.suppress(OSError):
        if not stay and goes_with_shell():
            found = [os.pidfd_open(os.getsid(0))]
    yield found
    for descriptor in found:
        os.close(descriptor)


def goes_with_shell() -> bool:
    """Whether this process was called from a shell in a terminal; sudo, for one, leads sessions of one command."""
    leader = os.getsid(0)
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
        return leader != os.getpid() and Path(f"/proc/{leader}/comm").read_text().strip().lstrip("-") in SHELLS
    except OSError:
        return False


def _follow(lab: state.Lab, flags: list[str], session: list[int], say: Callable[[str], None]) -> None:
    """Start the keeper and pass on what it says until the lab stands. Raises LabError when it does not come to that."""
    command = ["unshare", *flags, "--", sys.executable, "-I", "-m", keeper.MODULE, str(lab.directory)]
    with (lab.directory / "keeper.log").open("wb") as log:
        process = subprocess.Popen(
            [*command, *map(str, session)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            pass_fds=session,
            start_new_session=True,
            env={**os.environ, private.STATE: private.INSIDE, state.INSIDE: lab.name},
            cwd="/",
        )
    assert process.stdout is not None
    try:
        for line in process.stdout:
            message = json.loads(line)
            if message.get("stands"):
                return
            if "error" in message:
                raise _failure(message)
            say(message["say"])
        said = Path(lab.directory, "keeper.log").read_text(errors="replace").strip().splitlines()
        raise LabError(f"the lab's keeper ended: {said[-1] if said else 'somebody killed it'}")
    except BaseException:
        process.kill()
        process.wait()
        raise


def _failure(message: dict[str, list[str]]) -> UdplaneError:
    error = LabError(str(message["error"]))
    for note in message["notes"]:
        error.add_note(note)
    return error
