"""What is said to systemd, and when nothing is."""

import asyncio
import contextlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from dataplane.node import systemd


@pytest.fixture
def listener(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    with contextlib.closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as sock:
        sock.bind(str(tmp_path / "notify"))
        sock.settimeout(5)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        yield sock


def test_a_message_arrives(listener: socket.socket) -> None:
    systemd.notify("READY=1")
    assert listener.recv(100) == b"READY=1"


def test_an_abstract_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    name = f"udplane-test-{os.getpid()}"
    with contextlib.closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as sock:
        sock.bind(f"\0{name}")
        sock.settimeout(5)
        monkeypatch.setenv("NOTIFY_SOCKET", f"@{name}")
        systemd.notify("STOPPING=1")
        assert sock.recv(100) == b"STOPPING=1"


@pytest.mark.parametrize("address", ["", "/nonexistent/socket", "x" * 200])
def test_nobody_there_is_no_error(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", address)
    systemd.notify("READY=1")


@pytest.mark.parametrize("process", ["", str(os.getpid())], ids=["any process", "this process"])
def test_the_watchdog_is_fed_again_and_again(
    listener: socket.socket, monkeypatch: pytest.MonkeyPatch, process: str
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "20000")
    monkeypatch.setenv("WATCHDOG_PID", process)

    async def feed() -> None:
        feeding = asyncio.create_task(systemd.watchdog())
        for _ in range(3):
            assert await asyncio.to_thread(listener.recv, 100) == b"WATCHDOG=1"
        feeding.cancel()

    asyncio.run(asyncio.wait_for(feed(), 10))


@pytest.mark.parametrize(
    ("microseconds", "process"), [("", ""), ("0", ""), ("soon", ""), ("-5", ""), ("9" * 5000, ""), ("1000", "1")]
)
def test_where_no_watchdog_is_meant_none_is_fed(
    listener: socket.socket, monkeypatch: pytest.MonkeyPatch, microseconds: str, process: str
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", microseconds)
    monkeypatch.setenv("WATCHDOG_PID", process)

    async def run() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(systemd.watchdog(), 0.05)

    asyncio.run(run())
    listener.setblocking(False)
    with pytest.raises(BlockingIOError):
        listener.recv(100)
