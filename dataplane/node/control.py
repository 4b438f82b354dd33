"""The control socket: how commands, scripts and curl talk to a running node.

HTTP/1.1 with JSON bodies over a unix socket in the node's run directory, mode 0660:

    curl --unix-socket /run/udplane/control.sock http://udplane/v1/status

| request | answer |
| --- | --- |
| `GET /v1/status` | everything: lease, store, backend, rules, peers, counters |
| `GET /v1/host` | what differs on the host from what the node has set up |
| `POST /v1/stop` | the node stops as on SIGTERM: pods keep what they need |
| `GET /healthz` | 200 when the node forwards packets, else 503 |
| `GET /metrics` | the status in numbers, for Prometheus |

A refused request gets a 4xx status and `{"error": "..."}`. The server works in threads of its own, so that a slow
client holds up nobody; a handler that needs the node's event loop sends its question there. A connection is for one
request, which has CLIENT_SECONDS for all of it, and there are MOST_CONNECTIONS: one more ends the oldest. So nobody can
use up the node's threads and descriptors by being slow, nor keep others from asking.
"""

import contextlib
import json
import socket
import socketserver
import struct
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException
from http.server import BaseHTTPRequestHandler
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Any, cast

from dataplane.errors import NodeError, file_error
from dataplane.kernel.leftovers import NOTHING
from dataplane.node.document import StatusDocument
from dataplane.unix_sockets import socket_name

SOCKET_MODE = 0o660
CLIENT_SECONDS = 10.0
"""How long a client may take for one request, and the node for an answer."""

MOST_CONNECTIONS = 32
"""At once, for each socket."""

_MAX_ANSWER_BYTES = 256 << 20
_ACCEPT_RETRY_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Text:
    """The body of an answer that is no JSON."""

    text: str
    kind: str = "text/plain; charset=utf-8"


Answer = tuple[HTTPStatus, Any]
Routes = Mapping[tuple[str, str], Callable[[], Answer]]
"""(method, path) -> a function that makes the answer: a status and something that JSON can hold, or a text."""


class _Handler(BaseHTTPRequestHandler):
    """Answers the requests of one connection."""

    protocol_version = "HTTP/1.1"
    server_version = "udplane"
    sys_version = ""
    timeout = CLIENT_SECONDS

    server: "_Server"

    def do_GET(self) -> None:
        """Answer a GET."""
        self._answer()

    def do_POST(self) -> None:
        """Answer a POST; no request here has a body, and one that is sent is not read."""
        self._answer()

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Refuse a request; the base class calls this for what is not HTTP."""
        del explain
        self.request_version = self.protocol_version  # it is HTTP/0.9, which has no headers, until a version was read
        self._send(code, {"error": message or HTTPStatus(code).phrase})

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Requests are no events of the node."""

    def _answer(self) -> None:
        path = self.path.partition("?")[0]
        routes = self.server.routes
        make = routes.get((self.command, path))
        methods = sorted(method for method, known in routes if known == path)
        if make is not None:
            try:
                status, body = make()
            except Exception as error:  # noqa: BLE001
                # Whatever it was: this client hears of it, and the node goes on.
                status, body = HTTPStatus.INTERNAL_SERVER_ERROR, {"error": f"{type(error).__name__}: {error}"}
            self._send(status, body)
        elif methods:
            self._send(HTTPStatus.METHOD_NOT_ALLOWED, {"error": f"{path} takes {' or '.join(methods)}"}, methods)
        else:
            known = ", ".join(f"{method} {path}" for method, path in routes)
            self._send(HTTPStatus.NOT_FOUND, {"error": f"there is no {path}; there is {known}"})

    def _send(self, code: int, body: Any, allowed: list[str] | None = None) -> None:
        if isinstance(body, str):
            body = Text(body)
        if isinstance(body, Text):
            kind, data = body.kind, body.text.encode()
        else:
            kind, data = "application/json", json.dumps(body, indent=2).encode() + b"\n"
        self.send_response(code)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.send_header("Connection", "close")
        if allowed:
            self.send_header("Allow", ", ".join(allowed))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)


