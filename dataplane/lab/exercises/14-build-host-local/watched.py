"""Runs a student's program in a process of its own, and counts what it does to files: there it can be stopped.

1. `Program.start` forks. The child counts each call that changes a file below one directory, before it happens.
2. At the call with the chosen number the child is killed, as by kill -9, or stands still until it is told to go on.
   Data that is written counts twice: before anything of it is there, and when half of it is.
3. `Running.event` says what happens: "stands", "waits" (for a lock, or by sleep), or "" at the end.
"""

import builtins
import fcntl
import gc
import io
import json  # noqa: F401  # so that no child has to load it
import os
import resource
import runpy
import select
import signal
import sys
import time
import traceback
from pathlib import Path

SECONDS = 10.0
"""How long a program may take, or wait; none that is right comes near it."""
MANY_CALLS = 1000
"""Calls after which a program is taken for one that goes round in a circle."""
PATHS = ("mkdir", "rmdir", "remove", "unlink", "rename", "replace", "link", "symlink", "truncate")
"""Functions of os that change what is in a directory."""


class Running:
    """A program that runs."""

    def __init__(self, pid, events, orders, output):
        self.pid, self.events, self.orders, self.output = pid, events, orders, output
        self.stands_at, self.calls, self.status, self.unread = "", 0, None, b""
        self.deadline = time.monotonic() + SECONDS

    def event(self):
        """Wait for what happens next: "stands", "waits", or "" at the end. None if its time is over."""
        while True:
            line, end, self.unread = self.unread.partition(b"\n")
            if not end:
                left = self.deadline - time.monotonic()
                # Who tells without end is ended as well; who has ended while the judge slept is heard.
                if left < -SECONDS or not select.select([self.events], [], [], max(0.0, left))[0]:
                    self.unread = line
                    return None
                more = os.read(self.events, 4096)
                if not more:
                    return ""
                self.unread = line + more
                continue
            name, _, rest = line.decode("utf-8", "replace").partition(" ")
            if name != "call":
                return name
            self.calls, self.stands_at = self.calls + 1, rest

    def go_on(self):
        """Let it go on from where it stands."""
        self.deadline = time.monotonic() + SECONDS
        os.write(self.orders, b"\n")

    def end(self):
        """Wait for its end; False if it has to be ended."""
        happened = self.event()
        while happened:
            if happened == "stands":
                self.go_on()
            happened = self.event()
        if happened is None:
            os.kill(self.pid, signal.SIGKILL)
        self.status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        os.close(self.events)
        os.close(self.orders)
        return happened is not None

    def said(self, name):
        """What it has printed, "out" or "err"."""
        return Path(f"{self.output}.{name}").read_text("utf-8", "replace").strip()


class Program:
    """A program that keeps its files below a directory."""

    def __init__(self, file, directory, outputs):
        self.file, self.directory, self.outputs, self.n = file, directory, outputs, 0

    def start(self, *arguments, kill_at=0, stand_at=0):
        """Run it: until the call with that number, which begins with 1, or to its end."""
        self.n += 1
        output = f"{self.outputs}/{self.n}"
        events, tell = os.pipe()
        listen, orders = os.pipe()
        sys.stdout.flush()
        gc.freeze()  # the child shares what is here, as long as it does not count it
        pid = os.fork()
        if pid == 0:
            os.close(events)
            os.close(orders)
            _child(self.file, arguments, output, Calls(self.directory, tell, listen, kill_at, stand_at))
        os.close(tell)
        os.close(listen)
        return Running(pid, events, orders, output)


class Calls:
    """Counts calls, in the child."""

    def __init__(self, directory, tell, listen, kill_at, stand_at):
        self.directory, self.tell, self.listen = os.path.realpath(directory), tell, listen
        self.kill_at, self.stand_at, self.n, self.files = kill_at, stand_at, 0, {}

    def mine(self, path):
        """The name of a file below the directory; empty for any other."""
        if isinstance(path, int):
            return self.files.get(path, "")
        path = os.fsdecode(path)
        name = path.rpartition("/")[2]
        where = os.path.realpath(path.removesuffix(name) or ".")
        return name if f"{where}/".startswith(f"{self.directory}/") else ""

    def count(self, text, half=None):
        """A call is about to happen, or has happened by half."""
        self.n += 1
        self.say(f"call {text}")
        if self.n == MANY_CALLS:
            self.say("waits")
        if self.n == self.kill_at:
            if half:
                half()
            os.kill(os.getpid(), signal.SIGKILL)
        if self.n == self.stand_at:
            self.say("stands")
            os.read(self.listen, 1)

    def say(self, text):
        """Tell the judge."""
        REAL["write"](self.tell, (text.replace("\n", " ") + "\n").encode("utf-8", "replace"))


