"""DHCP messages and leases, with scapy's layers as the oracle."""

from __future__ import annotations

import contextlib
import math
import os
from socket import inet_aton

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.dhcp import BOOTP, DHCP
from scapy.layers.inet import IP, UDP

from cni.dhcp.lease import Lease, LeaseError
from cni.dhcp.message import BOOTREPLY, BOOTREQUEST, Kind, Message, MessageError, Option, decode, unwrap, wrap

HARDWARE = bytes.fromhex("020000000001")
ADDRESSES = st.binary(min_size=4, max_size=4)
MESSAGES = st.builds(
    Message,
    op=st.sampled_from([BOOTREQUEST, BOOTREPLY]),
    kind=st.sampled_from(list(Kind)),
    xid=st.integers(0, 0xFFFFFFFF),
    chaddr=st.binary(max_size=16),
    secs=st.integers(0, 0xFFFF),
    broadcast=st.booleans(),
    ciaddr=ADDRESSES,
    yiaddr=ADDRESSES,
    siaddr=ADDRESSES,
    giaddr=ADDRESSES,
    options=st.dictionaries(
        st.integers(1, 254).filter(lambda code: code not in (Option.MESSAGE_TYPE, Option.OVERLOAD)),
        st.binary(max_size=300),
        max_size=4,
    ),
)


@given(MESSAGES)
def test_round_trip(message: Message) -> None:
    assert decode(message.encode()) == message


@given(st.binary(max_size=400))
def test_any_bytes_are_a_message_or_refused(data: bytes) -> None:
    header = Message(BOOTREPLY, Kind.ACK, 1, HARDWARE).encode()[:240]
    for candidate in (data, header + data):
        with contextlib.suppress(MessageError):
            decode(candidate)


def test_request_is_what_scapy_reads() -> None:
    options: dict[int, bytes] = {
        Option.CLIENT_ID: b"\0c1/lan/eth0",
        Option.HOST_NAME: b"web",
        Option.PARAMETER_REQUEST_LIST: bytes([1, 3]),
    }
    message = Message(BOOTREQUEST, Kind.REQUEST, 7, HARDWARE, 3, True, bytes([10, 0, 0, 9]), options=options)
    packet = IP(wrap(message.encode(), bytes([10, 0, 0, 9]), bytes([10, 0, 0, 1])))
    assert (packet.src, packet.dst, packet[UDP].sport, packet[UDP].dport) == ("10.0.0.9", "10.0.0.1", 68, 67)
    bootp = packet[BOOTP]
    assert (bootp.op, bootp.xid, bootp.secs, int(bootp.flags), bootp.ciaddr) == (1, 7, 3, 0x8000, "10.0.0.9")
    assert bootp.chaddr[:6] == HARDWARE
    read: dict[str, object] = dict(option for option in packet[DHCP].options if isinstance(option, tuple))
    assert read["message-type"] == Kind.REQUEST
    assert read["hostname"] == b"web"
    checksums = packet.chksum, packet[UDP].chksum
    del packet.chksum, packet[UDP].chksum
    rebuilt = IP(bytes(packet))
    assert checksums == (rebuilt.chksum, rebuilt[UDP].chksum)


def scapy_answer(kind: str = "ack", **fields: object) -> bytes:
    """A server's datagram, as an IPv4 packet made by scapy."""
    options = [
        ("message-type", kind),
        ("server_id", "10.0.0.1"),
        ("lease_time", 3600),
        ("subnet_mask", "255.255.255.0"),
    ]
    payload = BOOTP(op=2, xid=7, yiaddr="10.0.0.9", chaddr=HARDWARE, **fields) / DHCP(options=[*options, "end"])
    return bytes(IP(src="10.0.0.1", dst="255.255.255.255") / UDP(sport=67, dport=68) / payload)


def test_answer_made_by_scapy_is_read() -> None:
    message = decode(unwrap(scapy_answer()))
    assert (message.kind, message.xid, message.yiaddr) == (Kind.ACK, 7, bytes([10, 0, 0, 9]))
    assert message.options[Option.LEASE_TIME] == (3600).to_bytes(4, "big")


def test_damage_is_noticed() -> None:
    packet = scapy_answer()
    for at in (0, 12, 20, 40, len(packet) - 1):
        damaged = bytearray(packet)
        damaged[at] ^= 0x55
        with pytest.raises(MessageError):
            unwrap(bytes(damaged))
    for length in range(0, len(packet), 7):
        with pytest.raises(MessageError):
            unwrap(packet[:length])


