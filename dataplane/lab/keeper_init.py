"""What is left of a lab's keeper once the lab stands: the first process of its namespaces, small and patient.

Run as a file, by an interpreter without anything else loaded. Its children are the nodes. When it ends, the kernel ends
every process of the lab. It ends when it is told to, and when the terminal that the lab was called from is closed,
whose descriptor is its argument.
"""

import contextlib
import os
import select
import signal
import sys


def main() -> int:
    """Collect the processes that end, until it is time to end."""
    reader, writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(writer)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda number, _: sys.exit(128 + number))
    poll = select.poll()
    poll.register(reader, select.POLLIN)
    if len(sys.argv) > 1:
        poll.register(int(sys.argv[1]), 0)  # nothing but its end is of interest
    while True:
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        ready = {fd for fd, _ in poll.poll()}
        if ready - {reader}:
            return 0
        os.read(reader, 4096)


if __name__ == "__main__":
    sys.exit(main())
