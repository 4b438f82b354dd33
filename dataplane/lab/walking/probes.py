"""Senders of the one packet that a walk follows, and what tells it from all other packets.

Each probe puts a nonce of eight random bytes at the beginning of its payload, another one into the answer. A copy is
the request, the answer, or an ICMP error that quotes one of them, whatever addresses it has on its way: so a packet is
known again behind a NAT, inside a tunnel and after TCP has sent it twice.
"""

from __future__ import annotations

import errno
import itertools
import os
import select
import socket
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, Self

from dataplane.addresses import Address
from dataplane.lab.dissect import ECHO_REPLY, ECHO_REQUEST, ERRORS, Layer
from dataplane.lab.netns import Namespace
from dataplane.lab.ping import FAMILIES, Pinger
from dataplane.text import endpoint

REQUEST, REPLY, ERROR, FRAGMENT = "request", "reply", "icmp-error", "fragment"

NONCE_LEN = 8


@dataclass(frozen=True, slots=True)
class Wish:
    """What is to be sent."""

    source: Namespace
    target: Namespace | None
    """Where the destination lives, to answer there; None: it is not this lab's, or nobody is to answer."""
    destination: Address
    size: int
    """Bytes of payload."""
    ttl: int = 64
    port: int = 0
    """Destination port; 0: one where the walk itself answers."""
    timeout: float = 1.0
    """Seconds to wait for an answer."""


@dataclass(slots=True)
class Sent:
    """What the sender's program learned."""

    error: OSError | None = None
    answered: bool = False
    rtt: float = 0.0
    refused: str = ""
    """In words, what came instead of an answer."""
    source: str = ""
    """Address and port that the host chose for the sender."""


class Probe(Protocol):
    """Sends one packet. A context manager that owns its sockets."""

    protocol: str
    nonce: bytes
    size: int
    """Bytes of payload."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...

    def matches(self) -> list[str]:
        """Conditions of nft(8), each of which marks packets of this probe."""

    def send(self) -> Sent:
        """Send, and wait for the answer."""

    def kind(self, layers: Sequence[Layer], data: bytes) -> str:
        """REQUEST, REPLY or ERROR for a copy of a packet of this probe, else empty."""


def payload(nonce: bytes, size: int) -> bytes:
    """`size` bytes that begin with the nonce and go on with 0, 1, 2 ..."""
    filler = bytes(itertools.islice(itertools.cycle(range(256)), max(size - NONCE_LEN, 0)))
    return nonce + filler


def carried(layers: Sequence[Layer]) -> tuple[Layer | None, Layer | None, int]:
    """The innermost packet that is not quoted: its IP layer, its transport layer, and where the payload begins."""
    network = transport = None
    start = -1
    for layer in layers:
        if layer.role == "quoted":
            break
        if layer.name in ("IPv4", "IPv6"):
            network, transport = layer, None
        elif layer.name in ("ICMP", "ICMPv6", "UDP", "TCP"):
            transport = layer
        start = layer.end if layer.name not in ("data", "more datagrams", "padding") else start
    return network, transport, start


def quoted(layers: Sequence[Layer], name: str) -> Layer | None:
    """The layer called `name` in what an ICMP error quotes."""
    return next((layer for layer in layers if layer.role == "quoted" and layer.name == name), None)


def is_error(layers: Sequence[Layer]) -> bool:
    """Whether a packet is an ICMP error."""
    return any(
        layer.name.startswith("ICMP") and layer.role != "quoted" and layer.get("type") in ERRORS for layer in layers
    )


def _endpoint(connection: socket.socket) -> str:
    """A socket's own address and port."""
    return endpoint(*connection.getsockname()[:2])