def test_checksum_that_is_still_to_be_filled_in() -> None:
    """What a server on the same host sends carries only part of its UDP checksum."""
    packet = bytearray(scapy_answer())
    packet[26:28] = b"\x12\x34"
    with pytest.raises(MessageError):
        unwrap(bytes(packet))
    assert decode(unwrap(bytes(packet), checksum_ready=False)).kind is Kind.ACK


def test_options_in_the_file_and_sname_fields() -> None:
    message = bytearray(Message(BOOTREPLY, Kind.OFFER, 7, HARDWARE, options={Option.OVERLOAD: b"\3"}).encode())
    message[44:50] = bytes([Option.ROUTER, 4, 10, 0, 0, 1])
    message[50] = Option.END
    message[108:115] = bytes([Option.HOST_NAME, 3]) + b"web" + bytes([Option.END, 0])
    assert decode(bytes(message)).options == {Option.ROUTER: bytes([10, 0, 0, 1]), Option.HOST_NAME: b"web"}


def lease(**options: bytes) -> Lease:
    given: dict[int, bytes] = {Option[name.upper()]: value for name, value in options.items()}
    defaults: dict[int, bytes] = {Option.SERVER_ID: b"\x0a\0\0\x01", Option.LEASE_TIME: (100).to_bytes(4, "big")}
    ack = Message(BOOTREPLY, Kind.ACK, 7, HARDWARE, yiaddr=bytes([10, 0, 0, 9]), options={**defaults, **given})
    return Lease.from_ack(ack, 1000.0, HARDWARE)


def seconds(number: int) -> bytes:
    return number.to_bytes(4, "big")


@pytest.mark.parametrize(
    ("options", "times"),
    [
        ({}, (1050, 1087.5, 1100)),
        ({"renewal_time": seconds(10), "rebinding_time": seconds(20)}, (1010, 1020, 1100)),
        ({"renewal_time": seconds(500), "rebinding_time": seconds(500)}, (1050, 1087.5, 1100)),
        ({"renewal_time": seconds(90), "rebinding_time": seconds(20)}, (1010, 1020, 1100)),
        ({"renewal_time": seconds(20), "rebinding_time": seconds(20)}, (1010, 1020, 1100)),
        ({"renewal_time": seconds(100), "rebinding_time": seconds(100)}, (1050, 1087.5, 1100)),
        ({"renewal_time": seconds(0), "rebinding_time": seconds(0)}, (1050, 1087.5, 1100)),
        ({"renewal_time": seconds(0), "rebinding_time": seconds(1)}, (1000.5, 1001, 1100)),
        ({"renewal_time": b"\1"}, (1050, 1087.5, 1100)),
        ({"lease_time": b"\xff" * 4}, (math.inf, math.inf, math.inf)),
        ({"lease_time": seconds(2)}, (1001, 1001.75, 1002)),
    ],
)
def test_timers(options: dict[str, bytes], times: tuple[float, float, float]) -> None:
    granted = lease(**options)
    assert (granted.renew_at, granted.rebind_at, granted.expires_at) == times


ROUTER = bytes([10, 0, 0, 1])


@pytest.mark.parametrize(
    ("options", "routes"),
    [
        ({}, []),
        ({"router": ROUTER + bytes(4)}, [{"dst": "0.0.0.0/0", "gw": "10.0.0.1"}]),
        ({"router": b"\1\2"}, []),
        ({"router": bytes(4) + bytes([127, 0, 0, 1, 224, 0, 0, 1]) + ROUTER}, [{"dst": "0.0.0.0/0", "gw": "10.0.0.1"}]),
        ({"static_routes": bytes([127, 1, 1, 1, 10, 0, 0, 2, 172, 16, 0, 0, 127, 0, 0, 1])}, []),
        (
            {"classless_routes": bytes([8, 127, 10, 0, 0, 2, 4, 224, 10, 0, 0, 2, 0, 224, 0, 0, 1, 8, 10, 0, 0, 0, 0])},
            [{"dst": "10.0.0.0/8", "gw": "0.0.0.0"}],
        ),
        (
            {"router": ROUTER, "static_routes": bytes([172, 16, 3, 4, 10, 0, 0, 2, 0, 0, 0, 0, 10, 0, 0, 3])},
            [{"dst": "172.16.0.0/16", "gw": "10.0.0.2"}, {"dst": "0.0.0.0/0", "gw": "10.0.0.1"}],
        ),
        (
            {"router": ROUTER, "classless_routes": bytes([20, 10, 1, 0x1F, 10, 0, 0, 2, 0, 10, 0, 0, 3])},
            [{"dst": "10.1.16.0/20", "gw": "10.0.0.2"}, {"dst": "0.0.0.0/0", "gw": "10.0.0.3"}],
        ),
        ({"router": ROUTER, "classless_routes": bytes([33, 1, 2, 3, 4, 5])}, [{"dst": "0.0.0.0/0", "gw": "10.0.0.1"}]),
    ],
)
def test_routes(options: dict[str, bytes], routes: list[dict[str, str]]) -> None:
    assert [route.to_json() for route in lease(**options).routes] == routes


