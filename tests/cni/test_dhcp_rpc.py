"""The daemon's socket protocol: gob and net/rpc, against bytes that Go's own plugin and daemon sent."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cni.dhcp import gob, rpc
from cni.lib.ip import parse_cidr, parse_ip
from cni.lib.types import IPConfig, Result, Route

# Recorded between the official plugin and daemon (containernetworking-plugins 1.1.1): one ADD, after the greeting.
GO_REQUEST = bytes.fromhex(
    "2fff81030101075265717565737401ff82000102010d536572766963654d6574686f64010c000103536571010600000012ff82010d44484350"
    "2e416c6c6f63617465005aff8303010107436d644172677301ff84000106010b436f6e7461696e65724944010c0001054e65746e73010c0001"
    "0649664e616d65010c00010441726773010c00010450617468010c000109537464696e44617461010a00000059ff8401026331010e2f70726f"
    "632f312f6e732f6e65740104657468300103413d4201022f7801317b226e616d65223a226e222c226970616d223a7b226461656d6f6e536f63"
    "6b657450617468223a22642e736f636b227d7d00"
)
GO_RESPONSE = bytes.fromhex(
    "3aff8103010108526573706f6e736501ff82000103010d536572766963654d6574686f64010c00010353657101060001054572726f72010c00"
    "000012ff82010d444843502e416c6c6f636174650051ff8303010106526573756c7401ff84000105010a434e4956657273696f6e010c00010a"
    "496e746572666163657301ff8800010349507301ff8e000106526f7574657301ff92000103444e5301ff9400000024ff87020101155b5d2a74"
    "797065733130302e496e7465726661636501ff880001ff86000029ff85030102ff8600010301044e616d65010c0001034d6163010c00010753"
    "616e64626f78010c00000023ff8d020101145b5d2a74797065733130302e4950436f6e66696701ff8e0001ff8a000033ff89030102ff8a0001"
    "030109496e7465726661636501040001074164647265737301ff8c00010747617465776179010a00000023ff8b0301010549504e657401ff8c"
    "00010201024950010a0001044d61736b010a0000001dff910201010e5b5d2a74797065732e526f75746501ff920001ff9000001cff8f030102"
    "ff90000102010344737401ff8c0001024757010a00000046ff9303010103444e5301ff94000104010b4e616d657365727665727301ff960001"
    "06446f6d61696e010c00010653656172636801ff960001074f7074696f6e7301ff9600000016ff95020101085b5d737472696e6701ff960001"
    "0c000033ff8403010201040a0900530104ffffff000001040a090001000101010104000000000104000000000001040a09000100010000"
)
CONF = b'{"name":"n","ipam":{"daemonSocketPath":"d.sock"}}'
CONNECTED = b"HTTP/1.0 200 Connected to Go RPC\n\n"


def example_result() -> Result:
    result = Result()
    address, default = parse_cidr("10.9.0.83/24"), parse_cidr("0.0.0.0/0")
    assert address is not None and default is not None
    result.ips = [IPConfig(address, parse_ip("10.9.0.1"))]
    result.routes = [Route(default, parse_ip("10.9.0.1"))]
    return result


def as_json(result: Result) -> object:
    return result.to_json("1.0.0")


def one_by_one(data: bytes) -> list[bytes]:
    return [data[i : i + 1] for i in range(len(data))]


@pytest.mark.parametrize("pieces", [[GO_REQUEST], one_by_one(GO_REQUEST)], ids=["whole", "byte by byte"])
def test_server_understands_go(pieces: list[bytes]) -> None:
    server = rpc.Server()
    greeting, calls = server.feed(b"CONNECT /_goRPC_ HTTP/1.0\n\n")
    assert (greeting, calls) == (CONNECTED, [])
    calls = [call for piece in pieces for call in server.feed(piece)[1]]
    arguments = {"ContainerID": "c1", "Netns": "/proc/1/ns/net", "IfName": "eth0", "Args": "A=B", "Path": "/x"}
    assert calls == [rpc.Call(rpc.ALLOCATE, 0, {**arguments, "StdinData": CONF})]


def test_client_understands_go() -> None:
    client = rpc.Client(rpc.ALLOCATE, {})
    assert client.feed(CONNECTED) != b""
    assert client.feed(GO_RESPONSE) == b""
    assert client.result is not None
    assert as_json(rpc.read_result(client.result)) == as_json(example_result())


def test_request_is_what_go_sends() -> None:
    """The type definitions may come in another order than Go's; for these types they do not."""
    names = ("ContainerID", "Netns", "IfName", "Args", "Path")
    texts = dict(zip(names, ("c1", "/proc/1/ns/net", "eth0", "A=B", "/x"), strict=True))
    client = rpc.Client(rpc.ALLOCATE, {**texts, "StdinData": CONF})
    assert client.feed(CONNECTED) == GO_REQUEST


