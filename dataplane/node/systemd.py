"""Telling systemd that the node is ready, that it stops, and that it is alive.

The protocol is that of sd_notify(3) and sd_watchdog_enabled(3). Without systemd nothing here has an effect.
"""

import asyncio
import contextlib
import os
import socket


def notify(message: str) -> None:
    """Send one message, such as READY=1, to whoever waits for it."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if address:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock, contextlib.suppress(OSError):
            # A name that begins with @ is an abstract one, whose first byte is zero.
            sock.sendto(message.encode(), "\0" + address[1:] if address.startswith("@") else address)


async def watchdog() -> None:
    """Say twice in each period of the watchdog, if there is one, that the event loop turns. Never ends."""
    while period := _watchdog_seconds():
        notify("WATCHDOG=1")
        await asyncio.sleep(period / 2)
    await asyncio.Event().wait()


def _watchdog_seconds() -> float:
    """The period that systemd asks this process to keep; 0 if it asks for none."""
    text, process = os.environ.get("WATCHDOG_USEC", ""), os.environ.get("WATCHDOG_PID", "")
    meant = process in ("", str(os.getpid())) and text.isascii() and text.isdecimal() and len(text) < 16
    return int(text) / 1e6 if meant else 0.0
