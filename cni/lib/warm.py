"""An interpreter that is kept warm: it has started and loaded the plugins before anybody calls one.

Starting Python and importing a plugin take longer than the plugin's work. With `udplane cni install --keep-warm` a
plugin's executable is a small program (native/cni/launcher.c) that asks this process for the work:

1. The launcher connects, and sends its path, its environment, and its descriptors 0 to 2 and working directory.
2. Somebody who is not in our place (another user, other namespaces, fewer capabilities) is turned away. Its launcher
   starts an interpreter of its own, as it does when nobody listens.
3. A copy of this process (fork) takes over the descriptors, limits and the like (cni/lib/warm_caller.py), says BEGUN,
   and is the plugin, as if it had just started. If it lacks the right to take something over, it does nothing, and
   this process ends: it has less than its callers, and the next one brings another.
4. The launcher is told how that ended. When the launcher is killed, the copy is killed too.

Whoever starts the long way also starts this process (cni/lib/warm_start.py), one at a time, since it holds a lock as
long as it lives. It ends when nobody was served for some time, when the installation is another one by then, and when
it has turned two callers away and served none in between: it is in somebody's place who calls no more.
"""

from __future__ import annotations

import array
import gc
import os
import posix
import select
import signal
import socket
import struct
import sys
import time
from contextlib import suppress

from cni.lib import launch, registry
from cni.lib.lean import prepare_setns
from cni.lib.warm_caller import be_nobodys, identity, take_over
from cni.lib.warm_cgroup import enter_own_cgroup, leave_own_cgroup
from cni.lib.warm_start import forget, forget_dead

MAX_REQUEST = 65536
N_FDS = 4
BEGUN = -1
UNFIT = 75  # the exit status of a copy that could not take its caller's place; no plugin ends with it
BACKLOG = 256
REQUEST_SECONDS = 1.0
MOST_TURNED_AWAY = 2
LOOK_SECONDS = 5.0
"""How often to look whether this is still the installation's warm interpreter."""
PRELOADED = (
    "bridge_check",
    "conntrack",
    "firewall",
    "firewalld",
    "gosyntax",
    "log",
    "macspoof",
    "masquerade",
    "nftables",
    "process",
    "subnet_shaping",
)
"""Modules of cni.lib that plugins import when they need them."""
CREDENTIALS = struct.Struct("3i")  # struct ucred
ANSWER = struct.Struct("i")


def main(link: str, path: str, idle_seconds: int, lock: int) -> None:
    """Serve at `path` until nobody has called for `idle_seconds`, or the installation's `link` leads elsewhere.

    `lock` is a descriptor, held until the end.
    """
    be_nobodys()
    os.set_inheritable(lock, False)
    os.setsid()
    os.chdir("/")
    _close_all_but(lock)
    os.close(os.pidfd_open(os.getpid()))  # raises on kernels before 5.3, which cannot do without
    enter_own_cgroup()
    try:
        _load()
        forget_dead(os.path.dirname(path))
        with _listen(path) as listener:
            Server(listener, link, path, idle_seconds, lock).run()
    finally:
        leave_own_cgroup()
        forget(path, lock)


def _load() -> None:
    """Import whatever a plugin may need."""
    for module in registry.MODULES.values():
        __import__(f"cni.{module}")
    for module in PRELOADED:
        __import__(f"cni.lib.{module}")
    __import__("cni.portmap.iptables")
    prepare_setns()
    gc.collect()
    gc.freeze()


def _close_all_but(lock: int) -> None:
    """Close what the first caller's runtime has left open: somebody may wait for the end of such a pipe."""
    for name in os.listdir("/proc/self/fd"):
        fd = int(name)
        if fd > 2 and fd != lock:
            with suppress(OSError):  # the one that has listed them
                os.close(fd)


