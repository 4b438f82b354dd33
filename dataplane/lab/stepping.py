"""The python engine that can be stopped at each step: an engine from a file, for `udplane lab up --step`.

The node listens on `step.sock` in its run directory, for one stepper at a time:

    node -> stepper     a line of JSON for each step: step, ok, args, packet (hex), way
    stepper -> node     a line for each of these: `step` goes on to the next one, `packet` to the next packet's first

The forwarding worker waits for the answer only while a stepper is connected. It goes on by itself when the stepper goes
away or says nothing for `PATIENCE` seconds, and when the node is told to end. Nobody connected costs nothing but the
look whether somebody is.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

from dataplane.engines.contract import EngineConfig
from dataplane.lab.engine_steps import Seen, WatchedEngine

SOCKET = "step.sock"
PATIENCE = 600.0
MAX_LINE = 64


class Steps:
    """The node's end: tells a stepper of steps and waits for its word."""

    def __init__(self, path: Path) -> None:
        """Listen at `path`; what lies there from a node before is taken away."""
        path.unlink(missing_ok=True)
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        with short(path) as name:
            self._listener.bind(name)
        path.chmod(0o600)
        self._listener.listen(1)
        self._listener.setblocking(False)
        self._stepper: socket.socket | None = None
        self._skipping = False
        """Whether the stepper wants to hear of the next packet only."""
        self._interrupted = False

    def interrupt(self, *, interrupted: bool = True) -> None:
        """Hold no packet any more, and let go of the one that is held. Any thread may call it."""
        self._interrupted = interrupted
        stepper = self._stepper
        if interrupted and stepper is not None:
            with contextlib.suppress(OSError):  # it has gone by itself
                stepper.shutdown(socket.SHUT_RDWR)

    def tell(self, seen: Seen) -> None:
        """Tell of a step and wait until the stepper says to go on. Returns at once where there is none."""
        self._greet()
        if self._interrupted or self._stepper is None or (self._skipping and seen.step != "read"):
            return
        document = {"step": seen.step, "ok": seen.ok, "args": seen.args, "packet": seen.packet.hex()}
        try:
            self._stepper.settimeout(PATIENCE)
            self._stepper.sendall(json.dumps(document).encode() + b"\n")
            answer = self._stepper.recv(MAX_LINE)
        except OSError:
            answer = b""
        if not answer:
            self._leave()
        self._skipping = answer.strip() == b"packet"

    def _greet(self) -> None:
        """Take in whoever knocks; a second one is sent away."""
        if self._stepper is not None and select.select([self._stepper], [], [], 0)[0]:
            self._leave()  # it says something unasked, or has gone
        with contextlib.suppress(BlockingIOError):
            knocking, _ = self._listener.accept()
            if self._stepper is None:
                self._stepper, self._skipping = knocking, False
            else:
                knocking.close()

    def _leave(self) -> None:
        if self._stepper is not None:
            self._stepper.close()
        self._stepper, self._skipping = None, False


@contextlib.contextmanager
def short(path: Path) -> Iterator[str]:
    """A name of `path` that fits a socket's address, however long the path is."""
    directory = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{directory}/{path.name}"
    finally:
        os.close(directory)


_steps: Steps | None = None
"""Of this process, whatever engines it makes one after the other."""


class SteppedEngine(WatchedEngine):
    """The python engine that waits for a stepper."""

    def __init__(self, config: EngineConfig, steps: Steps) -> None:
        super().__init__(config, steps.tell)
        self._steps = steps
        steps.interrupt(interrupted=False)

    def interrupt(self) -> None:
        """Wait for the stepper no more."""
        self._steps.interrupt()


def create(config: EngineConfig) -> SteppedEngine:
    """Make the engine."""
    global _steps
    if _steps is None:
        _steps = Steps(_run_directory() / SOCKET)
    return SteppedEngine(config, _steps)


def _run_directory() -> Path:
    """Where this node keeps its sockets, from its own command line."""
    for number, word in enumerate(sys.argv):
        if word == "--run-dir" and number + 1 < len(sys.argv):
            return Path(sys.argv[number + 1])
        if word.startswith("--run-dir="):
            return Path(word.partition("=")[2])
    return Path(os.environ.get("UDPLANE_RUN_DIR", "/run/udplane"))


def connect(run_directory: Path) -> socket.socket:
    """The stepper's end of a node's socket. Raises OSError when the node cannot be stepped."""
    stepper = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with short(run_directory / SOCKET) as name:
            stepper.connect(name)
    except OSError:
        stepper.close()
        raise
    return stepper
