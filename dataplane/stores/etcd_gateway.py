"""etcd v3 through its JSON gateway: gRPC calls as `POST /v3/...`, which every etcd since 3.4 serves.

What the gateway does to the protocol: keys and values travel in base64, 64-bit integers as strings, and a
field that has its default value is left out (a transaction that failed has no `succeeded`, an empty range
no `kvs`). A watch is a response that does not end, one JSON object a line.

Several endpoints: a call goes to the one that answered last and, if that fails, once to each of the others. A
member that has no leader refuses calls, and counts as one that does not answer.
"""

import base64
import contextlib
import json
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from dataplane.errors import StoreError
from dataplane.stores.http import (
    Endpoint,
    HttpClient,
    HttpError,
    HttpStatusError,
    Request,
    Response,
    UntrustedServerError,
)

Json = dict[str, Any]
_Answer = TypeVar("_Answer")

# google.golang.org/grpc/codes
_INVALID_ARGUMENT = 3
_PERMISSION_DENIED = 7
_UNAUTHENTICATED = 16

_WATCH_HEADERS = {"Grpc-Metadata-hasleader": "true"}
"""Ends the watch when its member loses the leader (etcd api/v3/v3rpc/rpctypes/md.go)."""


class CompactedError(Exception):
    """A watch asked for revisions that etcd has compacted away."""

    def __init__(self) -> None:
        super().__init__("etcd has compacted the changes that the watch asked for; listing anew")


@dataclass(frozen=True, slots=True)
class KeyValue:
    """One key as etcd holds it. `lease` is 0 for a key that never expires."""

    key: str
    value: bytes
    create_revision: int
    mod_revision: int
    lease: int

    @classmethod
    def from_json(cls, source: Json) -> "KeyValue":
        """Read a key of an answer; TypeError or ValueError if it is none."""
        return cls(
            key=base64.b64decode(source.get("key", "")).decode("utf-8", "replace"),
            value=base64.b64decode(source.get("value", "")),
            create_revision=int(source.get("create_revision", 0)),
            mod_revision=int(source.get("mod_revision", 0)),
            lease=int(source.get("lease", 0)),
        )


@dataclass(frozen=True, slots=True)
class WatchEvent:
    """A key was deleted (then only its name and revision are set) or written."""

    deleted: bool
    kv: KeyValue


@dataclass(frozen=True, slots=True)
class Credentials:
    """User and password; both empty for none."""

    username: str = ""
    password: str = ""


def encode(text: str) -> str:
    """Text as the gateway wants bytes."""
    return base64.b64encode(text.encode()).decode()


def prefix_end(prefix: str) -> str:
    """The end of the range of all keys that begin with `prefix` (ASCII): its last byte plus one."""
    return prefix[:-1] + chr(ord(prefix[-1]) + 1)


