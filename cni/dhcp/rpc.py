"""Go's net/rpc over the DHCP daemon's socket, both ends, without the socket.

1. The client sends `CONNECT /_goRPC_ HTTP/1.0` and an empty line; the server answers with a 200 line.
2. From then on each direction is one gob stream. A call is a Request (method, sequence number) followed by the
   method's argument; an answer is a Response (method, sequence number, error text) followed by the result, or
   by an empty struct when the error text is not empty.

Both methods of the daemon take the plugin's arguments (skel.CmdArgs in Go). `DHCP.Allocate` returns a result of
the CNI library's version 1.0.0 type, of which an IPAM plugin fills in the addresses and routes; `DHCP.Release`
returns an empty struct.

Neither class does any input or output: bytes that came go into `feed`, bytes to send come back.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from cni.dhcp.gob import (
    BYTES,
    STRING,
    UINT,
    Decoder,
    Encoder,
    GobError,
    Slice,
    Struct,
    Value,
    as_bytes,
    as_slice,
    as_struct,
)
from cni.lib.ip import V4_MAPPED, IPNet, from_number, number
from cni.lib.types import IPConfig, Result, Route

ALLOCATE = "DHCP.Allocate"
RELEASE = "DHCP.Release"

ARGUMENTS = Struct(
    "CmdArgs",
    (
        ("ContainerID", STRING),
        ("Netns", STRING),
        ("IfName", STRING),
        ("Args", STRING),
        ("Path", STRING),
        ("StdinData", BYTES),
    ),
)
_IPNET = Struct("IPNet", (("IP", BYTES), ("Mask", BYTES)))
_IP_CONFIG = Struct("IPConfig", (("Address", _IPNET), ("Gateway", BYTES)))
_ROUTE = Struct("Route", (("Dst", _IPNET), ("GW", BYTES)))
RESULT = Struct(
    "Result", (("IPs", Slice("[]*types100.IPConfig", _IP_CONFIG)), ("Routes", Slice("[]*types.Route", _ROUTE)))
)
EMPTY = Struct("")

_REQUEST = Struct("Request", (("ServiceMethod", STRING), ("Seq", UINT)))
_RESPONSE = Struct("Response", (("ServiceMethod", STRING), ("Seq", UINT), ("Error", STRING)))
_CONNECT = b"CONNECT /_goRPC_ HTTP/1.0\n\n"
_CONNECTED = b"HTTP/1.0 200 Connected to Go RPC\n\n"
_MAX_GREETING_LEN = 4096


def write_result(result: Result) -> dict[str, Value]:
    """An IPAM plugin's result as a value of RESULT."""
    ips: list[Value] = [{"Address": _ipnet(c.address), "Gateway": c.gateway or b""} for c in result.ips]
    routes: list[Value] = [{"Dst": _ipnet(route.dst), "GW": route.gw or b""} for route in result.routes]
    return {"IPs": ips, "Routes": routes}


def read_result(value: Mapping[str, Value]) -> Result:
    """The result in a daemon's answer, ours or Go's. Raises RpcError when it is none."""
    result = Result()
    try:
        for item in as_slice(value.get("IPs", [])):
            config = as_struct(item)
            result.ips.append(IPConfig(_read_ipnet(config["Address"]), _read_gateway(config.get("Gateway", b""))))
        for item in as_slice(value.get("Routes", [])):
            route = as_struct(item)
            result.routes.append(Route(_read_ipnet(route["Dst"]), _read_gateway(route.get("GW", b""))))
    except (GobError, KeyError) as error:
        raise RpcError(f"the answer is not a result: {error}") from error
    return result


def _ipnet(net: IPNet) -> Value:
    return {"IP": net.ip, "Mask": from_number((1 << 32) - (1 << net.host_bits), 4)}


def _read_ipnet(value: Value) -> IPNet:
    fields = as_struct(value)
    mask = f"{number(as_bytes(fields['Mask'])):032b}"
    return IPNet(_read_ip(fields["IP"]), mask.count("1"))


def _read_gateway(value: Value) -> bytes | None:
    return _read_ip(value) if value else None


def _read_ip(value: Value) -> bytes:
    """Go writes an IPv4 address in 4 bytes or mapped into 16."""
    address = as_bytes(value).removeprefix(V4_MAPPED)
    if len(address) != 4:
        raise GobError("an address that is not IPv4")
    return address