REAL = {name: getattr(os, name) for name in (*PATHS, "open", "write", "close", "ftruncate")}


def _child(file, arguments, output, calls):
    """Become the program. Does not return."""
    resource.setrlimit(resource.RLIMIT_CPU, (60, 60))
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 22, 1 << 22))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for number, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(f"{output}.{name}", os.O_WRONLY | os.O_CREAT, 0o600), number)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    sys.argv = [file, *arguments]
    status = 0
    try:
        _watch(calls)
        runpy.run_path(file, run_name="__main__")
    except SystemExit as error:
        status = error.code if isinstance(error.code, int) else int(error.code is not None)
        if isinstance(error.code, str):
            print(error.code, file=sys.stderr)
    except BaseException as error:  # noqa: BLE001  # whatever it is, the student is told
        status = 1
        lines = [entry.lineno for entry in traceback.extract_tb(error.__traceback__) if entry.filename == file]
        at = lines[-1] if lines else getattr(error, "lineno", None)
        print(f"{type(error).__name__} in line {at}: {error}", file=sys.stderr)
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(status)


def _watch(calls):
    """Have the calls of this process counted."""
    for name in PATHS:
        setattr(os, name, _counting(calls, name))
    os.open, os.write, os.close, os.ftruncate = (
        _open(calls),
        _write(calls),
        _close(calls),
        _counting(calls, "ftruncate"),
    )
    builtins.open = io.open = _file(calls)
    fcntl.flock, fcntl.lockf = _lock(calls, fcntl.flock), _lock(calls, fcntl.lockf)
    sleep = time.sleep

    def waiting(seconds):
        calls.say("waits")
        sleep(min(seconds, 0.05))

    time.sleep = waiting


def _counting(calls, name):
    def call(path, *rest, **more):
        mine = calls.mine(path) or (calls.mine(rest[0]) if rest and isinstance(rest[0], str | os.PathLike) else "")
        if mine:
            calls.count(f"{name}({mine})")
        return REAL[name](path, *rest, **more)

    return call


def _open(calls):
    def call(path, flags, *rest, **more):
        mine = calls.mine(path)
        if mine and flags & (os.O_CREAT | os.O_TRUNC | os.O_WRONLY | os.O_RDWR):
            calls.count(f"open({mine})")
        number = REAL["open"](path, flags, *rest, **more)
        calls.files[number] = mine
        return number

    return call


def _write(calls):
    def call(number, data):
        mine = calls.mine(number)
        if mine:
            calls.count(f"write to {mine}")
            if len(data) > 1:
                half = bytes(data)[: len(data) // 2]
                calls.count(f"write to {mine} is half done", lambda: REAL["write"](number, half))
        return REAL["write"](number, data)

    return call


def _close(calls):
    def call(number):
        calls.files.pop(number, None)
        return REAL["close"](number)

    return call


def _file(calls):
    """What takes the place of open()."""
    real = io.open

    class Raw(io.FileIO):
        """A file without buffer: what comes here goes to the kernel."""

        def write(self, data):
            data = bytes(data)
            calls.count(f"write to {self.mine}")
            if len(data) > 1:
                half = data[: len(data) // 2]
                calls.count(f"write to {self.mine} is half done", lambda: io.FileIO.write(self, half))
            return io.FileIO.write(self, data)

        def truncate(self, size=None):
            calls.count(f"truncate({self.mine})")
            return io.FileIO.truncate(self, size)

    def call(file, mode="r", buffering=-1, encoding=None, errors=None, newline=None, closefd=True, opener=None):
        mine = calls.mine(file)
        if not mine or not set(mode) & set("wax+"):
            return real(file, mode, buffering, encoding, errors, newline, closefd, opener)
        if not isinstance(file, int):
            calls.count(f"open({mine}, {mode})")
        raw = Raw(file, mode.replace("b", "").replace("t", ""), closefd, opener)
        raw.mine = mine
        calls.files[raw.fileno()] = mine
        if buffering == 0:
            return raw
        buffer = io.BufferedRandom(raw) if "+" in mode else io.BufferedWriter(raw)
        if "b" in mode:
            return buffer
        text = io.TextIOWrapper(buffer, encoding, errors, newline, buffering == 1)
        text.mode = mode
        return text

    return call


def _lock(calls, real):
    """flock() or lockf(), which tell when they have to wait."""

    def call(file, order, *rest):
        if order & fcntl.LOCK_UN:
            return real(file, order, *rest)
        calls.count("lock")
        try:
            return real(file, order | fcntl.LOCK_NB, *rest)
        except (BlockingIOError, PermissionError):
            if order & fcntl.LOCK_NB:
                raise
            calls.say("waits")
            return real(file, order, *rest)

    return call
