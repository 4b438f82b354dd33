"""The server lets in its own page alone: token, names, origins, sizes, and no path out of its files."""

import json
import socket

import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect
from websockets.typing import Origin

from dataplane.lab.web.guard import MAX_BODY
from tests.lab.web.conftest import Served

WRONG = "x" * 32


def test_a_token_opens_the_page_and_stays_in_a_cookie(served: Served) -> None:
    status, headers, body = served.ask("GET", f"/?token={served.token}")
    assert (status, b'id="boot"' in body) == (200, True)
    cookie = headers["set-cookie"]
    assert "HttpOnly" in cookie and "SameSite=Strict" in cookie and f"udplane_lab_{served.port}=" in cookie
    assert served.ask("GET", "/static/js/main.js", cookie=cookie.partition(";")[0])[0] == 200


@pytest.mark.parametrize("target", ["/", f"/?token={WRONG}", "/?token=", "/static/js/main.js", "/api/live", "/nothing"])
def test_without_the_token_there_is_nothing(served: Served, target: str) -> None:
    status, headers, body = served.ask("GET", target)
    assert (status, "set-cookie" in headers) == (403, False)
    assert body == b"udplane lab: the address lacks its token; use the one that `udplane lab web` has printed\n"


def test_the_token_counts_in_the_address_of_the_page_alone(served: Served) -> None:
    assert served.ask("GET", f"/api/lab?token={served.token}")[0] == 403
    assert served.ask("GET", f"/?token={WRONG}&token={served.token}")[0] == 403
    assert served.ask("GET", "/api/lab", cookie=f"udplane_lab_{served.port}={WRONG}")[0] == 403
    assert served.ask("GET", "/api/lab", cookie=f"udplane_lab_1={served.token}")[0] == 403
    assert served.ask("GET", "/?token=%ff%00%ed%a0%80")[0] == 403


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1", "127.0.0.1:1", "localhost", "[::1]", "127.0.0.1.evil.example"]
)
def test_a_foreign_name_is_not_ours(served: Served, host: str) -> None:
    assert served.ask("GET", f"/?token={served.token}", host=host)[0] == 421


def test_two_names_are_none(served: Served) -> None:
    with socket.create_connection(("127.0.0.1", served.port), timeout=20) as raw:
        request = f"GET /?token={served.token} HTTP/1.1\r\nHost: {served.host}\r\nHost: evil.example\r\n\r\n"
        raw.sendall(request.encode())
        assert raw.recv(4096).split()[1] in (b"400", b"421")


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "https://127.0.0.1", "http://127.0.0.1:1"])
def test_only_our_own_page_changes_anything(served: Served, origin: str) -> None:
    cookie = f"udplane_lab_{served.port}={served.token}"
    assert served.ask("POST", "/api/captures", b"{}", cookie=cookie, origin=origin)[0] == 403
    assert served.ask("POST", "/api/captures", b"{}", cookie=cookie)[0] == 403
    assert refused(served, Origin(origin), cookie)


def test_a_websocket_needs_the_token_too(served: Served) -> None:
    assert refused(served, Origin(f"http://{served.host}"), "")


def refused(served: Served, origin: Origin, cookie: str) -> bool:
    """Whether a terminal is refused to a page from there."""
    target, headers = f"ws://{served.host}/ws/terminals/pod1", {"Cookie": cookie}
    with pytest.raises(InvalidStatus, match="403"), connect(target, origin=origin, additional_headers=headers):
        pass
    return True


@pytest.mark.parametrize(
    "target",
    [
        "/static/../app.py",
        "/static/%2e%2e/app.py",
        "/static/..%2fapp.py",
        "/static//etc/passwd",
        "/static/js/",
        "/static/index.html",
        "/engine/pyodide/..%2f..%2f..%2fetc/passwd",
        "/engine/../judge.py",
        "/api/walks/..%2flab",
        "/api/walks/%00",
    ],
)
def test_no_path_leads_out_of_the_page(served: Served, target: str) -> None:
    status, body = served.known("GET", target)
    assert status in (404, 409)
    assert b"root:" not in body and b"import" not in body


def test_requests_have_a_size(served: Served) -> None:
    assert served.known("POST", "/api/walks", b" " * (MAX_BODY + 1))[0] == 413
    with socket.create_connection(("127.0.0.1", served.port), timeout=20) as raw:
        head = (
            f"POST /api/walks HTTP/1.1\r\nHost: {served.host}\r\nOrigin: http://{served.host}\r\n"
            f"Cookie: udplane_lab_{served.port}={served.token}\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        raw.sendall(head.encode())
        chunk = b"10000\r\n" + b" " * 65536 + b"\r\n"
        for _ in range(MAX_BODY // 65536 + 1):
            raw.sendall(chunk)
        raw.sendall(b"0\r\n\r\n")
        assert raw.recv(4096).split()[1] == b"413"


def test_what_is_answered_runs_no_foreign_script(served: Served) -> None:
    for target in ("/?token=" + served.token, "/nothing"):
        headers = served.ask("GET", target)[1]
        policy = dict(part.strip().split(" ", 1) for part in headers["content-security-policy"].split(";"))
        assert policy["default-src"] == "'none'" and policy["frame-ancestors"] == "'none'"
        assert policy["script-src"] == "'self' 'wasm-unsafe-eval'" and policy["style-src"] == "'self'"
        assert headers["x-content-type-options"] == "nosniff" and headers["referrer-policy"] == "no-referrer"


@pytest.mark.parametrize(
    ("method", "target", "body"),
    [
        ("POST", "/api/captures", b"{"),
        ("POST", "/api/captures", b"[]"),
        ("POST", "/api/captures", b"[" * 100000),
        ("POST", "/api/walks", b'{"from": "--help", "to": "pod1"}'),
        ("POST", "/api/walks", b'{"from": "pod1", "to": "pod2", "size": -1}'),
        ("POST", "/api/exercises/1/format", b"{}"),
        ("POST", "/api/exercises/x/check", b"{}"),
        ("POST", "/api/exercises/1/start", b"{}"),
        ("GET", "/api/lab", None),
        ("GET", "/api/captures/7", None),
        ("DELETE", "/api/captures/7", None),
    ],
)
def test_nonsense_gets_a_sentence(served: Served, method: str, target: str, body: bytes | None) -> None:
    status, answer = served.known(method, target, body)
    assert status == 409
    text = json.loads(answer)["error"]
    assert "\n" not in text and "Traceback" not in text