class IcmpProbe:
    """One echo request."""

    protocol = "icmp"

    def __init__(self, wish: Wish) -> None:
        self._wish, self.size = wish, wish.size
        self.nonce = os.urandom(NONCE_LEN)
        self._pinger = Pinger(wish.source, wish.destination, ttl=wish.ttl)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._pinger.__exit__()

    def matches(self) -> list[str]:
        """Conditions of nft(8)."""
        types = (
            ("icmp", "destination-unreachable, time-exceeded, parameter-problem"),
            ("icmpv6", "destination-unreachable, packet-too-big, time-exceeded"),
        )
        # By the nonce, behind 8 bytes of ICMP: a masquerade gives a request another identifier.
        nonce = [f"meta l4proto {name} @th,64,64 0x{self.nonce.hex()}" for name in ("icmp", "ipv6-icmp")]
        return nonce + [f"{name} type {{ {errors} }}" for name, errors in types]

    def send(self) -> Sent:
        """Send the request, and wait for the answer."""
        sent = Sent()
        start = time.monotonic()
        try:
            reply = self._pinger.ping(1, data=payload(self.nonce, self._wish.size), timeout=self._wish.timeout)
        except OSError as error:
            return Sent(error=error)
        sent.rtt = time.monotonic() - start
        if reply is not None:
            sent.answered, sent.rtt = reply.echoed, reply.rtt
            sent.refused = "" if reply.echoed else f"ICMP type {reply.type} code {reply.code} from {reply.source}"
        return sent

    def kind(self, layers: Sequence[Layer], data: bytes) -> str:
        """What a copy is. A masquerade may have rewritten the identifier, so the nonce counts as well."""
        if is_error(layers):
            icmp = quoted(layers, "ICMP") or quoted(layers, "ICMPv6")
            return ERROR if self._is_mine(icmp) or (icmp is not None and self.nonce in data) else ""
        _, icmp, start = carried(layers)
        if icmp is None or icmp.get("type") not in (ECHO_REQUEST, ECHO_REPLY):
            return ""
        if not self._is_mine(icmp) and data[start : start + NONCE_LEN] != self.nonce:
            return ""
        return REQUEST if icmp["type"] == ECHO_REQUEST else REPLY

    def _is_mine(self, icmp: Layer | None) -> bool:
        return icmp is not None and (icmp.get("id"), icmp.get("seq")) == (str(self._pinger.identifier), "1")


class _TransportProbe:
    """What UDP and TCP have in common: a client, perhaps a server that answers with a nonce of its own."""

    protocol = ""
    socket_kind = socket.SOCK_DGRAM

    def __init__(self, wish: Wish) -> None:
        self._wish, self.size = wish, wish.size
        self.nonce, self.answer = os.urandom(NONCE_LEN), os.urandom(NONCE_LEN)
        family = FAMILIES[wish.destination.version]
        self._server: socket.socket | None = None
        self._client = wish.source.socket(family.family, self.socket_kind)
        self._client.setsockopt(family.level, family.set_ttl, wish.ttl)
        self._client.settimeout(wish.timeout)
        self.port = wish.port
        if wish.target is not None and not wish.port:
            self._server = wish.target.socket(family.family, self.socket_kind)
            self._server.bind((str(wish.destination), 0))
            self._server.settimeout(wish.timeout)
            self.port = self._server.getsockname()[1]
        self._client.bind(("::" if wish.destination.version == 6 else "0.0.0.0", 0))
        self._client_port = self._client.getsockname()[1]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()
        if self._server:
            self._server.close()

    def matches(self) -> list[str]:
        """Conditions of nft(8)."""
        ports = f"{{ {self._client_port}, {self.port} }}"
        errors = (
            ("icmp", "destination-unreachable, time-exceeded, parameter-problem"),
            ("icmpv6", "destination-unreachable, packet-too-big, time-exceeded"),
        )
        return [f"{self.protocol} sport {ports}", f"{self.protocol} dport {ports}"] + [
            f"{name} type {{ {types} }}" for name, types in errors
        ]

    def _is_quoted(self, layers: Sequence[Layer], data: bytes) -> bool:
        layer = quoted(layers, self.protocol.upper())
        ports = {str(self._client_port), str(self.port)}
        return (
            self.nonce in data or self.answer in data or (layer is not None and ports == {layer["from"], layer["to"]})
        )


