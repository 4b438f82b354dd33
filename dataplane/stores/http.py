"""A small HTTP/1.1 client over asyncio: just what the etcd gateway and the Kubernetes API need.

One request at a time on a connection; a connection that is idle and still open is used again; a response is
read whole (`HttpClient.fetch`) or line by line while it goes on (`HttpClient.lines`), which is how both
servers report a watch. Responses come with a length, in chunks (RFC 9112 section 7.1), or until the end of the
connection. Whatever a server sends, the outcome is a response or an `HttpError`; sizes are bounded.
"""

import asyncio
import contextlib
import os
import re
import socket
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping
from dataclasses import dataclass, field

CONNECT_SECONDS = 3.0
REQUEST_SECONDS = 10.0

_MAX_HEAD = 64 * 1024
_MAX_BODY = 64 * 1024 * 1024
_PIECE = 64 * 1024
_IDLE_SECONDS = 5.0

# A server that vanished without a word (power, partition) is noticed after 10 + 3 * 5 seconds of silence.
_KEEPALIVE = (
    (socket.TCP_KEEPIDLE, 10),
    (socket.TCP_KEEPINTVL, 5),
    (socket.TCP_KEEPCNT, 3),
    (socket.TCP_USER_TIMEOUT, 25_000),
)


class HttpError(Exception):
    """The server could not be reached, or what came was no HTTP response; the text says which."""


class UntrustedServerError(HttpError):
    """The server's certificate is not signed by a known authority, has run out, or is for another name."""


class HttpStatusError(HttpError):
    """A response by lines was asked for and the server answered with another status than 200."""

    def __init__(self, response: "Response") -> None:
        super().__init__(f"the server answered with status {response.status}")
        self.response = response


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a server listens. `tls` is None for plain HTTP."""

    host: str
    port: int
    tls: ssl.SSLContext | None = None

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'https' if self.tls else 'http'}://{host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Request:
    """One request; `target` is path and query."""

    method: str
    target: str
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Response:
    """A response that was read to its end."""

    status: int
    body: bytes


def tls_context(*, cafile: str = "", cadata: str = "") -> ssl.SSLContext:
    """What verifies servers: by the authority in a file or in PEM text, else by those that the system trusts.

    Chain and name are verified as Go does it. Python 3.13 would also insist on extensions that RFC 5280 asks for
    and that the authorities of many running clusters lack.
    """
    context = ssl.create_default_context(cafile=cafile or None, cadata=cadata or None)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    return context


class HttpClient:
    """Talks to one endpoint. Safe for concurrent use: each request has a connection to itself meanwhile."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self._idle: list[_Connection] = []

    async def fetch(self, request: Request) -> Response:
        """Send `request` and read the whole response, within `REQUEST_SECONDS`."""
        with _as_http_error(self.endpoint):
            async with asyncio.timeout(REQUEST_SECONDS), self._connection() as connection:
                return await connection.read_whole(await connection.exchange(request))

    async def lines(self, request: Request) -> AsyncGenerator[bytes, None]:
        """Send `request` and yield each line of its response when it comes, until the server ends it.

        It must begin within `REQUEST_SECONDS`. HttpStatusError unless its status is 200.
        """
        with _as_http_error(self.endpoint):
            async with self._connection() as connection:
                async with asyncio.timeout(REQUEST_SECONDS):
                    head = await connection.exchange(request)
                    if head.status != 200:
                        raise HttpStatusError(await connection.read_whole(head))
                buffer = bytearray()
                async for piece in connection.pieces(head):
                    buffer += piece
                    if b"\n" in piece:
                        *lines, rest = bytes(buffer).split(b"\n")
                        buffer = bytearray(rest)
                        for line in filter(None, lines):
                            yield line
                    if len(buffer) > _MAX_BODY:
                        raise HttpError(f"{self.endpoint} sent a line of more than {_MAX_BODY} bytes")
                if buffer:
                    yield bytes(buffer)

    async def close(self) -> None:
        """Close what is idle."""
        while self._idle:
            await self._idle.pop().close_wait()

    @contextlib.asynccontextmanager
    async def _connection(self) -> AsyncIterator["_Connection"]:
        connection = self._take_idle() or await _Connection.open(self.endpoint)
        try:
            yield connection
        except BaseException:
            connection.close()
            raise
        if connection.reusable:
            connection.idle_since = asyncio.get_running_loop().time()
            self._idle.append(connection)
        else:
            connection.close()

    def _take_idle(self) -> "_Connection | None":
        """An idle connection that the server has most likely not given up yet."""
        now = asyncio.get_running_loop().time()
        while self._idle:
            connection = self._idle.pop()
            if now - connection.idle_since < _IDLE_SECONDS and not connection.ended:
                return connection
            connection.close()
        return None


@dataclass(frozen=True, slots=True)
class _Head:
    """Status and header fields (names in lower case) of a response."""

    status: int
    fields: Mapping[str, str]