def test_client_and_server_understand_each_other() -> None:
    server = rpc.Server()
    client = rpc.Client(rpc.ALLOCATE, {"ContainerID": "c1", "StdinData": b"{}"})
    greeting, _ = server.feed(client.greeting)
    _, (call,) = server.feed(client.feed(greeting))
    client.feed(server.result(call, rpc.RESULT, rpc.write_result(example_result())))
    assert client.result is not None
    assert as_json(rpc.read_result(client.result)) == as_json(example_result())


def test_error_answer_is_raised() -> None:
    server = rpc.Server()
    client = rpc.Client("DHCP.Nonsense", {})
    greeting, _ = server.feed(client.greeting)
    _, (call,) = server.feed(client.feed(greeting))
    with pytest.raises(rpc.RpcError, match="no such method"):
        client.feed(server.error(call, "no such method"))


@pytest.mark.parametrize(
    "data", [b"GET / HTTP/1.0\n\n", b"x" * 5000, rpc.Client.greeting + b"\x00", rpc.Client.greeting + b"\xf8" * 20]
)
def test_server_refuses_nonsense(data: bytes) -> None:
    with pytest.raises(rpc.RpcError):
        rpc.Server().feed(data)


@given(st.binary(max_size=200), st.integers(0, len(GO_REQUEST)))
def test_any_bytes_are_read_or_refused(noise: bytes, cut: int) -> None:
    server = rpc.Server()
    with contextlib.suppress(rpc.RpcError):
        server.feed(rpc.Client.greeting + GO_REQUEST[:cut] + noise)


INNER = gob.Struct("Inner", (("Text", gob.STRING), ("Data", gob.BYTES)))
OUTER = gob.Struct(
    "Outer",
    (
        ("Signed", gob.INT),
        ("Unsigned", gob.UINT),
        ("Flag", gob.BOOL),
        ("One", INNER),
        ("Many", gob.Slice("[]Inner", INNER)),
        ("Numbers", gob.Slice("[]int", gob.INT)),
    ),
)
INNER_VALUES = st.fixed_dictionaries({}, optional={"Text": st.text(min_size=1), "Data": st.binary(min_size=1)})
OUTER_VALUES = st.fixed_dictionaries(
    {},
    optional={
        "Signed": st.integers(-(1 << 63), (1 << 63) - 1).filter(bool),
        "Unsigned": st.integers(1, (1 << 64) - 1),
        "Flag": st.just(True),
        "One": INNER_VALUES,
        "Many": st.lists(INNER_VALUES, min_size=1, max_size=4),
        "Numbers": st.lists(st.integers(-300, 300), min_size=1, max_size=4),
    },
)


@given(st.lists(OUTER_VALUES, min_size=1, max_size=3), st.integers(1, 50))
def test_gob_round_trip(values: list[dict[str, gob.Value]], piece_len: int) -> None:
    encoder, decoder = gob.Encoder(), gob.Decoder()
    stream = b"".join(encoder.encode(OUTER, value) for value in values)
    pieces = [stream[at : at + piece_len] for at in range(0, len(stream), piece_len)]
    assert [value for piece in pieces for value in decoder.feed(piece)] == values
