"""The HTTP client against servers that answer anything."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from dataplane.stores.http import Endpoint, HttpClient, HttpError, HttpStatusError, Request, Response

GET = Request("GET", "/")


async def with_server(answers: list[bytes], use: Callable[[HttpClient], Awaitable[None]]) -> int:
    """Run `use` against a server that sends the next of `answers` to each request; returns its connections' number."""
    connections = 0
    pending = iter(answers)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                answer = next(pending, None)
                if answer is None:
                    break
                writer.write(answer)
                await writer.drain()
                if b"keep" not in answer:
                    break
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    client = HttpClient(Endpoint("127.0.0.1", server.sockets[0].getsockname()[1]))
    try:
        await use(client)
    finally:
        await client.close()
        server.close()
        await server.wait_closed()
    return connections


def fetch(answer: bytes) -> Response:
    """The response that the client makes of `answer`."""
    responses = []

    async def use(client: HttpClient) -> None:
        responses.append(await client.fetch(GET))

    asyncio.run(with_server([answer], use))
    return responses[0]


def lines(answer: bytes) -> list[bytes]:
    """The lines that the client makes of `answer`."""
    received: list[bytes] = []

    async def use(client: HttpClient) -> None:
        async for line in client.lines(GET):
            received.append(line)  # noqa: PERF401  what came before an error counts

    asyncio.run(with_server([answer], use))
    return received


@pytest.mark.parametrize(
    ("answer", "response"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", Response(200, b"hello")),
        (b"HTTP/1.1 200 OK\r\ncontent-length:5\r\n\r\nhello, cut here", Response(200, b"hello")),
        (b"HTTP/1.0 404 Not Found\r\n\r\nuntil the end", Response(404, b"until the end")),
        (b"HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n", Response(200, b"")),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx", Response(200, b"x")),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;a=b\r\nhe\r\n3\r\nllo\r\n0\r\nTrailer: x\r\n\r\n",
            Response(200, b"hello"),
        ),
    ],
)
def test_responses_of_every_framing(answer: bytes, response: Response) -> None:
    assert fetch(answer) == response


@pytest.mark.parametrize(
    ("answer", "complaint"),
    [
        (b"", "ended the connection in the middle"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort", "ended the connection in the middle"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", "does not speak HTTP"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n", "does not speak HTTP"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "does not speak HTTP"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\n", "does not speak HTTP"),
        (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", "does not begin an HTTP response"),
        (b"HTTP/2 200\r\n\r\n", "does not begin an HTTP response"),
        (b"x" * 200_000, "does not speak HTTP"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n" + b"x" * 2000, "sent more than 1000 bytes"),
    ],
)
def test_what_is_no_response_is_an_error(answer: bytes, complaint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dataplane.stores.http._MAX_BODY", 1000)
    with pytest.raises(HttpError, match=complaint):
        fetch(answer)


def test_lines_come_whole_however_they_are_cut() -> None:
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    assert lines(head + b"3\r\n{a}\r\n4\r\n\n{b}\r\n2\r\n\n\n\r\n1\r\nc\r\n0\r\n\r\n") == [b"{a}", b"{b}", b"c"]
    with pytest.raises(HttpError, match="ended the connection"):
        lines(head + b"2\r\na\n\r\n")
    with pytest.raises(HttpStatusError) as caught:
        lines(b"HTTP/1.1 410 Gone\r\nContent-Length: 4\r\n\r\nlate")
    assert caught.value.response == Response(410, b"late")


def test_a_line_without_end_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dataplane.stores.http._MAX_BODY", 1000)
    with pytest.raises(HttpError, match="a line of more than 1000 bytes"):
        lines(b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 3000)


def test_a_connection_is_used_again_if_the_server_keeps_it() -> None:
    kept = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nkeep"
    closed = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 4\r\n\r\nkeep"

    async def use(client: HttpClient) -> None:
        for _ in range(3):
            assert (await client.fetch(GET)).body == b"keep"

    assert asyncio.run(with_server([kept, kept, kept], use)) == 1
    assert asyncio.run(with_server([kept, closed, kept], use)) == 2


def test_silence_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dataplane.stores.http.REQUEST_SECONDS", 0.1)
    with pytest.raises(HttpError, match="did not answer in time"):
        fetch(b"HTTP/1.1 200 OK keep\r\nContent-Length: 9\r\n\r\nshort")


def test_a_request_cannot_smuggle_header_fields() -> None:
    async def use(client: HttpClient) -> None:
        await client.fetch(Request("GET", "/", headers={"Authorization": "Bearer token\r\nX: y"}))

    with pytest.raises(HttpError, match="must not hold control characters"):
        asyncio.run(with_server([], use))


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=200), st.integers(0, 60))
@example(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"f" * 100 + b"\r\n", 0)
def test_any_answer_is_a_response_or_an_error(noise: bytes, cut: int) -> None:
    answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
    for data in (noise, answer[:cut] + noise, answer[:cut] + noise + answer[cut:]):
        try:
            fetch(data)
        except HttpError as error:
            assert "\n" not in str(error)