class _Connection:
    """One TCP or TLS connection, used for one exchange after the other."""

    def __init__(self, endpoint: Endpoint, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reusable = False
        self.idle_since = 0.0
        self._endpoint = endpoint
        self._reader = reader
        self._writer = writer

    @classmethod
    async def open(cls, endpoint: Endpoint) -> "_Connection":
        async with asyncio.timeout(CONNECT_SECONDS):
            reader, writer = await asyncio.open_connection(
                endpoint.host, endpoint.port, ssl=endpoint.tls, limit=_MAX_HEAD
            )
        connection = writer.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in _KEEPALIVE:
            connection.setsockopt(socket.IPPROTO_TCP, option, value)
        return cls(endpoint, reader, writer)

    @property
    def ended(self) -> bool:
        return self._reader.at_eof() or self._reader.exception() is not None

    def close(self) -> None:
        self._writer.close()

    async def close_wait(self) -> None:
        self._writer.close()
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()

    async def exchange(self, request: Request) -> _Head:
        """Send `request` and read the head of the response."""
        self.reusable = False
        self._writer.write(_encode(self._endpoint, request))
        await self._writer.drain()
        head = _parse_head(await self._reader.readuntil(b"\r\n\r\n"))
        while head.status < 200:
            head = _parse_head(await self._reader.readuntil(b"\r\n\r\n"))
        return head

    async def read_whole(self, head: _Head) -> Response:
        """Read the body to its end."""
        body = bytearray()
        async for piece in self.pieces(head):
            body += piece
            if len(body) > _MAX_BODY:
                raise HttpError(f"{self._endpoint} sent more than {_MAX_BODY} bytes")
        return Response(head.status, bytes(body))

    async def pieces(self, head: _Head) -> AsyncGenerator[bytes, None]:
        """The body as it comes. Read to the end, it leaves the connection ready for the next exchange."""
        if "chunked" in head.fields.get("transfer-encoding", "").lower():
            while size := int((await self._reader.readuntil(b"\r\n")).partition(b";")[0], 16):
                async for piece in self._exactly(size):
                    yield piece
                await self._reader.readexactly(2)
            while await self._reader.readuntil(b"\r\n") != b"\r\n":
                pass  # a trailer field
        elif "content-length" in head.fields:
            async for piece in self._exactly(int(head.fields["content-length"])):
                yield piece
        else:
            while piece := await self._reader.read(_PIECE):
                yield piece
            return
        self.reusable = head.fields.get("connection", "").lower() != "close"

    async def _exactly(self, size: int) -> AsyncGenerator[bytes, None]:
        if size < 0:
            raise ValueError("a negative length")
        while size > 0:
            piece = await self._reader.read(min(size, _PIECE))
            if not piece:
                raise asyncio.IncompleteReadError(b"", size)
            size -= len(piece)
            yield piece


def _encode(endpoint: Endpoint, request: Request) -> bytes:
    host = str(endpoint).partition("//")[2]
    fields = {"Host": host, "Accept": "application/json", "Content-Length": str(len(request.body)), **request.headers}
    lines = [f"{request.method} {request.target} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items())]
    if not all(line.isprintable() and line.isascii() for line in lines):
        raise HttpError("a request must not hold control characters or other than ASCII; check addresses and tokens")
    return "\r\n".join([*lines, "", ""]).encode("ascii") + request.body


def _parse_head(data: bytes) -> _Head:
    first, *lines = data.decode("latin-1").split("\r\n")
    status = re.fullmatch(r"HTTP/1\.[01] ([0-9]{3})(?: .*)?", first)
    if status is None:
        raise ValueError(f"{first[:40]!r} does not begin an HTTP response")
    fields = {}
    for line in filter(None, lines):
        name, _, value = line.partition(":")
        fields[name.lower()] = value.strip()
    return _Head(int(status[1]), fields)


@contextlib.contextmanager
def _as_http_error(endpoint: Endpoint) -> Iterator[None]:
    """Every way in which an exchange can fail is an HttpError that names the endpoint."""
    try:
        yield
    except TimeoutError as error:
        raise HttpError(f"{endpoint} did not answer in time") from error
    except ssl.SSLCertVerificationError as error:
        raise UntrustedServerError(
            f"{endpoint} shows a certificate that cannot be trusted: {error.verify_message}"
        ) from error
    except asyncio.IncompleteReadError as error:
        raise HttpError(f"{endpoint} ended the connection in the middle of a response") from error
    except (ValueError, asyncio.LimitOverrunError) as error:
        raise HttpError(f"{endpoint} does not speak HTTP/1.1: {error}") from error
    except OSError as error:
        # asyncio puts a text of its own in place of the system's. Name resolution has negative numbers and good texts.
        reason = os.strerror(error.errno) if error.errno is not None and error.errno > 0 else error.strerror or error
        raise HttpError(f"{endpoint} cannot be reached: {reason}") from error
