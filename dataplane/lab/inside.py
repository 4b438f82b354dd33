"""The one way into the namespaces of a lab, for commands, shells, and verbs that look around in there.

nsenter(1) moves a new process into the namespaces of the keeper: users where the lab has its own, network, mounts,
processes. From there `ip netns exec` leads to a pod or a node. A process that is inside already needs the second step
alone.
"""

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NoReturn

from dataplane.lab import private, state
from dataplane.lab.netns import LabError
from dataplane.lab.overlay import UDPLANE
from dataplane.lab.state import INSIDE, Lab
from dataplane.lab.view import LabView, NodePlace, Place
from dataplane.system_path import add_system_directories

HERE = "UDPLANE_LAB_PLACE"
"""Environment variable: the place of the lab in which a verb runs that asked for one."""

ENDING = "TERM"
"""The signal that a program inside gets when the command that runs it is ended from outside."""

_CHANGE_DIRECTORY = 'cd "$1" 2>/dev/null || cd /; shift; exec "$@"'
"""A process that enters a mount namespace stands at its root."""


def enter(
    lab: Lab,
    argv: Sequence[str],
    *,
    place: Place | None = None,
    more: Mapping[str, str] | None = None,
    ending: str = ENDING,
) -> NoReturn:
    """Become `argv` inside of `lab`, at `place` if one is given. Raises LabError when that cannot be done.

    When this process is ended, `argv` gets the signal `ending`.
    """
    add_system_directories()
    command = command_line(lab, argv, place=place, ending=ending)
    os.environ.update(environment(lab, place) | dict(more or {}))
    sys.stdout.flush()
    try:
        os.execvp(command[0], command)
    except OSError as error:
        raise LabError(f"cannot run {command[0]}: {error.strerror}") from error


def command_line(lab: Lab, argv: Sequence[str], *, place: Place | None = None, ending: str = ENDING) -> list[str]:
    """The command line that runs `argv` in there."""
    if place is not None:
        argv = place.namespace.command(argv)
    if lab.inside:
        return list(argv)
    users = ["--user", "--preserve-credentials"] if lab.record.users else []
    pids = ["--pid"] if lab.record.pids else []
    entering = ["nsenter", "--target", str(lab.record.pid), *users, "--mount", "--net", *pids, "--"]
    if lab.record.pids:
        # nsenter waits for its child and passes no signal on: without this, the child would outlive it.
        entering += ["setpriv", "--pdeathsig", ending]
    return [*entering, "sh", "-c", _CHANGE_DIRECTORY, "sh", _here(), *argv]


def move_in(name: str | None, where: str = "") -> tuple[Lab, LabView]:
    """Have this very command run inside of the lab called `name`, and at the place `where`: returns in there alone."""
    lab = state.find(name)
    view = lab.view()
    place = view.find(where) if where else None
    if not lab.inside or os.environ.get(HERE, "") != where:
        command = [sys.executable, "-I", "-m", "dataplane.cli", *sys.argv[1:]]
        enter(lab, command, place=place, more={HERE: where})
    return lab, view


def _here() -> str:
    """The working directory; the root if somebody has removed it."""
    try:
        return str(Path.cwd())
    except OSError:
        return "/"


def environment(lab: Lab, place: Place | None = None) -> dict[str, str]:
    """What is told to whoever comes in; on a node, also which one commands such as `udplane status` ask."""
    found = {
        INSIDE: lab.name,
        "UDPLANE_LAB_DIR": str(lab.directory.parent),
        private.STATE: private.INSIDE,
        "PATH": f"{UDPLANE.parent}:{os.environ.get('PATH', '/usr/bin:/bin')}",
    }
    if isinstance(place, NodePlace):
        found["UDPLANE_RUN_DIR"] = str(place.run_dir)
    return found
