"""Run another program: a delegate, iptables-restore, nft.

The program's stdin, stdout and stderr are files in memory (memfd_create), so there is no pipe that could fill up while
both sides wait, and a Process works while the plugin goes on; no signal is ignored in it. The standard library's
subprocess does all this and more, but takes 10 ms to import, longer than the interpreter takes to start.
"""

from __future__ import annotations

from cni.lib.lean import environment, os
from cni.lib.start_state import IGNORED
from cni.lib.store import write_all

SYSTEM_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"


class Finished:
    """How a program ended: exit status (negative: the signal that killed it) and what it wrote."""

    __slots__ = ("errors", "output", "status")

    def __init__(self, status: int, output: bytes, errors: bytes) -> None:
        self.status = status
        self.output = output
        self.errors = errors


class Process:
    """A running program."""

    def __init__(
        self, argv: list[str], stdin: bytes | None = b"", env: dict[str, str] | None = None, own_stderr: bool = True
    ) -> None:
        """Start `argv` (argv[0] is a path). Raises OSError.

        With stdin=None the program gets a pipe and waits for `feed`. With own_stderr=False it writes to the caller's
        stderr.
        """
        self._output = os.memfd_create("stdout", os.MFD_CLOEXEC)
        self._errors = os.memfd_create("stderr", os.MFD_CLOEXEC) if own_stderr else -1
        source, self._feeder = os.pipe2(os.O_CLOEXEC) if stdin is None else (_file_with(stdin), -1)
        actions = [(os.POSIX_SPAWN_DUP2, source, 0), (os.POSIX_SPAWN_DUP2, self._output, 1)]
        if own_stderr:
            actions.append((os.POSIX_SPAWN_DUP2, self._errors, 2))
        try:
            variables = environment() if env is None else env
            self._pid = os.posix_spawn(argv[0], argv, variables, file_actions=actions, setsigdef=IGNORED)
        except BaseException:
            self._close()
            raise
        finally:
            os.close(source)

    def feed(self, data: bytes) -> None:
        """All that the program gets to read. What it says to that, `wait` tells, even if it has ended before."""
        try:
            write_all(self._feeder, data)
        except BrokenPipeError:
            pass
        os.close(self._feeder)
        self._feeder = -1

    def wait(self) -> Finished:
        """Wait for the end."""
        _, status = os.waitpid(self._pid, 0)
        errors = _read_all(self._errors) if self._errors >= 0 else b""
        finished = Finished(os.waitstatus_to_exitcode(status), _read_all(self._output), errors)
        self._close()
        return finished

    def _close(self) -> None:
        for fd in (self._output, self._errors, self._feeder):
            if fd >= 0:
                os.close(fd)


def run(argv: list[str], stdin: bytes = b"", env: dict[str, str] | None = None, own_stderr: bool = True) -> Finished:
    """Start a program and wait for its end."""
    return Process(argv, stdin, env, own_stderr).wait()


def find_program(name: str) -> str | None:
    """The path of a system tool: in PATH, else in the usual directories, since a runtime may pass no PATH."""
    for directory in (environment().get("PATH", "") + ":" + SYSTEM_PATH).split(":"):
        candidate = f"{directory}/{name}"
        if directory and os.access(candidate, os.X_OK):
            return candidate
    return None


def _file_with(data: bytes) -> int:
    """A file in memory, to be read from its beginning."""
    fd = os.memfd_create("stdin", os.MFD_CLOEXEC)
    write_all(fd, data)
    os.lseek(fd, 0, 0)
    return fd


def _read_all(fd: int) -> bytes:
    return os.pread(fd, os.fstat(fd).st_size, 0)
