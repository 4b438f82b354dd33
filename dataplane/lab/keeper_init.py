"""What is left of a lab's keeper once the lab stands: the first process of its namespaces, small and patient.

Run as a file, by an interpreter without anything else loaded: `keeper_init.py DIRECTORY [DESCRIPTOR]`. Its children are
the nodes. When it ends, the kernel ends every process of the lab. It ends when it is told to, and when the terminal
that the lab was called from is closed, whose shell the descriptor stands for. Then it takes the lab's directory away.
"""

import contextlib
import os
import select
import shutil
import signal
import sys


def main() -> int:
    """Collect the processes that end, until it is time to end."""
    directory, *session = sys.argv[1:]
    reader, writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(writer)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda number, _: sys.exit(128 + number))
    poll = select.poll()
    poll.register(reader, select.POLLIN)
    for descriptor in session:
        poll.register(int(descriptor), select.POLLIN)
    try:
        wait(reader, poll)
    finally:
        clear(directory)
    return 0


def wait(reader: int, poll: select.poll) -> None:
    """Return when something but `reader`, which tells of signals, has something to tell."""
    while True:
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        if {descriptor for descriptor, _ in poll.poll()} - {reader}:
            return
        os.read(reader, 4096)


def clear(directory: str) -> None:
    """Take the directory away, and before that whoever might write into it."""
    if os.getpid() == 1:
        with contextlib.suppress(ProcessLookupError):
            os.kill(-1, signal.SIGKILL)
    shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