@pytest.mark.parametrize(
    ("mask", "net"),
    [
        ("ffffff00", "10.0.0.9/24"),
        ("ffffffff", "10.0.0.9/32"),
        ("ff00ff00", "None"),
        ("ffff", "None"),
        ("00000000", "None"),
        ("fffffff8", "10.0.0.9/29"),
        ("fffffffe", "10.0.0.9/31"),
    ],
)
def test_subnet_mask(mask: str, net: str) -> None:
    assert str(lease(subnet_mask=bytes.fromhex(mask)).net) == net


@pytest.mark.parametrize("option", ["lease_time", "server_id"])
def test_ack_that_grants_nothing(option: str) -> None:
    with pytest.raises(LeaseError):
        lease(**{option: b""})


@pytest.mark.parametrize("address", ["10.0.0.0", "10.0.0.255"])
def test_a_subnets_first_and_last_address_are_no_hosts(address: str) -> None:
    options: dict[int, bytes] = {Option.SUBNET_MASK: bytes([255, 255, 255, 0])}
    assert Lease(inet_aton(address), options, 0.0, HARDWARE).net is None


@pytest.mark.parametrize("lease_time", [0, 1])
def test_ack_for_no_time(lease_time: int) -> None:
    with pytest.raises(LeaseError, match=f"for {lease_time} s, too short"):
        lease(lease_time=seconds(lease_time))


MARTIANS = ["0.0.0.0", "0.1.2.3", "127.0.0.1", "224.0.0.1", "239.9.9.9", "240.0.0.1", "255.255.255.255"]


@pytest.mark.parametrize("martian", MARTIANS)
def test_ack_with_an_address_that_nobody_can_have(martian: str) -> None:
    options: dict[int, bytes] = {Option.SERVER_ID: ROUTER, Option.LEASE_TIME: seconds(60)}
    ack = Message(BOOTREPLY, Kind.ACK, 7, HARDWARE, yiaddr=inet_aton(martian), options=options)
    with pytest.raises(LeaseError, match=f"DHCPACK with {martian}"):
        Lease.from_ack(ack, 0.0, HARDWARE)
    with pytest.raises(LeaseError, match=f"DHCPACK from {martian}"):
        lease(server_id=inet_aton(martian))


@given(st.tuples(*[st.binary(min_size=4, max_size=4)] * 3), st.floats(0, 1e9))
def test_timers_are_in_order_and_leave_time(times: tuple[bytes, bytes, bytes], obtained_at: float) -> None:
    granted = Lease(ROUTER, dict(zip((51, 58, 59), times, strict=True)), obtained_at, HARDWARE)
    if 2 <= granted.lease_len < math.inf:
        assert obtained_at < granted.renew_at < granted.rebind_at < granted.expires_at
        assert granted.renew_at - obtained_at > 0.49


@given(st.dictionaries(st.integers(0, 255), st.binary(max_size=40)), st.floats(0, 1e9))
def test_saved_lease_reads_back(options: dict[int, bytes], obtained_at: float) -> None:
    kept = {**options, Option.LEASE_TIME: seconds(60), Option.SERVER_ID: ROUTER}
    saved = Lease(bytes([10, 0, 0, 9]), kept, obtained_at, HARDWARE)
    assert Lease.from_json(saved.to_json()) == saved


@pytest.mark.parametrize(
    "saved", [None, [], {}, {"address": 5}, {**lease().to_json(), "options": {"x": "y"}}, {"options": {}}]
)
def test_what_is_no_saved_lease(saved: object) -> None:
    with pytest.raises(LeaseError):
        Lease.from_json(saved)


def test_random_answers_never_crash_the_route_parser() -> None:
    for _ in range(300):
        blob = os.urandom(12)
        assert isinstance(lease(classless_routes=blob, static_routes=blob, router=blob[:3]).routes, list)
