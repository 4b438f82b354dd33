"""The DHCP client's state machine against a scripted server, with time that the test moves."""

from __future__ import annotations

import contextlib
import random
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cni.dhcp.client import Client, Granted, Identity, Lost, Output, Send, State, Timing
from cni.dhcp.lease import Lease, LeaseError
from cni.dhcp.message import ANY, BOOTREPLY, Kind, Message, Option

HARDWARE = bytes.fromhex("020000000001")
SERVER_HARDWARE = bytes.fromhex("020000000002")
ADDRESS = bytes([10, 0, 0, 9])
OTHER_ADDRESS = bytes([10, 0, 0, 10])
SERVER, OTHER_SERVER = bytes([10, 0, 0, 1]), bytes([10, 0, 0, 2])
LEASE_LEN = 800  # so T1 is 400 and T2 700


class Exchange:
    """A client, the time, and a server that answers the last message as the test says."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.client = Client(Identity(HARDWARE, b"\0id", broadcast=True), Timing(10.0, 62.0), random.Random(1))
        self.outputs = self.client.start(self.now)

    @property
    def sent(self) -> Message:
        """The last message that the client sent."""
        return next(output.message for output in reversed(self.outputs) if isinstance(output, Send))

    def answer(
        self,
        kind: Kind,
        /,
        address: bytes = ADDRESS,
        server: bytes = SERVER,
        lease_len: int = LEASE_LEN,
        **changes: Any,
    ) -> list[Output]:
        options: dict[int, bytes] = {Option.SERVER_ID: server}
        if kind is not Kind.NAK:
            options[Option.LEASE_TIME] = lease_len.to_bytes(4, "big")
            options[Option.SUBNET_MASK] = bytes([255, 255, 255, 0])
        message = Message(BOOTREPLY, kind, self.sent.xid, HARDWARE, yiaddr=address, options=options)
        self.outputs += self.client.receive(replace(message, **changes), SERVER_HARDWARE, self.now)
        return self.outputs

    def wait(self) -> list[Output]:
        """Let time pass until the client has something to do, and let it."""
        self.now = max(self.now, self.client.deadline)
        self.outputs += self.client.tick(self.now)
        return self.outputs

    def bind(self) -> Lease:
        """Take the short way to a lease."""
        self.answer(Kind.OFFER)
        self.answer(Kind.ACK)
        assert self.client.lease is not None
        return self.client.lease


def test_from_discover_to_bound() -> None:
    exchange = Exchange()
    discover = exchange.sent
    assert (discover.kind, discover.broadcast, discover.ciaddr) == (Kind.DISCOVER, True, ANY)
    assert discover.options[Option.CLIENT_ID] == b"\0id"
    assert discover.options[Option.PARAMETER_REQUEST_LIST] == bytes([1, 3])
    exchange.answer(Kind.OFFER)
    request = exchange.sent
    assert (request.kind, request.xid) == (Kind.REQUEST, discover.xid)
    assert (request.options[Option.REQUESTED_ADDRESS], request.options[Option.SERVER_ID]) == (ADDRESS, SERVER)
    exchange.answer(Kind.ACK)
    assert exchange.client.state is State.BOUND
    granted = exchange.outputs[-1]
    assert isinstance(granted, Granted)
    assert (granted.lease.address, granted.lease.server_hardware) == (ADDRESS, SERVER_HARDWARE)
    assert exchange.client.deadline == 1000 + 400


@pytest.mark.parametrize(
    "changes",
    [{"xid": 1}, {"chaddr": SERVER_HARDWARE}, {"op": 1}, {"kind": Kind.ACK}, {"kind": Kind.NAK}, {"options": {}}],
)
def test_what_is_no_offer_for_us(changes: dict[str, Any]) -> None:
    exchange = Exchange()
    before = list(exchange.outputs)
    assert exchange.answer(Kind.OFFER, **changes) == before
    assert exchange.client.state is State.SELECTING


def test_second_server_has_no_say_in_the_first_ones_offer() -> None:
    exchange = Exchange()
    exchange.answer(Kind.OFFER)
    exchange.answer(Kind.ACK, server=OTHER_SERVER)
    exchange.answer(Kind.NAK, server=OTHER_SERVER)
    assert exchange.client.state is State.REQUESTING


def test_discovery_backs_off_and_never_ends() -> None:
    exchange = Exchange()
    pauses = []
    for _ in range(30):
        start = exchange.now
        exchange.wait()
        pauses.append(exchange.now - start)
    assert all(message.kind is Kind.DISCOVER for message in [exchange.sent])
    assert pauses[0] < 0.5 < pauses[3] < pauses[6]
    assert max(pauses) <= 62 * 1.25
    assert len(exchange.outputs) == 31


def test_server_that_offers_and_falls_silent() -> None:
    exchange = Exchange()
    exchange.answer(Kind.OFFER)
    first_xid = exchange.sent.xid
    while exchange.client.state is State.REQUESTING:
        exchange.wait()
    assert exchange.now - 1000 == pytest.approx(10)
    assert exchange.sent.kind is Kind.DISCOVER
    assert exchange.sent.xid != first_xid


def test_server_that_refuses_its_own_offer() -> None:
    exchange = Exchange()
    exchange.answer(Kind.OFFER)
    sent = len(exchange.outputs)
    exchange.answer(Kind.NAK)
    assert (exchange.client.state, len(exchange.outputs)) == (State.INIT, sent)
    exchange.wait()
    assert exchange.now > 1001
    assert exchange.client.state is State.SELECTING


@pytest.mark.parametrize(("address", "server"), [(bytes([127, 0, 0, 1]), SERVER), (ADDRESS, bytes([224, 0, 0, 1]))])
def test_an_offer_of_no_use_leaves_the_next_server_its_turn(address: bytes, server: bytes) -> None:
    exchange = Exchange()
    exchange.answer(Kind.OFFER, address=address, server=server)
    assert exchange.sent.kind is Kind.DISCOVER
    exchange.answer(Kind.OFFER)
    assert exchange.client.state is State.REQUESTING


@pytest.mark.parametrize(
    ("lease_len", "t1", "t2"), [(0, 0, 0), (1, 0, 0), (2, 0, 0), (60, 0, 0), (60, 1, 1), (3600, 0, 1), (3600, 59, 0)]
)
def test_no_server_keeps_the_client_busy(lease_len: int, t1: int, t2: int) -> None:
    """One that answers at once and says that everything is due at once is asked some times in a second at most."""
    exchange = Exchange()
    options: dict[int, bytes] = {Option.SERVER_ID: SERVER, Option.SUBNET_MASK: bytes([255, 255, 255, 0])}
    for code, value in ((Option.LEASE_TIME, lease_len), (Option.RENEWAL_TIME, t1), (Option.REBINDING_TIME, t2)):
        options[code] = value.to_bytes(4, "big")
    while exchange.now < 1060 and len(exchange.outputs) < 1000:
        exchange.answer(Kind.OFFER, options=options)
        with contextlib.suppress(LeaseError):
            exchange.answer(Kind.ACK, options=options)
        exchange.wait()
    granted = [output for output in exchange.outputs if isinstance(output, Granted)]
    assert len(granted) <= 2 * 60
    assert len(exchange.outputs) < 6 * 60


def test_ack_without_lease_time_is_an_error() -> None:
    exchange = Exchange()
    exchange.answer(Kind.OFFER)
    with pytest.raises(LeaseError):
        exchange.answer(Kind.ACK, options={Option.SERVER_ID: SERVER})
    assert exchange.client.state is State.REQUESTING


def test_renewal() -> None:
    exchange = Exchange()
    exchange.bind()
    exchange.wait()
    assert (exchange.now, exchange.client.state) == (1400, State.RENEWING)
    renewal = exchange.outputs[-1]
    assert isinstance(renewal, Send)
    assert renewal.lease is exchange.client.lease  # which makes it unicast
    assert (renewal.message.ciaddr, renewal.message.broadcast) == (ADDRESS, False)
    assert Option.REQUESTED_ADDRESS not in renewal.message.options
    assert Option.SERVER_ID not in renewal.message.options
    exchange.answer(Kind.ACK)
    assert (exchange.client.state, exchange.client.deadline) == (State.BOUND, 1400 + 400)


def test_renewal_that_does_not_repeat_the_mask_keeps_it() -> None:
    exchange = Exchange()
    net = exchange.bind().net
    exchange.wait()
    options = {Option.SERVER_ID: SERVER, Option.LEASE_TIME: (60).to_bytes(4, "big")}
    exchange.answer(Kind.ACK, options=options)
    assert exchange.client.lease is not None
    assert exchange.client.lease.net == net is not None
    assert exchange.client.lease.expires_at == 1460


def test_rebinding_asks_everyone() -> None:
    exchange = Exchange()
    exchange.bind()
    while exchange.client.state is not State.REBINDING:
        exchange.wait()
    assert exchange.now == 1700
    rebinding = exchange.outputs[-1]
    assert isinstance(rebinding, Send)
    assert rebinding.lease is None
    exchange.answer(Kind.ACK, server=OTHER_SERVER)
    assert exchange.client.lease is not None
    assert exchange.client.lease.server_id == OTHER_SERVER


def test_expiry_gives_up_the_address_and_asks_for_it_again() -> None:
    exchange = Exchange()
    lease = exchange.bind()
    while exchange.client.lease is not None:
        exchange.wait()
    assert exchange.now == 1800
    lost = exchange.outputs[-2]
    assert lost == Lost(lease, "it expired")
    assert exchange.sent.kind is Kind.DISCOVER
    assert exchange.sent.options[Option.REQUESTED_ADDRESS] == ADDRESS
    n_requests = sum(isinstance(output, Send) for output in exchange.outputs)
    assert n_requests < 25, "the requests between T1 and the end are few"


def test_refusal_gives_up_the_address_and_takes_another() -> None:
    exchange = Exchange()
    lease = exchange.bind()
    exchange.wait()
    exchange.answer(Kind.NAK)
    assert exchange.outputs[-2] == Lost(lease, "the server refused it")
    assert Option.REQUESTED_ADDRESS not in exchange.sent.options
    exchange.answer(Kind.OFFER, OTHER_ADDRESS)
    exchange.answer(Kind.ACK, OTHER_ADDRESS)
    assert exchange.client.lease is not None
    assert exchange.client.lease.address == OTHER_ADDRESS


def test_release() -> None:
    exchange = Exchange()
    lease = exchange.bind()
    (send,) = exchange.client.release()
    assert isinstance(send, Send)
    assert (send.lease, send.message.kind, send.message.ciaddr) == (lease, Kind.RELEASE, ADDRESS)
    assert send.message.options == {Option.SERVER_ID: SERVER, Option.CLIENT_ID: b"\0id"}
    assert exchange.client.release() == []


@pytest.mark.parametrize(
    ("down_for", "state"), [(100, State.BOUND), (500, State.RENEWING), (750, State.REBINDING), (900, State.SELECTING)]
)
def test_resumed_lease_goes_on_where_time_has_brought_it(down_for: int, state: State) -> None:
    lease = Exchange().bind()
    client = Client(Identity(HARDWARE, b"\0id"), Timing(), random.Random(2))
    client.resume(lease)
    client.tick(1000.0 + down_for)
    assert client.state is state
    assert (client.lease is None) == (state is State.SELECTING)


STEPS = st.lists(
    st.one_of(
        st.just("wait"),
        st.sampled_from([Kind.OFFER, Kind.ACK, Kind.NAK]),
        st.tuples(st.just(Kind.ACK), st.integers(2, 0xFFFFFFFF)),
    ),
    max_size=40,
)


@given(STEPS)
def test_whatever_happens_no_address_outlives_its_lease(steps: list[object]) -> None:
    """The interface carries an address only between Granted and Lost, and time never passes beyond the lease."""
    exchange = Exchange()
    for step in steps:
        if step == "wait":
            exchange.wait()
        elif isinstance(step, Kind):
            exchange.answer(step)
        elif isinstance(step, tuple):
            exchange.answer(step[0], lease_len=step[1])
        in_use = None
        for output in exchange.outputs:
            if isinstance(output, Granted):
                in_use = output.lease
            elif isinstance(output, Lost):
                assert output.lease == in_use
                in_use = None
        assert in_use == exchange.client.lease
        assert exchange.client.state is State.INIT or exchange.client.deadline >= exchange.now or in_use is not None
        if in_use is not None:
            assert exchange.client.deadline <= in_use.expires_at