class RpcError(Exception):
    """The peer does not speak this protocol, or it answered a call with an error (then its text)."""


@dataclass(frozen=True)
class Call:
    """One call as the server sees it. `arguments` has the fields of ARGUMENTS that are not empty."""

    method: str
    sequence: int
    arguments: Mapping[str, Value]


class Server:
    """The daemon's end of one connection."""

    def __init__(self) -> None:
        self._greeting: _Greeting | None = _Greeting()
        self._decoder = Decoder()
        self._encoder = Encoder()
        self._request: Mapping[str, Value] | None = None

    def feed(self, data: bytes) -> tuple[bytes, list[Call]]:
        """Take bytes from the client; return what to send at once, and the calls. Raises RpcError on nonsense."""
        to_send = b""
        if self._greeting is not None:
            line = self._greeting.feed(data)
            if line is None:
                return b"", []
            if not line.startswith(b"CONNECT /_goRPC_ "):
                raise RpcError("the client did not ask for Go RPC")
            data, to_send, self._greeting = self._greeting.rest, _CONNECTED, None
        return to_send, list(self._calls(data))

    def _calls(self, data: bytes) -> Iterator[Call]:
        for value in _values(self._decoder, data):
            if self._request is None:
                self._request = value
                continue
            request, self._request = self._request, None
            yield Call(str(request.get("ServiceMethod", "")), _sequence(request), value)

    def result(self, call: Call, kind: Struct, value: Mapping[str, Value]) -> bytes:
        """The bytes that answer a call."""
        return self._response(call) + self._encoder.encode(kind, value)

    def error(self, call: Call, text: str) -> bytes:
        """The bytes that answer a call with an error."""
        return self._response(call, text) + self._encoder.encode(EMPTY, {})

    def _response(self, call: Call, error: str = "") -> bytes:
        return self._encoder.encode(_RESPONSE, {"ServiceMethod": call.method, "Seq": call.sequence, "Error": error})


class Client:
    """The plugin's end of a connection: it makes one call."""

    greeting = _CONNECT  # what to send first

    def __init__(self, method: str, arguments: Mapping[str, Value]) -> None:
        encoder = Encoder()
        self._call = encoder.encode(_REQUEST, {"ServiceMethod": method}) + encoder.encode(ARGUMENTS, arguments)
        self._greeting: _Greeting | None = _Greeting()
        self._decoder = Decoder()
        self._response: Mapping[str, Value] | None = None
        self.result: Mapping[str, Value] | None = None  # the method's result, once it has come

    def feed(self, data: bytes) -> bytes:
        """Take bytes from the server; return what to send. Raises RpcError, for an error answer too.

        The call waits for the answer to the greeting: Go's server drops what comes before it has answered.
        """
        to_send = b""
        if self._greeting is not None:
            line = self._greeting.feed(data)
            if line is None:
                return b""
            if b" 200 " not in line:
                raise RpcError("unexpected HTTP response: " + line.decode("utf-8", "replace").strip())
            data, to_send, self._greeting = self._greeting.rest, self._call, None
        for value in _values(self._decoder, data):
            if self._response is None:
                self._response = value
            else:
                self.result = value
        if self._response and (error := self._response.get("Error")):
            raise RpcError(str(error))
        return to_send


class _Greeting:
    """The HTTP header that opens a connection; only its first line matters."""

    def __init__(self) -> None:
        self._data = b""
        self.rest = b""

    def feed(self, data: bytes) -> bytes | None:
        """Return the first line once the empty line has come; `rest` is then what followed it."""
        self._data += data
        for end in (b"\n\n", b"\r\n\r\n"):
            head, found, self.rest = self._data.partition(end)
            if found:
                return head.partition(b"\n")[0]
        if len(self._data) > _MAX_GREETING_LEN:
            raise RpcError("no HTTP greeting")
        return None


def _values(decoder: Decoder, data: bytes) -> Iterator[Mapping[str, Value]]:
    """The structs that the bytes complete; in this protocol nothing else travels."""
    try:
        for value in decoder.feed(data):
            if not isinstance(value, dict):
                raise RpcError("a value that is no struct")
            yield value
    except GobError as error:
        raise RpcError(f"not a gob stream: {error}") from error


def _sequence(request: Mapping[str, Value]) -> int:
    sequence = request.get("Seq", 0)
    return sequence if isinstance(sequence, int) else 0
