"""The control socket: what clients get, and that no client can hurt the server."""

import contextlib
import json
import os
import socket
import stat
import subprocess
import threading
from collections.abc import Iterator
from http import HTTPStatus
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dataplane.errors import NodeError
from dataplane.node import control
from dataplane.node.control import Answer, ControlClient, control_socket, health_socket, serving
from tests.waiting import wait_until


def broken() -> Answer:
    raise RuntimeError("a defect")


ROUTES = {
    ("GET", "/v1/status"): lambda: (HTTPStatus.OK, {"phase": "ready"}),
    ("POST", "/v1/stop"): lambda: (HTTPStatus.ACCEPTED, {"stopping": True}),
    ("GET", "/v1/broken"): broken,
    ("GET", "/v1/text"): lambda: (HTTPStatus.OK, "not an object"),
}


@pytest.fixture
def path(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "control.sock"
    with control_socket(path) as listener, serving(listener, ROUTES):
        yield path
    assert not path.exists()


def raw(path: Path, request: bytes) -> tuple[int, Any]:
    """Send bytes as they are; returns the status and the decoded body of the answer."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(5)
        client.connect(str(path))
        client.sendall(request)
        client.shutdown(socket.SHUT_WR)
        answer = b"".join(iter(lambda: client.recv(65536), b""))
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(body)


def test_a_client_gets_the_answer(path: Path) -> None:
    assert dict(ControlClient(path).status()) == {"phase": "ready"}
    assert ControlClient(path).request("POST", "/v1/stop") == {"stopping": True}


def test_curl_gets_the_answer(path: Path) -> None:
    done = subprocess.run(
        ["curl", "--silent", "--fail", "--unix-socket", path.name, "http://udplane/v1/status?pretty"],
        cwd=path.parent,
        capture_output=True,
        check=True,
        timeout=20,
    )
    assert json.loads(done.stdout) == {"phase": "ready"}


def test_only_owner_and_group_may_ask(path: Path) -> None:
    assert stat.S_IMODE(path.stat().st_mode) == 0o660


def test_a_client_knows_the_servers_process(path: Path) -> None:
    assert ControlClient(path).process_id() == os.getpid()


@pytest.mark.parametrize(
    ("request_bytes", "status", "words"),
    [
        (b"GET /v1/nothing HTTP/1.1\r\n\r\n", 404, "there is GET /v1/status"),
        (b"POST /v1/status HTTP/1.1\r\n\r\n", 405, "/v1/status takes GET"),
        (b"GET /v1/stop HTTP/1.1\r\nConnection: close\r\n\r\n", 405, "/v1/stop takes POST"),
        (b"DELETE /v1/status HTTP/1.1\r\n\r\n", 501, "Unsupported method"),
        (b"nonsense\r\n\r\n", 400, "Bad request syntax"),
        (b"GET /v1/status HTTP/9.9\r\n\r\n", 505, "Invalid HTTP version"),
        (b"GET /" + b"x" * 70000 + b" HTTP/1.1\r\n\r\n", 414, "Too Long"),
        (b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 200 + b"\r\n", 431, "Too many headers"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\r\n\r\n", 400, "Bad"),
        (b"GET /v1/broken HTTP/1.1\r\nConnection: close\r\n\r\n", 500, "RuntimeError: a defect"),
    ],
)
def test_a_wrong_request_gets_an_error_in_json(path: Path, request_bytes: bytes, status: int, words: str) -> None:
    got, body = raw(path, request_bytes)
    assert got == status
    assert words.lower() in body["error"].lower()


@settings(max_examples=60, deadline=None, suppress_health_check=[*HealthCheck])
@given(st.binary(max_size=200))
def test_no_bytes_hurt_the_server(path: Path, data: bytes) -> None:
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(5)
        client.connect(str(path))
        client.sendall(data)
    assert dict(ControlClient(path).status()) == {"phase": "ready"}


def test_a_slow_client_holds_up_nobody(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as slow:
        slow.connect(str(path))
        slow.sendall(b"GET /v1/st")
        assert dict(ControlClient(path).status()) == {"phase": "ready"}


def test_many_clients_at_once(path: Path) -> None:
    answers: list[Any] = []
    threads = [threading.Thread(target=lambda: answers.append(ControlClient(path).status())) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert answers == [{"phase": "ready"}] * 20


def test_slow_clients_are_few_and_end(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As many as like may begin a request and never end it: no threads are used up, and others are answered."""
    before = threading.active_count()
    with contextlib.ExitStack() as stack:
        slow = [stack.enter_context(socket.socket(socket.AF_UNIX)) for _ in range(5 * control.MOST_CONNECTIONS)]
        for client in slow:
            client.connect(str(path))
            client.settimeout(5)
            with contextlib.suppress(BrokenPipeError):
                client.sendall(b"GET /v1/st")
        assert dict(ControlClient(path).status()) == {"phase": "ready"}
        wait_until(lambda: threading.active_count() <= before + control.MOST_CONNECTIONS + 1, "threads end")
        assert slow[0].recv(1) == b"", "the oldest was hung up on"
        monkeypatch.setattr(control, "CLIENT_SECONDS", 0.2)
        for _ in range(10):  # one that sends a little now and then is no better
            with contextlib.suppress(OSError):
                slow[-1].sendall(b"a")
        assert slow[-1].recv(1) == b"", "the last was hung up on when its time was over"
    wait_until(lambda: threading.active_count() == before, "all threads end")


def test_a_refusal_is_an_error_that_names_the_reason(path: Path) -> None:
    with pytest.raises(NodeError, match="refuses /v1/status: /v1/status takes GET"):
        ControlClient(path).request("POST", "/v1/status")


def test_no_node_is_said_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(NodeError, match=r"no node runs with the run directory .*; start one with `udplane up`"):
        ControlClient(tmp_path / "control.sock").status()


def test_a_server_that_is_no_node_is_said(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        answering = threading.Thread(target=lambda: _answer_once(listener, b"SSH-2.0-hello\r\n"))
        answering.start()
        with pytest.raises(NodeError, match="gives no sensible answer"):
            ControlClient(path).status()
        answering.join(10)


def test_a_stale_socket_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    with control_socket(path) as listener, serving(listener, ROUTES):
        assert dict(ControlClient(path).status()) == {"phase": "ready"}


def test_a_run_directory_may_have_a_long_path(tmp_path: Path) -> None:
    path = tmp_path / ("x" * 60) / ("y" * 60) / "control.sock"
    with control_socket(path) as listener, serving(listener, ROUTES):
        assert dict(ControlClient(path).status()) == {"phase": "ready"}
    assert not path.exists()


def test_a_path_that_no_socket_can_have_is_said(tmp_path: Path) -> None:
    with (
        pytest.raises(NodeError, match=r"cannot make the control socket .*: .*too long; choose another --run-dir"),
        control_socket(tmp_path / ("x" * 120)),
    ):
        raise AssertionError("it was made all the same")


def test_a_busy_health_port_is_said() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(NodeError, match=r"cannot use TCP port \d+ of 127.0.0.1: .*in use; choose another"):
            health_socket(IPv4Address("127.0.0.1"), taken.getsockname()[1])


def _answer_once(listener: socket.socket, answer: bytes) -> None:
    connection, _ = listener.accept()
    with connection:
        connection.recv(65536)
        connection.sendall(answer)
