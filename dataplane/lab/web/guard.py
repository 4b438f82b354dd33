"""What every request has to get past before anything of the page answers.

The page can open shells in a lab, so it is for its user alone, though any program and any web page may reach 127.0.0.1:

1. the request names this server by an address of its own: else a foreign name that resolves to 127.0.0.1 would do (DNS
   rebinding)
2. it shows the token, which was in the address that the server has printed, and is in a cookie from then on
3. what changes something, and every websocket, comes from a page of this server (Origin)
4. it is no larger than a request of the page ever is

What is answered may be framed, cached and guessed at by nobody, and runs no script but the server's own.
"""

import hmac
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass, field
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import parse_qs

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]

MAX_BODY = 256 * 1024
"""Bytes of the largest request: a recording's worth of exercise answers, or an engine of a student."""

POLICY_VIOLATION = 1008
"""Close code of a websocket (RFC 6455 7.4.1)."""

POLICY = (
    "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; worker-src 'self'; style-src 'self'; "
    "style-src-attr 'unsafe-inline'; img-src 'self' data:; connect-src 'self' {websockets}; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""`style-src-attr`: the terminal colours single letters by attributes."""

HEADERS = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}


@dataclass(frozen=True, slots=True)
class Door:
    """Who may come in, and by which names."""

    token: str
    hosts: frozenset[str]
    """Values of the header Host, in lower case: `127.0.0.1:8080`."""
    cookie: str = "udplane_lab"
    """Its name holds the port: browsers keep cookies by host, not by port."""
    origins: frozenset[str] = field(default=frozenset())
    """Values of the header Origin: as `hosts`, with their schemes."""


class Guard:
    """An ASGI application that lets through to `app` what may pass `door`."""

    def __init__(self, app: App, door: Door) -> None:
        """Stand before `app`."""
        self._app = app
        self._door = door
        websockets = " ".join(sorted(origin.replace("http", "ws", 1) for origin in door.origins))
        headers = {**HEADERS, "content-security-policy": POLICY.format(websockets=websockets)}
        self._headers = [(name.encode(), value.encode()) for name, value in headers.items()]

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer or pass on."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        headers = _headers(scope)
        refusal, fresh = self._judge(scope, headers)
        if refusal:
            await self._refuse(scope, receive, send, *refusal)
            return
        cookie = self._cookie(scope) if fresh else None
        await self._app(scope, _limited(receive) if scope["type"] == "http" else receive, self._closing(send, cookie))

    def _judge(self, scope: Message, headers: dict[str, list[str]]) -> tuple[tuple[int, str] | None, bool]:
        """Why the request is refused (status, text), and whether the token was in its address."""
        door = self._door
        host = headers.get("host", [])
        if len(host) != 1 or host[0].lower() not in door.hosts:
            return (421, "this server does not answer to that name; use the address that it has printed"), False
        shown = parse_qs(scope.get("query_string", b"").decode("latin-1")).get("token", [])
        fresh = scope["type"] == "http" and scope["path"] == "/" and len(shown) == 1 and self._is_token(shown[0])
        if not fresh and not self._is_token(_cookie_of(headers, door.cookie)):
            return (403, "the address lacks its token; use the one that `udplane lab web` has printed"), False
        changes = scope["type"] == "websocket" or scope.get("method") not in ("GET", "HEAD")
        if changes and (len(headers.get("origin", [])) != 1 or headers["origin"][0].lower() not in door.origins):
            return (403, "this did not come from the lab's own page"), False
        length = headers.get("content-length", ["0"])[0]
        if not (length.isascii() and length.isdigit()) or int(length[:12]) > MAX_BODY:
            return (413, f"a request has {MAX_BODY} bytes at most"), False
        return None, fresh

    def _is_token(self, shown: str) -> bool:
        return hmac.compare_digest(shown.encode("utf-8", "surrogatepass"), self._door.token.encode())

    def _cookie(self, scope: Message) -> tuple[bytes, bytes]:
        secure = "; Secure" if scope.get("scheme") == "https" else ""
        value = f"{self._door.cookie}={self._door.token}; HttpOnly; SameSite=Strict; Path=/{secure}"
        return b"set-cookie", value.encode()

    def _closing(self, send: Send, cookie: tuple[bytes, bytes] | None) -> Send:
        """`send`, with the headers that every answer bears."""

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                extra = [*self._headers, *([cookie] if cookie else [])]
                own = {name for name, _ in message.get("headers", [])}
                message["headers"] = [*message.get("headers", []), *(item for item in extra if item[0] not in own)]
            await send(message)

        return sending

    async def _refuse(self, scope: Message, receive: Receive, send: Send, status: int, text: str) -> None:
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": POLICY_VIOLATION})
            return
        body = f"udplane lab: {text}\n".encode()
        headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": status, "headers": [*headers, *self._headers]})
        await send({"type": "http.response.body", "body": body})


class TooLargeError(Exception):
    """A request's body went on behind `MAX_BODY`, whatever its header said."""


def _limited(receive: Receive) -> Receive:
    taken = 0

    async def receiving() -> Message:
        nonlocal taken
        message = await receive()
        taken += len(message.get("body", b""))
        if taken > MAX_BODY:
            raise TooLargeError
        return message

    return receiving


def _headers(scope: Message) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, value in scope.get("headers", []):
        found.setdefault(name.decode("latin-1").lower(), []).append(value.decode("latin-1"))
    return found


def _cookie_of(headers: dict[str, list[str]], name: str) -> str:
    """The value of a cookie, empty where there is none; the first one counts, as browsers send the closest first."""
    jar: SimpleCookie = SimpleCookie()
    for line in headers.get("cookie", []):
        try:
            jar.load(line[:4096])
        except CookieError:
            return ""
    return jar[name].value if name in jar else ""