class _Server(socketserver.ThreadingMixIn, socketserver.TCPServer):
    """A server on a socket of any stream family, given already bound."""

    daemon_threads = True

    def __init__(self, listener: socket.socket, routes: Routes) -> None:
        """Serve `routes` on `listener`, which this takes over."""
        socketserver.BaseServer.__init__(self, listener.getsockname(), _Handler)
        self.socket = listener
        self.routes = routes
        self._connections: dict[socket.socket, float] = {}  # since when, the oldest first
        self._lock = threading.Lock()
        self.socket.listen()

    def get_request(self) -> tuple[socket.socket, Any]:
        """Accept a connection. A unix client has no address, but the handler's base class takes one to be there."""
        try:
            connection, address = self.socket.accept()
        except OSError:
            time.sleep(_ACCEPT_RETRY_SECONDS)  # out of descriptors, and the listener stays readable
            raise
        with self._lock:
            self._connections[connection] = time.monotonic()
            if len(self._connections) > MOST_CONNECTIONS:
                oldest = next(iter(self._connections))
                del self._connections[oldest]
                _hang_up(oldest)
        return connection, address or ("local", 0)

    def service_actions(self) -> None:
        """Hang up on whoever takes too long; the base class calls this several times a second."""
        started_before = time.monotonic() - CLIENT_SECONDS
        with self._lock:
            for connection, since in self._connections.items():
                if since < started_before:
                    _hang_up(connection)

    def shutdown_request(self, request: Any) -> None:
        """End a connection."""
        with self._lock:
            self._connections.pop(request, None)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hung up is no event of the node."""


def _hang_up(connection: socket.socket) -> None:
    """End a connection, whose thread then ends by itself."""
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)


@contextlib.contextmanager
def serving(listener: socket.socket, routes: Routes) -> Iterator[None]:
    """Answer requests on the bound socket `listener` for the length of a `with` block."""
    server = _Server(listener, routes)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1}, name="control", daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextlib.contextmanager
def control_socket(path: Path) -> Iterator[socket.socket]:
    """The bound socket at `path`, removed at the end. One that is there already is stale: the caller holds the lock."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        with socket_name(path) as name:
            listener.bind(name)
        path.chmod(SOCKET_MODE)
    except OSError as error:
        listener.close()
        raise file_error(f"cannot make the control socket {path}: {{}}; choose another --run-dir", error) from error
    try:
        yield listener
    finally:
        path.unlink(missing_ok=True)


class ServedSocket:
    """The control socket at `path` with `routes` behind it: a `wishes.Wish`. `fulfil` opens it, `close` ends it."""

    vital = False
    leftovers = NOTHING

    def __init__(self, path: Path, routes: Routes) -> None:
        self.what = f"the control socket {path}"
        self._path, self._routes = path, routes
        self._open = contextlib.ExitStack()
        self._identity = (0, 0)

    def difference(self) -> str:
        """Whether somebody removed or replaced it."""
        try:
            return "" if _identity(self._path) == self._identity else "was another"
        except OSError:
            return "was gone"

    def fulfil(self) -> None:
        """Answer at `path`. NodeError if it cannot be made."""
        self.close()
        with contextlib.ExitStack() as opening:
            listener = opening.enter_context(control_socket(self._path))
            opening.enter_context(serving(listener, self._routes))
            self._identity = _identity(self._path)
            self._open = opening.pop_all()

    def close(self) -> None:
        """Answer no more, and remove the socket."""
        self._open.close()


def _identity(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_dev, found.st_ino


def health_socket(address: IPv4Address | IPv6Address, port: int) -> socket.socket:
    """A TCP socket bound to `address` and `port`; NodeError if they are taken."""
    family = socket.AF_INET6 if address.version == 6 else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((str(address), port))
    except OSError as error:
        listener.close()
        raise NodeError(
            f"cannot use TCP port {port} of {address}: {error.strerror}; choose another --healthz-port"
        ) from error
    return listener


class ControlClient:
    """Talks to the node whose control socket is at `path`. NodeError when no node answers there."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def request(self, method: str, target: str) -> Any:
        """The body of the answer to one request, decoded. NodeError if the node refuses."""
        connection = HTTPConnection("udplane", timeout=CLIENT_SECONDS)
        with self._connect() as connection.sock:
            try:
                connection.request(method, target)
                response = connection.getresponse()
                body = json.loads(response.read(_MAX_ANSWER_BYTES))
            except (OSError, HTTPException, ValueError) as error:
                raise NodeError(f"the node at {self._path} gives no sensible answer ({error}); see its log") from error
        if response.status >= HTTPStatus.BAD_REQUEST:
            raise NodeError(f"the node at {self._path} refuses {target}: {body.get('error', response.reason)}")
        return body

    def status(self) -> StatusDocument:
        """Everything that the node tells about itself."""
        status = self.request("GET", "/v1/status")
        if not isinstance(status, dict):
            raise NodeError(f"the node at {self._path} gives no sensible answer; see its log")
        return cast(StatusDocument, status)

    def process_id(self) -> int:
        """The node's process, as the kernel knows it."""
        with self._connect() as sock:
            credentials = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        pid: int = struct.unpack("3i", credentials)[0]
        return pid

    def _connect(self) -> socket.socket:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        # A socket with a timeout of Python's would not wait where many others connect, but fail (unix(7), EAGAIN).
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", int(CLIENT_SECONDS), 0))
        try:
            with socket_name(self._path) as name:
                sock.connect(name)
        except OSError as error:
            sock.close()
            raise NodeError(_no_answer(self._path, error)) from error
        sock.settimeout(CLIENT_SECONDS)
        return sock


def _no_answer(path: Path, error: OSError) -> str:
    if isinstance(error, FileNotFoundError | ConnectionRefusedError):
        return f"no node runs with the run directory {path.parent}; start one with `udplane up`, or name its --run-dir"
    if isinstance(error, PermissionError):
        return f"no permission to use {path}; run as root"
    return f"cannot reach the node at {path}: {error.strerror or error}"
