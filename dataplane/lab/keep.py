"""Leave a lab standing: it lives on in a process of its own, which takes it down when that process is told to end.

`detach` splits a command in two. The child builds and owns the lab, apart from the terminal; the parent stays in front
until the child says that all is shown, so that the command looks and behaves like any other up to then.
"""

import os
import signal
import sys
from collections.abc import Callable
from types import FrameType

ENDINGS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""The signals that people and terminals send to end a program."""


def end_on_signals() -> None:
    """Make the signals that end a program unwind it instead, so that all clean-up runs; a second one is ignored."""

    def unwind(number: int, _: FrameType | None) -> None:
        for ending in ENDINGS:
            signal.signal(ending, signal.SIG_IGN)
        raise SystemExit(128 + number)

    for ending in ENDINGS:
        signal.signal(ending, unwind)


def detach() -> Callable[[], None]:
    """Go on in a child process. Returns in the child alone, with a function to call once all has been shown.

    That function lets the parent end with status 0 and then waits for a signal. Until it is called the parent passes
    signals on to the child, and ends when the child ends, with its status.
    """
    reader, writer = os.pipe()
    child = os.fork()
    if child:
        os.close(writer)
        sys.exit(_wait_for(child, reader))
    os.close(reader)
    os.setsid()

    def stand() -> None:
        sys.stdout.flush()
        null = os.open(os.devnull, os.O_RDWR)
        for descriptor in range(3):
            os.dup2(null, descriptor)
        os.write(writer, b"!")
        os.close(writer)
        while True:
            signal.pause()

    return stand


def _wait_for(child: int, reader: int) -> int:
    """Wait until the child says that it stands, status 0, or ends, its status."""
    for ending in ENDINGS:
        signal.signal(ending, lambda number, _: os.kill(child, number))
    if os.read(reader, 1):
        return 0
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
