"""A control group of its own for the interpreter that is kept warm (cni/lib/warm.py).

Its first caller starts it, so it begins in the control group of that caller's container runtime: its memory would
count there, and the end of that runtime's service, or of a login session, would be its own. With systemd it asks for a
scope of its own; elsewhere it makes a group of cgroup v2. Where neither can be had it stays where it is.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

CALL_SECONDS = 3
HIERARCHY = Path("/sys/fs/cgroup")
NAME = "udplane-cni"


def enter_own_cgroup() -> None:
    """Leave the first caller's control group, if that can be done."""
    if _is_systemd_ours():
        _ask_systemd()
    else:
        with suppress(OSError):  # no right to, a file system that is read-only, or no cgroup v2
            _make_group()


def leave_own_cgroup() -> None:
    """Remove the group that `enter_own_cgroup` made. One that systemd made goes by itself."""
    with suppress(OSError):
        if (HIERARCHY / NAME).is_dir():
            (HIERARCHY / "cgroup.procs").write_text("0")
            (HIERARCHY / NAME).rmdir()


def _is_systemd_ours() -> bool:
    """Whether systemd is the init of this very PID namespace: another one would take our number for somebody else's."""
    try:
        return Path("/proc/1/comm").read_text() == "systemd\n" and Path("/run/systemd/system").is_dir()
    except OSError:
        return False


def _ask_systemd() -> None:
    """Have systemd make a scope of this process (org.freedesktop.systemd1, StartTransientUnit)."""
    pid = str(os.getpid())
    manager = ("org.freedesktop.systemd1", "/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager")
    properties = [
        *("PIDs", "au", "1", pid),
        *("Description", "s", "udplane: the CNI plugins, kept warm"),
        *("CollectMode", "s", "inactive-or-failed"),
    ]
    unit = (f"{NAME}-{pid}.scope", "fail", "3", *properties, "0")
    command = ["busctl", "--system", f"--timeout={CALL_SECONDS}", "call", *manager, "StartTransientUnit"]
    with suppress(OSError):  # there is no busctl
        environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
        os.waitpid(os.posix_spawnp("busctl", [*command, "ssa(sv)a(sa(sv))", *unit], environment), 0)


def _make_group() -> None:
    """In the root of cgroup v2, unless there is a systemd somewhere, whose root it is."""
    if not (HIERARCHY / "cgroup.procs").exists() or (HIERARCHY / "init.scope").exists():
        return
    (HIERARCHY / NAME).mkdir(exist_ok=True)
    (HIERARCHY / NAME / "cgroup.procs").write_text("0")