class Gateway:
    """The calls that a lease store needs, over any of `endpoints`. Failures are `StoreError`s."""

    def __init__(self, endpoints: Sequence[Endpoint], credentials: Credentials) -> None:
        self._clients = [HttpClient(endpoint) for endpoint in endpoints]
        self._credentials = credentials
        self._tokens: dict[HttpClient, str] = {}

    async def range(self, key: str, end: str | None = None) -> tuple[list[KeyValue], int]:
        """The key, or all keys from `key` up to `end`, and the revision at which that was so."""
        body = {"key": encode(key)} | ({} if end is None else {"range_end": encode(end)})
        return await self._call("kv/range", body, _read_range)

    async def changed_since(self, key: str, end: str, revision: int, count: int) -> bool:
        """True if the range, of `count` keys at `revision`, has changed since. Asks the member that a watch would use.

        etcd sends at most one of the keys that were written since, and with it how many there are in all, be they
        written since or not (`count_only` would look at that alone: etcd's `executeRange` prunes only what it sends).
        """
        body: Json = {"key": encode(key), "range_end": encode(end), "min_mod_revision": str(revision + 1)}
        body |= {"keys_only": True, "limit": "1"}

        def changed(answer: Json) -> bool:
            return bool(answer.get("kvs")) or int(answer.get("count", 0)) != count

        return await self._call("kv/range", body, changed)

    async def put_if(self, key: str, value: str, mod_revision: int, lease: int) -> bool:
        """Write the key if it was last written at `mod_revision`, 0 meaning that it does not exist."""
        put = {"key": encode(key), "value": encode(value), "lease": str(lease)}
        return await self._transaction(key, mod_revision, {"request_put": put})

    async def delete_if(self, key: str, mod_revision: int) -> bool:
        """Delete the key if it was last written at `mod_revision`."""
        return await self._transaction(key, mod_revision, {"request_delete_range": {"key": encode(key)}})

    async def grant(self, seconds: int) -> tuple[int, int]:
        """Make a lease; returns its number and the time to live that etcd gave it."""
        return await self._call("lease/grant", {"TTL": str(seconds)}, lambda it: (int(it["ID"]), int(it["TTL"])))

    async def revoke(self, lease: int) -> None:
        """End a lease, and with it the keys attached to it."""
        await self._call("lease/revoke", {"ID": str(lease)}, lambda _: None)

    async def time_to_live(self, lease: int) -> int:
        """Seconds left of a lease; less than 1 if there is no such lease."""
        return await self._call("lease/timetolive", {"ID": str(lease)}, lambda answer: int(answer.get("TTL", 0)))

    async def watch(self, key: str, end: str, start_revision: int) -> AsyncGenerator[list[WatchEvent], None]:
        """Yield the events of the range from `start_revision` on, in order; first an empty list, when it has begun.

        Ends with CompactedError when `start_revision` is compacted, else with a StoreError.
        """
        create = {"key": encode(key), "range_end": encode(end), "start_revision": str(start_revision)}
        client = self._clients[0]
        request = await self._request(client, "watch", {"create_request": create}, _WATCH_HEADERS)
        try:
            async with contextlib.aclosing(client.lines(request)) as lines:
                async for line in lines:
                    yield _read(line, client, _read_watch)
        except HttpStatusError as error:
            self._prefer_another(client)
            raise _refusal(client, error.response) from error
        except HttpError as error:
            self._prefer_another(client)
            raise StoreError(f"the watch of etcd broke: {error}; watching anew", transient=True) from error
        except StoreError:
            self._prefer_another(client)
            raise
        raise StoreError(f"{client.endpoint} ended the watch; watching anew", transient=True)

    async def _call(self, method: str, body: Json, read: Callable[[Json], _Answer]) -> _Answer:
        """One call, on the first endpoint that can do it; `read` takes what is wanted out of the answer."""
        failure = StoreError("no etcd endpoint is given")
        for client in list(self._clients):
            try:
                return _read(await self._call_one(client, method, body), client, read)
            except UntrustedServerError as error:
                raise StoreError(f"{error}; check --etcd-cafile") from error
            except HttpError as error:
                advice = "check that it runs there, and whether it wants TLS (etcds:)"
                failure = StoreError(f"etcd is out of reach: {error}; {advice}", transient=True)
                self._prefer_another(client)
            except StoreError as error:
                if not error.transient:
                    raise
                failure = error
                self._prefer_another(client)
        raise failure

    async def close(self) -> None:
        """Close idle connections."""
        for client in self._clients:
            await client.close()

    async def _transaction(self, key: str, mod_revision: int, operation: Json) -> bool:
        compare = {"key": encode(key), "target": "MOD", "result": "EQUAL", "mod_revision": str(mod_revision)}
        body = {"compare": [compare], "success": [operation]}
        return await self._call("kv/txn", body, lambda answer: bool(answer.get("succeeded", False)))

    async def _call_one(self, client: HttpClient, method: str, body: Json) -> bytes:
        response = await client.fetch(await self._request(client, method, body))
        if response.status != 200 and client in self._tokens and _is_stale_token(response):
            del self._tokens[client]
            response = await client.fetch(await self._request(client, method, body))
        if response.status != 200:
            raise _refusal(client, response)
        return response.body

    async def _request(
        self, client: HttpClient, method: str, body: Json, headers: dict[str, str] | None = None
    ) -> Request:
        fields = {"Content-Type": "application/json"} | (headers or {})
        if self._credentials.username:
            fields["Authorization"] = await self._token(client)
        return Request("POST", f"/v3/{method}", json.dumps(body).encode(), fields)

    async def _token(self, client: HttpClient) -> str:
        token = self._tokens.get(client)
        if token is None:
            body = {"name": self._credentials.username, "password": self._credentials.password}
            response = await client.fetch(Request("POST", "/v3/auth/authenticate", json.dumps(body).encode()))
            if response.status != 200:
                raise _refusal(client, response)
            token = self._tokens[client] = _read(response.body, client, lambda answer: str(answer["token"]))
        return token

    def _prefer_another(self, client: HttpClient) -> None:
        """Put `client` at the end of the endpoints to try."""
        if self._clients[0] is client:
            self._clients.append(self._clients.pop(0))


