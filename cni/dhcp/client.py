"""The DHCP client's state machine (RFC 2131 section 4.4), without clock, sockets or interface.

        start                OFFER                  ACK
  INIT ------> SELECTING ----------> REQUESTING ----------> BOUND <------------------+
   ^               ^                     |                    | T1                   | ACK
   |               +--- no answer -------+                    v                      |
   |                                     |                 RENEWING  (the server) ---+
   +---- after a pause ------------ NAK -+                    | T2                   |
                                                              v                      |
   SELECTING <------------ NAK, or the lease expired ---- REBINDING (any server) ----+

The caller passes the time in, hands over messages that arrived, and calls `tick` once `deadline` has come. Every
method returns outputs: messages to send, a lease to use from now on, a lease to stop using at once.

A client never gives up on its own: a pod whose server was away for a day gets an address when it is back. How
long the first allocation may take is the caller's business.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import TypeAlias

from cni.dhcp.lease import Lease, is_host_address
from cni.dhcp.message import ANY, BOOTREPLY, BOOTREQUEST, Kind, Message, Option

_FIRST_DELAY = 0.25  # RFC 2131 suggests 4 s; a pod's start waits, and a bridge port that just came up drops a frame
_PAUSE_AFTER_REFUSAL = 2.0  # a server that refuses what it has offered itself must not be asked without end
_JITTER = 0.25  # of the delay, either way: pods that start together must not resend together
_LONGEST_RETRY_PAUSE = 60.0  # RFC 2131 section 4.4.5: between the requests of RENEWING and REBINDING
_SHORTEST_RETRY_PAUSE = 1.0
_MAX_MESSAGE_SIZE = (1500).to_bytes(2, "big")


class State(Enum):
    """The states of RFC 2131, figure 5; INIT-REBOOT is not used, since saved leases are resumed as BOUND."""

    INIT = auto()
    SELECTING = auto()
    REQUESTING = auto()
    BOUND = auto()
    RENEWING = auto()
    REBINDING = auto()


@dataclass(frozen=True)
class Identity:
    """Who asks, and what for: hardware address, client identifier, options to send, option codes to ask for."""

    hardware: bytes
    client_id: bytes
    provide: Mapping[int, bytes] = field(default_factory=dict)
    request: tuple[int, ...] = (Option.SUBNET_MASK, Option.ROUTER)
    broadcast: bool = False


@dataclass(frozen=True)
class Timing:
    """Seconds: how long a server may take to confirm its own offer; the longest pause between two sends."""

    answer_timeout: float = 10.0
    resend_max: float = 62.0


@dataclass(frozen=True)
class Send:
    """Send this message: to the lease's server and from its address, or, without a lease, to everyone."""

    message: Message
    lease: Lease | None = None


@dataclass(frozen=True)
class Granted:
    """Use this lease from now on: a new one, or the same one renewed."""

    lease: Lease


@dataclass(frozen=True)
class Lost:
    """Stop using this lease's address at once."""

    lease: Lease
    reason: str


Output: TypeAlias = Send | Granted | Lost


