"""The server of the page: a socket on 127.0.0.1, a token, and the address to open.

The socket is bound where the browser is, outside of the lab's namespaces, and handed to the process inside: a socket
stays in the network namespace in which it was made. So the lab can be seen by the page while nothing of the lab's own
network can reach it.
"""

import os
import secrets
import socket
from collections.abc import Mapping
from pathlib import Path

import uvicorn

from dataplane.lab.netns import LabError
from dataplane.lab.web.app import Page
from dataplane.lab.web.guard import Door, Guard

LOOPBACK = "127.0.0.1"
BACKLOG = 64
MAX_CONNECTIONS = 128
MAX_MESSAGE = 64 * 1024
"""Bytes of a websocket's message."""


def listen(port: int) -> socket.socket:
    """A listening socket on loopback; port 0 chooses a free one. Raises LabError when the port is in use."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((LOOPBACK, port))
    except OSError as error:
        listener.close()
        raise LabError(f"cannot serve on port {port} of {LOOPBACK}: {error.strerror}; leave --port out") from error
    listener.listen(BACKLOG)
    return listener


def new_token() -> str:
    """What a page shows to be let in."""
    return secrets.token_urlsafe(24)


def codespace_host(port: int, environment: Mapping[str, str] = os.environ) -> str | None:
    """The name by which GitHub forwards a port of a Codespace; None elsewhere."""
    name = environment.get("CODESPACE_NAME")
    domain = environment.get("GITHUB_CODESPACES_PORT_FORWARDING_DOMAIN")
    return f"{name}-{port}.{domain}".lower() if name and domain else None


def in_wsl() -> bool:
    """Whether this is Linux in Windows, whose browser reaches the loopback here as `localhost`."""
    try:
        return "microsoft" in Path("/proc/sys/kernel/osrelease").read_text().lower()
    except OSError:
        return False


def addresses(port: int, token: str) -> list[str]:
    """The addresses that open the page, the best first."""
    found = []
    forwarded = codespace_host(port)
    if forwarded:
        found.append(f"https://{forwarded}/?token={token}")
    if in_wsl():
        found.append(f"http://localhost:{port}/?token={token}")
    return [*found, f"http://{LOOPBACK}:{port}/?token={token}"]


def door(port: int, token: str) -> Door:
    """Who may come in by that port."""
    names = [f"{LOOPBACK}:{port}", f"localhost:{port}"]
    origins = [f"http://{name}" for name in names]
    forwarded = codespace_host(port)
    if forwarded:
        names.append(forwarded)
        origins.append(f"https://{forwarded}")
    return Door(token, frozenset(names), f"udplane_lab_{port}", frozenset(origins))


def config(app: Guard) -> uvicorn.Config:
    """How the server works: quietly, and with a bound for all that a page may ask of it."""
    return uvicorn.Config(
        app,
        log_level="error",
        access_log=False,
        server_header=False,
        lifespan="on",
        ws="websockets-sansio",
        ws_max_size=MAX_MESSAGE,
        limit_concurrency=MAX_CONNECTIONS,
        timeout_keep_alive=5,
        timeout_graceful_shutdown=2,
        h11_max_incomplete_event_size=32 * 1024,
    )


def serve(listener: socket.socket, token: str, page: Page) -> None:
    """Answer on `listener` until SIGINT or SIGTERM."""
    server = uvicorn.Server(config(Guard(page.app(), door(listener.getsockname()[1], token))))
    page.leave = lambda: setattr(server, "should_exit", True)
    server.run(sockets=[listener])