def _read(data: bytes, client: HttpClient, read: Callable[[Json], _Answer]) -> _Answer:
    """Parse an answer and let `read` take what is wanted out of it; HttpError if it is not as etcd writes it."""
    try:
        return read(json.loads(data))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise HttpError(f"{client.endpoint} does not answer like etcd; is it an etcd client port?") from error


def _read_range(answer: Json) -> tuple[list[KeyValue], int]:
    kvs = [KeyValue.from_json(source) for source in answer.get("kvs", [])]
    return kvs, int(answer["header"]["revision"])


def _read_watch(answer: Json) -> list[WatchEvent]:
    result = answer.get("result", {})
    if int(result.get("compact_revision", 0)) > 0:
        raise CompactedError
    if "error" in answer or result.get("canceled"):
        raise StoreError(f"etcd ended the watch: {_reason(answer) or _reason(result)}; watching anew", transient=True)
    return [
        WatchEvent(event.get("type") == "DELETE", KeyValue.from_json(event["kv"])) for event in result.get("events", [])
    ]


def _code(response: Response) -> int:
    with contextlib.suppress(ValueError, AttributeError, TypeError):
        return int(json.loads(response.body).get("code", 0))
    return 0


def _is_stale_token(response: Response) -> bool:
    """Tokens expire, a restarted member knows none, and a change of users outdates them all."""
    return _code(response) == _UNAUTHENTICATED or b"auth store is old" in response.body


def _reason(answer: Any) -> str:
    """The words in an error answer, of a call or of a stream."""
    if not isinstance(answer, dict):
        return ""
    error = answer.get("error", answer.get("cancel_reason", ""))
    return str(error.get("message", "") if isinstance(error, dict) else error)


def _refusal(client: HttpClient, response: Response) -> StoreError:
    """What an answer other than 200 means, and what to do."""
    where, code = client.endpoint, _code(response)
    if response.status == 404:
        return StoreError(
            f"{where} has no JSON gateway (HTTP 404); start etcd, 3.4 or later, with --enable-grpc-gateway=true, "
            "or with enable-grpc-gateway: true if it has a config file"
        )
    try:
        reason = _reason(json.loads(response.body))
    except (ValueError, RecursionError):
        reason = f"HTTP {response.status} {response.body[:100].decode('utf-8', 'replace')}"
    if code == _UNAUTHENTICATED or (code == _INVALID_ARGUMENT and "authentication failed" in reason):
        return StoreError(f"etcd at {where} wants other credentials: {reason}; check --etcd-username and its password")
    if code == _PERMISSION_DENIED:
        return StoreError(f"etcd at {where} denies access: {reason}; grant this user the prefix, read and write")
    if code == _INVALID_ARGUMENT:
        return StoreError(f"etcd at {where} refused the request: {reason}; check --etcd-username and --etcd-prefix")
    return StoreError(f"etcd at {where} cannot answer now: {reason}; trying again", transient=True)
