"""What the warm interpreter (cni/lib/warm.py) has of a caller's: nothing of the first one's, all of the present one's.

The first caller starts it, so it inherits that one's limits, niceness, processors and groups, and would hand them to
everybody after it. So it gives them up when it starts (`be_nobodys`), and each copy takes over its own caller's
(`take_over`). What a process cannot give up or take over is compared (`identity`): who differs there is turned away.
"""

from __future__ import annotations

import os
import resource
import signal
from contextlib import suppress
from pathlib import Path

from cni.lib.start_state import IGNORED, UMASK

NAMESPACES = ("mnt", "net", "pid", "user")
STATUS_LINES = ("Uid:", "Gid:", "CapEff:", "CapBnd:", "NoNewPrivs:", "Seccomp:")
LIMITS = tuple(number for name, number in vars(resource).items() if name.startswith("RLIMIT_"))
MOST_PROCESSORS = 8192  # the most that Linux can be built for


def identity(pid: str) -> list[str]:
    """What has to be the same for one process to work in another's place.

    User, rights, security label, namespaces, root directory. Raises OSError when that is not to be seen.
    """
    credentials = [line for line in _status(pid) if line.startswith(STATUS_LINES)]
    root = Path(f"/proc/{pid}/root/").stat()
    namespaces = [os.readlink(f"/proc/{pid}/ns/{name}") for name in NAMESPACES]
    return [*credentials, _label(pid), *namespaces, f"{root.st_dev}:{root.st_ino}"]


def _status(pid: str) -> list[str]:
    return Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace").splitlines()


def _label(pid: str) -> str:
    """The label of AppArmor or SELinux; empty where there is no such module."""
    try:
        return Path(f"/proc/{pid}/attr/current").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def be_nobodys() -> None:
    """Give up what was inherited. What takes a right that is missing stays, and `take_over` may fail for it."""
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP, *IGNORED}:
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    os.umask(UMASK)
    for limit in LIMITS:
        _lift(limit)
    with suppress(OSError):
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
    with suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, min(os.getpriority(os.PRIO_PROCESS, 0), 0))
    with suppress(OSError):
        os.sched_setaffinity(0, range(MOST_PROCESSORS))
    with suppress(OSError):
        os.setgroups([])


def _lift(limit: int) -> None:
    """Raise a limit as far as it goes: to none with the right to do so, else to the hard limit."""
    hard = resource.getrlimit(limit)[1]
    for wanted in (resource.RLIM_INFINITY, _most_files() if limit == resource.RLIMIT_NOFILE else hard, hard):
        with suppress(OSError, ValueError):
            resource.setrlimit(limit, (wanted, wanted))
            return


def _most_files() -> int:
    """The highest limit of descriptors that the kernel accepts."""
    return int(Path("/proc/sys/fs/nr_open").read_text())


def take_over(pid: int) -> None:
    """Have what the process has: limits, scheduling, niceness, processors, groups, place in the order of OOM kills.

    Raises ProcessLookupError or FileNotFoundError: it is gone; PermissionError, ValueError: this takes a right that is
    missing here.
    """
    for limit in LIMITS:
        theirs = resource.prlimit(pid, limit)
        if theirs != resource.getrlimit(limit):
            resource.setrlimit(limit, theirs)
    policy = os.sched_getscheduler(pid)
    if policy != os.sched_getscheduler(0):
        os.sched_setscheduler(0, policy, os.sched_getparam(pid))
    niceness = os.getpriority(os.PRIO_PROCESS, pid)
    if niceness != os.getpriority(os.PRIO_PROCESS, 0):
        os.setpriority(os.PRIO_PROCESS, 0, niceness)
    processors = os.sched_getaffinity(pid)
    if processors != os.sched_getaffinity(0):
        os.sched_setaffinity(0, processors)
    groups = next(line for line in _status(str(pid)) if line.startswith("Groups:")).split()[1:]
    if sorted(map(int, groups)) != sorted(os.getgroups()):
        os.setgroups(list(map(int, groups)))
    score, own_score = Path(f"/proc/{pid}/oom_score_adj").read_text(), Path("/proc/self/oom_score_adj")
    if score != own_score.read_text():
        own_score.write_text(score)