class UdpProbe(_TransportProbe):
    """One datagram, and one back."""

    protocol = "udp"

    def send(self) -> Sent:
        """Send, have it answered, and wait for the answer."""
        start = time.monotonic()
        try:
            self._client.connect((str(self._wish.destination), self.port))
            source = _endpoint(self._client)
            self._client.send(payload(self.nonce, self._wish.size))
        except OSError as error:
            return Sent(error=error)
        deadline = start + self._wish.timeout
        while (left := deadline - time.monotonic()) > 0:
            watched = [self._client, *([self._server] if self._server else [])]
            readable = select.select(watched, [], [], left)[0]
            try:
                if self._server in readable and self._server:
                    _, client = self._server.recvfrom(65535)
                    self._server.sendto(payload(self.answer, 32), client)
                if self._client in readable:
                    self._client.recv(65535)
                    return Sent(answered=True, rtt=time.monotonic() - start, source=source)
            except OSError as error:
                return Sent(refused=str(error.strerror), source=source)
        return Sent(source=source)

    def kind(self, layers: Sequence[Layer], data: bytes) -> str:
        """What a copy is."""
        if is_error(layers):
            return ERROR if self._is_quoted(layers, data) else ""
        _, udp, start = carried(layers)
        if udp is None or udp.name != "UDP":
            return ""
        begins = data[start : start + NONCE_LEN]
        return REQUEST if begins == self.nonce else REPLY if begins == self.answer else ""


class TcpProbe(_TransportProbe):
    """A connection on which the walk follows the data; while none comes about, the SYN."""

    protocol = "tcp"
    socket_kind = socket.SOCK_STREAM

    def __init__(self, wish: Wish) -> None:
        super().__init__(wish)
        self._connected = False
        self._accepted: socket.socket | None = None
        if self._server:
            self._server.listen(1)

    def __exit__(self, *_: object) -> None:
        super().__exit__()
        if self._accepted:
            self._accepted.close()

    def send(self) -> Sent:
        """Connect, send, and wait for the answer, which comes when all has arrived."""
        serving = threading.Thread(target=self._serve, daemon=True) if self._server else None
        if serving:
            serving.start()
        try:
            self._client.connect((str(self._wish.destination), self.port))
            self._connected = True
            source = _endpoint(self._client)
            start = time.monotonic()
            self._client.sendall(payload(self.nonce, self._wish.size))
            answered = bool(self._client.recv(65535))
        except TimeoutError:
            return Sent(refused="no answer")
        except OSError as error:
            local = error.errno in (errno.ENETUNREACH, errno.EPERM, errno.ENETDOWN, errno.EADDRNOTAVAIL)
            return Sent(error=error) if local else Sent(refused=str(error.strerror))
        finally:
            if serving:
                serving.join()
        return Sent(answered=answered, rtt=time.monotonic() - start, source=source)

    def _serve(self) -> None:
        assert self._server is not None
        try:
            connection, _ = self._server.accept()
            self._accepted = connection
            connection.settimeout(self._wish.timeout)
            missing = max(self._wish.size, NONCE_LEN)
            while missing > 0 and (data := connection.recv(1 << 16)):
                missing -= len(data)
            connection.sendall(payload(self.answer, 32))
        except OSError:
            return  # the client says what went wrong

    def kind(self, layers: Sequence[Layer], data: bytes) -> str:
        """What a copy is."""
        if is_error(layers):
            return ERROR if self._is_quoted(layers, data) else ""
        _, tcp, start = carried(layers)
        if tcp is None or tcp.name != "TCP":
            return ""
        if self._connected:
            begins = data[start : start + NONCE_LEN]
            return REQUEST if begins == self.nonce else REPLY if begins == self.answer else ""
        if tcp["from"] == str(self._client_port):
            return REQUEST if tcp["flags"] == "SYN" else ""
        return REPLY if tcp["to"] == str(self._client_port) else ""


PROBES: dict[str, Callable[[Wish], Probe]] = {
    "icmp": IcmpProbe,
    "tcp": TcpProbe,
    "udp": UdpProbe,
}
