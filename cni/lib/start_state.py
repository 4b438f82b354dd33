"""The state that a plugin starts from, whatever its caller's was.

A process inherits more than its environment. What a caller leaves behind there would decide whether a plugin works:
where SIGCHLD is ignored, nobody learns how iptables ended; under umask 0, everybody may write to the directories that
hold the reservations; and where descriptor 1 is closed, the first netlink socket gets that number, and the result.
Resource limits, niceness, processors and groups stay the caller's: they are what the caller has chosen for its work.
"""

from __future__ import annotations

from cni.lib.lean import os, signal

UMASK = 0o022
IGNORED = (signal.SIGPIPE, signal.SIGXFSZ)
"""Ignored by every Python process, which gets an error from the system call instead; not for programs that it runs."""


def enter_known_state() -> None:
    """Signals as by default, none blocked; umask 022; descriptors 0, 1 and 2 open. Raises OSError."""
    for number in range(1, signal.NSIG):
        if signal.getsignal(number) == signal.SIG_IGN and number not in IGNORED:
            signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    os.umask(UMASK)
    for fd in range(3):
        _occupy(fd)


def _occupy(fd: int) -> None:
    """See to it that no other file gets this number. What is closed stays unusable: reading or writing fails."""
    try:
        os.fstat(fd)
    except OSError:
        flags = os.O_RDONLY if fd == 1 else os.O_WRONLY
        os.set_inheritable(os.open("/dev/null", flags), True)  # it gets the lowest free number, this one
