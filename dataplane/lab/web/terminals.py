"""Terminals in the page: a shell at a place of the lab, on a pseudo-terminal, its bytes over a websocket.

What comes from the page is JSON: `{"type": "input", "data": "..."}` or `{"type": "size", "rows": 24, "cols": 80}`. What
goes to it are the terminal's own bytes, and at the end a text that says how the shell has ended. When the websocket
closes, the shell and all that it has started in its session lose their terminal and end.
"""

import asyncio
import fcntl
import json
import os
import pty
import signal
import struct
import subprocess
import termios
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from starlette.websockets import WebSocket, WebSocketDisconnect

from dataplane.lab.netns import LabError

MAX_TERMINALS = 12
MAX_INPUT = 16 * 1024
"""Bytes of one message from the page: a paste."""
CHUNK = 32 * 1024
MAX_ROWS, MAX_COLUMNS = 300, 500
GRACE_SECONDS = 2.0
"""How long a shell may take to end when its terminal is gone."""


class Terminal:
    """A program on a pseudo-terminal of its own. `close` ends both."""

    def __init__(self, argv: Sequence[str], environment: Mapping[str, str]) -> None:
        """Start `argv`. Raises LabError when it cannot be started."""
        self.master, slave = pty.openpty()
        try:
            # setsid(1) makes the terminal the controlling one, so that Ctrl-C reaches the shell's programs.
            self.process = subprocess.Popen(
                ["setsid", "--ctty", "--wait", *argv], stdin=slave, stdout=slave, stderr=slave, env=dict(environment)
            )
        except OSError as error:
            os.close(self.master)
            raise LabError(f"cannot start a shell: {error.strerror}") from error
        finally:
            os.close(slave)
        os.set_blocking(self.master, False)

    def resize(self, rows: int, columns: int) -> None:
        """Tell the programs how large the terminal is."""
        rows, columns = max(1, min(rows, MAX_ROWS)), max(1, min(columns, MAX_COLUMNS))
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    async def close(self) -> int:
        """Take the terminal away, which the kernel tells its programs by SIGHUP; returns the exit status."""
        os.close(self.master)
        try:
            return await asyncio.to_thread(self.process.wait, GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return await asyncio.to_thread(self.process.wait)


class Terminals:
    """The terminals of a page, of which there are only so many at a time."""

    def __init__(self) -> None:
        self.open = 0

    async def serve(self, socket: WebSocket, argv: Sequence[str], environment: Mapping[str, str]) -> None:
        """Run `argv` for an accepted websocket until either ends."""
        if self.open >= MAX_TERMINALS:
            await socket.send_text(f"{MAX_TERMINALS} terminals are open already; close one first")
            await socket.close()
            return
        self.open += 1
        try:
            await self._serve(socket, Terminal(argv, environment))
        except LabError as error:
            await socket.send_text(str(error))
        finally:
            self.open -= 1
            with suppress(RuntimeError, WebSocketDisconnect):
                await socket.close()

    async def _serve(self, socket: WebSocket, terminal: Terminal) -> None:
        status = None
        tasks = [asyncio.create_task(_to_page(socket, terminal)), asyncio.create_task(_from_page(socket, terminal))]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            status = await terminal.close()
        with suppress(RuntimeError, WebSocketDisconnect):
            await socket.send_text(f"the shell has ended, status {_readable(status)}")


def _readable(status: int) -> str:
    return signal.Signals(-status).name if status < 0 else str(status)


async def _to_page(socket: WebSocket, terminal: Terminal) -> None:
    """What the programs print, until the last of them has closed the terminal."""
    while True:
        await _ready(terminal.master, write=False)
        try:
            data = os.read(terminal.master, CHUNK)
        except BlockingIOError:
            continue
        except OSError:
            return
        if not data:
            return
        await socket.send_bytes(data)


async def _from_page(socket: WebSocket, terminal: Terminal) -> None:
    """What is typed, until the page goes."""
    with suppress(WebSocketDisconnect, OSError, ValueError, TypeError, AttributeError):
        while True:
            text = await socket.receive_text()
            if len(text) > MAX_INPUT:
                return
            message: dict[str, Any] = json.loads(text)
            if message.get("type") == "size":
                terminal.resize(int(message["rows"]), int(message["cols"]))
            elif message.get("type") == "input":
                await _write(terminal.master, str(message["data"]).encode())


async def _write(descriptor: int, data: bytes) -> None:
    while data:
        try:
            data = data[os.write(descriptor, data) :]
        except BlockingIOError:
            await _ready(descriptor, write=True)


async def _ready(descriptor: int, *, write: bool) -> None:
    """Wait until the descriptor can be read from or written to."""
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    add, remove = (loop.add_writer, loop.remove_writer) if write else (loop.add_reader, loop.remove_reader)
    add(descriptor, ready.set)
    try:
        await ready.wait()
    finally:
        remove(descriptor)