class Client:
    """One client on one interface."""

    def __init__(self, identity: Identity, timing: Timing, rng: random.Random) -> None:
        self.state = State.INIT
        self.lease: Lease | None = None
        self.deadline = math.inf  # when `tick` wants to be called
        self._identity = identity
        self._timing = timing
        self._rng = rng
        self._xid = 0
        self._exchange_started = 0.0
        self._attempt = 0
        self._offer: Message | None = None
        self._preferred = ANY  # the address to ask for again after a lease ran out

    def start(self, now: float) -> list[Output]:
        """Begin to look for a server."""
        self._begin(State.SELECTING, now)
        self._attempt = 0
        return self._discover(now)

    def resume(self, lease: Lease) -> None:
        """Take up a lease that a former process was granted; the next `tick` finds out what is due."""
        self.lease = lease
        self.state = State.BOUND
        self.deadline = lease.renew_at

    def tick(self, now: float) -> list[Output]:
        """Do what the passing of time demands; nothing before `deadline`."""
        if now < self.deadline:
            return []
        if self.lease is not None:
            return self._maintain(self.lease, now)
        if self.state is State.REQUESTING and now < self._exchange_started + self._timing.answer_timeout:
            return self._request_offered(now)
        if self.state is not State.SELECTING:
            self._begin(State.SELECTING, now)
        return self._discover(now)

    def receive(self, message: Message, hardware: bytes, now: float) -> list[Output]:
        """Take a message that came from a hardware address. Raises LeaseError for a useless DHCPACK."""
        if message.op != BOOTREPLY or message.xid != self._xid or message.chaddr != self._identity.hardware:
            return []
        if self.state is State.SELECTING and message.kind is Kind.OFFER and _is_usable(message):
            self._begin(State.REQUESTING, now)
            self._attempt = 0
            self._offer = message
            return self._request_offered(now)
        if self.state is State.REQUESTING and not self._is_from_offerer(message):
            return []
        if self.state in (State.REQUESTING, State.RENEWING, State.REBINDING):
            if message.kind is Kind.ACK:
                return self._bind(Lease.from_ack(message, self._exchange_started, hardware).completed_by(self.lease))
            if message.kind is Kind.NAK:
                return self._refused(now)
        return []

    def release(self) -> list[Output]:
        """Give the lease back, if there is one, and rest."""
        lease, self.lease = self.lease, None
        self.state, self.deadline = State.INIT, math.inf
        if lease is None:
            return []
        self._xid = self._rng.getrandbits(32)
        options: dict[int, bytes] = {Option.SERVER_ID: lease.server_id, Option.CLIENT_ID: self._identity.client_id}
        hardware = self._identity.hardware
        message = Message(BOOTREQUEST, Kind.RELEASE, self._xid, hardware, ciaddr=lease.address, options=options)
        return [Send(message, lease)]

    def _is_from_offerer(self, message: Message) -> bool:
        return self._offer is not None and _server_id(message) == _server_id(self._offer)

    def _begin(self, state: State, now: float) -> None:
        """Enter a state that starts a new exchange; the request for an offer belongs to the offer's exchange."""
        if state is not State.REQUESTING:
            self._xid = self._rng.getrandbits(32)
        self.state = state
        self._exchange_started = now

    def _discover(self, now: float) -> list[Output]:
        self.deadline = now + self._resend_delay()
        wanted: dict[int, bytes] = {Option.REQUESTED_ADDRESS: self._preferred} if self._preferred != ANY else {}
        return [Send(self._message(Kind.DISCOVER, now, wanted))]

    def _request_offered(self, now: float) -> list[Output]:
        assert self._offer is not None
        give_up_at = self._exchange_started + self._timing.answer_timeout
        self.deadline = min(now + self._resend_delay(), give_up_at)
        server_id = _server_id(self._offer)
        wanted: dict[int, bytes] = {Option.REQUESTED_ADDRESS: self._offer.yiaddr, Option.SERVER_ID: server_id}
        return [Send(self._message(Kind.REQUEST, now, wanted))]

    def _bind(self, lease: Lease) -> list[Output]:
        self.resume(lease)
        self._attempt = 0
        self._preferred = lease.address
        return [Granted(lease)]

    def _refused(self, now: float) -> list[Output]:
        """A DHCPNAK: the address must not be used; ask for any other."""
        self._preferred = ANY
        if self.lease is not None:
            return self._lose(self.lease, "the server refused it", now)
        self.state = State.INIT
        self.deadline = now + _PAUSE_AFTER_REFUSAL
        return []

    def _lose(self, lease: Lease, reason: str, now: float) -> list[Output]:
        self.lease = None
        return [Lost(lease, reason), *self.start(now)]

    def _maintain(self, lease: Lease, now: float) -> list[Output]:
        """Extend the lease: from T1 on with its server, from T2 on with any, until it expires."""
        if now >= lease.expires_at:
            return self._lose(lease, "it expired", now)
        rebinding = now >= lease.rebind_at
        state = State.REBINDING if rebinding else State.RENEWING
        if self.state is not state:
            self._begin(state, now)
        end = lease.expires_at if rebinding else lease.rebind_at
        shortest_pause = max(_SHORTEST_RETRY_PAUSE, min(_LONGEST_RETRY_PAUSE, lease.lease_len / 20))
        self.deadline = min(end, now + max((end - now) / 2, shortest_pause))
        return [Send(self._message(Kind.REQUEST, now, {}, lease.address), None if rebinding else lease)]

    def _resend_delay(self) -> float:
        """The next pause: twice the one before, up to the limit, with jitter."""
        delay = min(_FIRST_DELAY * 2.0 ** min(self._attempt, 16), self._timing.resend_max)
        self._attempt += 1
        return delay * self._rng.uniform(1 - _JITTER, 1 + _JITTER)

    def _message(self, kind: Kind, now: float, wanted: Mapping[int, bytes], ciaddr: bytes = ANY) -> Message:
        identity = self._identity
        options: dict[int, bytes] = {Option.CLIENT_ID: identity.client_id, **identity.provide, **wanted}
        options[Option.MAX_MESSAGE_SIZE] = _MAX_MESSAGE_SIZE
        options[Option.PARAMETER_REQUEST_LIST] = bytes(identity.request)
        secs = int(now - self._exchange_started)
        # A configured interface can take unicast answers; only one without an address may need them broadcast.
        broadcast = identity.broadcast and ciaddr == ANY
        return Message(BOOTREQUEST, kind, self._xid, identity.hardware, secs, broadcast, ciaddr, options=options)


def _is_usable(offer: Message) -> bool:
    """Whether an offer can become a lease; while it cannot, another server's is awaited."""
    return is_host_address(offer.yiaddr) and is_host_address(_server_id(offer))


def _server_id(message: Message) -> bytes:
    return message.options.get(Option.SERVER_ID, b"")