def _listen(path: str) -> socket.socket:
    """A socket at `path`. What a killed predecessor left there is replaced in one step."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    temporary = f"{path}.new"
    if os.path.lexists(temporary):
        os.unlink(temporary)
    listener.bind(temporary)
    listener.listen(BACKLOG)
    os.rename(temporary, path)
    return listener


class Server:
    """Takes requests, and tells launchers how their work ended."""

    def __init__(self, listener: socket.socket, link: str, path: str, idle_seconds: float, lock: int) -> None:
        self._listener = listener
        self._link = link
        self._path = path
        self._file = os.stat(path)
        self._lock = lock
        self._idle_seconds = idle_seconds
        self._served_at = time.monotonic()
        self._n_turned_away = 0
        """Callers in a row."""
        self._poll = select.poll()
        self._poll.register(listener, select.POLLIN)
        self._identity = identity("self")
        self._jobs: dict[int, Job] = {}
        """By both descriptors of a job."""

    def run(self) -> None:
        """Until nobody has called for the idle time, or nobody can call any more."""
        while self._jobs or self._listener.fileno() >= 0:
            ready = self._poll.poll(min(self._idle_seconds, LOOK_SECONDS) * 1000)
            if not ready and (self._is_idle() or not self._is_current()):
                self._retire()
            for fd, _ in ready:  # the listener first: what it accepts cannot get the number of a job that ends below
                job = self._jobs.get(fd)
                if fd == self._listener.fileno():
                    self._take()
                elif job and fd == job.pidfd:
                    self._finish(job)
                elif job:
                    self._abandon(job)

    def _is_idle(self) -> bool:
        return not self._jobs and time.monotonic() - self._served_at >= self._idle_seconds

    def _is_current(self) -> bool:
        """Whether a launcher would call this process, and would start the same interpreter otherwise.

        Not after an upgrade of the plugins or of Python, whose modules would be another version's from then on, and not
        when somebody has removed the socket.
        """
        try:
            return (
                os.readlink(self._link) == self._path
                and os.path.samestat(os.stat(self._path), self._file)
                and os.path.samestat(os.stat(sys.executable), os.stat("/proc/self/exe"))
            )
        except OSError:
            return False

    def _take(self) -> None:
        try:
            connection, _ = self._listener.accept()
        except OSError:  # who has called is gone, or waits until there is a free descriptor
            return
        if not self._is_current():  # on a busy node there may be no other moment to see that
            self._retire()
            connection.close()
            return
        connection.settimeout(REQUEST_SECONDS)
        fds: list[int] = []
        try:
            pid, strings = self._receive(connection, fds)
            if strings:
                self._begin(connection, pid, strings, fds)
                self._served_at, self._n_turned_away = time.monotonic(), 0
                return
        except OSError:  # who is gone, or sends nothing, wants nothing
            pass
        finally:
            for fd in fds:
                os.close(fd)
        connection.close()

    def _receive(self, connection: socket.socket, fds: list[int]) -> tuple[int, list[bytes]]:
        """The sender's process ID, its path and environment; no strings when it is to be turned away.

        The descriptors go into `fds`, for the caller to close even if this raises OSError.
        """
        room = socket.CMSG_SPACE(N_FDS * ANSWER.size)
        data, control, flags, _ = connection.recvmsg(MAX_REQUEST, room, socket.MSG_CMSG_CLOEXEC)
        for level, kind, content in control:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                fds += array.array("i", content[: len(content) - len(content) % ANSWER.size])
        pid, _, _ = CREDENTIALS.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, CREDENTIALS.size))
        cut_short = flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC)
        if not data.endswith(b"\0") or len(fds) != N_FDS or cut_short:
            return pid, []
        if identity(str(pid)) == self._identity:
            return pid, data[:-1].split(b"\0")
        self._turn_away()
        return pid, []

    def _turn_away(self) -> None:
        """Note that somebody is not in our place. Once may be by chance; more often, another one is wanted here."""
        self._n_turned_away += 1
        if self._n_turned_away == MOST_TURNED_AWAY:
            self._retire()

    def _begin(self, connection: socket.socket, caller: int, strings: list[bytes], fds: list[int]) -> None:
        pid = os.fork()
        if pid == 0:
            try:
                for other in (self._listener.fileno(), self._lock, *self._jobs):  # nobody may wait for these
                    os.close(other)
                _take_place(connection, caller)
                be_plugin(strings, fds)
            finally:
                os._exit(1)
        job = Job(pid, os.pidfd_open(pid), connection)
        self._poll.register(job.pidfd, select.POLLIN)
        self._poll.register(connection, select.POLLIN)
        self._jobs[job.pidfd] = self._jobs[connection.fileno()] = job

    def _finish(self, job: Job) -> None:
        _, status = os.waitpid(job.pid, 0)
        self._forget(job.pidfd)
        if not job.abandoned:
            self._forget(job.connection.fileno())
        os.close(job.pidfd)
        with suppress(OSError):  # the launcher was killed
            job.connection.send(ANSWER.pack(status))
        job.connection.close()
        if os.waitstatus_to_exitcode(status) == UNFIT:
            self._retire()

    def _retire(self) -> None:
        """Take no more calls. Those at work go on, then `run` ends."""
        if self._listener.fileno() >= 0:
            with suppress(OSError):
                if os.path.samestat(os.stat(self._path), self._file):
                    os.unlink(self._path)
            self._poll.unregister(self._listener)
            self._listener.close()

    def _abandon(self, job: Job) -> None:
        """The launcher is gone: nobody may go on in its name."""
        job.abandoned = True
        self._forget(job.connection.fileno())
        signal.pidfd_send_signal(job.pidfd, signal.SIGKILL)

    def _forget(self, fd: int) -> None:
        del self._jobs[fd]
        self._poll.unregister(fd)


class Job:
    """A plugin at work for a launcher."""

    __slots__ = ("abandoned", "connection", "pid", "pidfd")

    def __init__(self, pid: int, pidfd: int, connection: socket.socket) -> None:
        self.pid = pid
        self.pidfd = pidfd
        self.connection = connection
        self.abandoned = False


def _take_place(connection: socket.socket, caller: int) -> None:
    """In the copy: become like the caller, and tell it that the work begins; or end."""
    try:
        take_over(caller)
    except (FileNotFoundError, ProcessLookupError):  # killed meanwhile
        os._exit(1)
    except (OSError, ValueError):
        os._exit(UNFIT)
    connection.send(ANSWER.pack(BEGUN))  # fails when the launcher does not wait any more: then nothing may be done


def be_plugin(strings: list[bytes], fds: list[int]) -> None:
    """In the copy: take the launcher's place, and end."""
    try:
        for target, fd in enumerate(fds[:3]):
            os.dup2(fd, target)
        os.fchdir(fds[3])
        environment: dict[bytes, bytes] = vars(posix)["environ"]
        environment.clear()
        for string in reversed(strings[1:]):  # of two values the first counts, as when Python starts
            name, equals, value = string.partition(b"=")
            if equals:
                environment[name] = value
        sys.argv = [os.fsdecode(strings[0])]
        launch.main(sys.argv[0])
    except SystemExit as stop:
        os.write(2, f"{stop}\n".encode("utf-8", "surrogateescape"))
    finally:
        os._exit(1)
