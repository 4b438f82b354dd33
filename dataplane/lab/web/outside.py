"""The half of `udplane lab web` that stays outside of the lab: it owns the socket while servers inside come and go.

A server inside ends with its lab. An exercise that is started or reset makes its lab anew, so the page asks for that
here: the server inside says what it wishes, by a line in a pipe, and ends; this half runs the command and starts a
server in the new lab. Whoever has the page open meanwhile waits in the socket's backlog.
"""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import IO

from dataplane.lab import state
from dataplane.lab.netns import LabError

SOCKET, TOKEN = "UDPLANE_LAB_WEB_SOCKET", "UDPLANE_LAB_WEB_TOKEN"
WISHES, NOTE = "UDPLANE_LAB_WEB_WISHES", "UDPLANE_LAB_WEB_NOTE"
"""Environment variables that tell the half inside its socket, its token, where to write wishes, and what to show."""

VERBS = ("start", "reset", "solve")
"""What the page may wish for."""

LOOK_SECONDS = 0.5
END_SECONDS = 3.0
KILLED = (-signal.SIGKILL, 128 + signal.SIGKILL)
"""Exit statuses of a server that has ended with its lab, directly and by way of nsenter(1)."""

COMMAND = (sys.executable, "-I", "-m", "dataplane.cli", "lab")


def supervise(listener: socket.socket, token: str, lab: str, arguments: Sequence[str]) -> int:
    """Have a server inside of the lab called `lab`, as long as there is one; `arguments` are those of this command.

    Returns the exit status when the server has ended by itself, or by Ctrl-C.
    """
    note = ""
    with contextlib.suppress(KeyboardInterrupt):
        while True:
            status, wish = _serve_once(listener, token, arguments, note)
            if wish:
                note = _fulfil(wish, lab)
            elif status not in KILLED and _stands(lab):
                return status
            else:
                _await_end(lab)
            _await_lab(lab)
    return 0


def _serve_once(listener: socket.socket, token: str, arguments: Sequence[str], note: str) -> tuple[int, list[str]]:
    """One server's life: its exit status, and the command that it wished for."""
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb") as wishes:
        told = {SOCKET: str(listener.fileno()), TOKEN: token, WISHES: str(writing), NOTE: note}
        # The server ends with this half, even when that is killed.
        command = ["setpriv", "--pdeathsig", "TERM", *COMMAND, *arguments]
        try:
            process = subprocess.Popen(command, env={**os.environ, **told}, pass_fds=(listener.fileno(), writing))
        except OSError as error:
            raise LabError(f"cannot run setpriv: {error.strerror}; it comes with util-linux") from error
        finally:
            os.close(writing)
        try:
            return _outcome(process, wishes)
        except KeyboardInterrupt:
            process.wait()
            raise


def _outcome(process: subprocess.Popen[bytes], wishes: IO[bytes]) -> tuple[int, list[str]]:
    line = wishes.readline(4096)
    status = process.wait()
    return status, wish_of(line)


def wish_of(line: bytes) -> list[str]:
    """The command in a line of the pipe; empty where there is none that the page may have."""
    try:
        wish = json.loads(line or b"[]")
    except ValueError:
        return []
    good = isinstance(wish, list) and all(isinstance(word, str) for word in wish)
    return wish if good and wish[:1] and wish[0] in VERBS else []


def _fulfil(wish: Sequence[str], lab: str) -> str:
    """Run what was wished for. Returns what the page has to show: why it failed, or nothing."""
    if wish[0] == "start":
        # The page has asked whether the lab may go.
        _run("down", "--lab", lab)
    done = _run(*wish, "--lab", lab)
    if done.returncode == 0:
        return ""
    said = done.stderr.strip().splitlines() or [f"it ended with status {done.returncode}"]
    return f"udplane lab {' '.join(wish)}: {said[-1].removeprefix('udplane: ')}"


def _run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [*COMMAND, *arguments]
    return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)


def _stands(name: str) -> bool:
    try:
        return state.find(name).stands
    except LabError:
        return False


def _await_end(name: str) -> None:
    """Wait until a lab that is going is gone; not for ever, as somebody may have killed the server alone."""
    deadline = time.monotonic() + END_SECONDS
    while _stands(name) and time.monotonic() < deadline:
        time.sleep(LOOK_SECONDS)


def _await_lab(name: str) -> None:
    """Wait until that lab stands, and say so if it takes a while."""
    said = False
    while not _stands(name):
        if not said:
            print(f"Lab {name} is gone; the page waits until it stands again, Ctrl-C ends it.", flush=True)
            said = True
        time.sleep(LOOK_SECONDS)
