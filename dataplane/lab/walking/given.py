"""A walk's packet as somebody has written it: any IP packet, known again by its transport header and payload."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Self

from dataplane.errors import UdplaneError
from dataplane.lab import sending
from dataplane.lab.dissect import Layer, dissect
from dataplane.lab.sniff import Sniffer
from dataplane.lab.view import Place
from dataplane.lab.walking.probes import ERROR, REPLY, REQUEST, Sent, carried, is_error

LOOK_SECONDS = 0.01


class GivenProbe:
    """Sends one packet as it is, by the routes of a place."""

    protocol = "given"

    def __init__(self, place: Place, packet: bytes, timeout: float) -> None:
        """`packet` begins with its IP header."""
        self._place, self._packet, self._timeout = place, packet, timeout
        layers = dissect(packet, "ip")
        _, self._transport, start = carried(layers)
        self._payload = packet[start:]
        self.nonce, self.size = self._payload[:8], len(self._payload)
        self._to = layers[0].get("to")
        self._sniffer = Sniffer(place.namespace, place.device)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._sniffer.__exit__()

    def matches(self) -> list[str]:
        """Conditions of nft(8)."""
        return [f"{'ip6' if ':' in self._to else 'ip'} {end} {self._to}" for end in ("daddr", "saddr")]

    def send(self) -> Sent:
        """Send it, and look for an answer."""
        start = time.monotonic()
        try:
            with self._place.namespace.entered():
                sending.send_routed(self._packet, self._to)
        except UdplaneError as error:
            cause = error.__cause__
            return Sent(error=cause if isinstance(cause, OSError) else OSError(str(error)))
        while time.monotonic() < start + self._timeout:
            for frame in self._sniffer.frames():
                kind = self.kind(dissect(frame.data, "ethernet" if frame.ethernet else "ip"), frame.data)
                if kind in (REPLY, ERROR) and not frame.outgoing:
                    took = time.monotonic() - start
                    return Sent(answered=kind == REPLY, rtt=took, refused="" if kind == REPLY else "an ICMP error")
            time.sleep(LOOK_SECONDS)
        return Sent()

    def kind(self, layers: Sequence[Layer], data: bytes) -> str:
        """What a copy is."""
        if is_error(layers):
            quoted = [layer for layer in layers if layer.role == "quoted"]
            same = any(self._ends(layer) == self._ends(self._transport) for layer in quoted if self._is_kind(layer))
            return ERROR if same else ""
        network, transport, start = carried(layers)
        if network is None or not self._is_kind(transport):
            return ""
        if self._ends(transport) == self._ends(self._transport) and data[start:] == self._payload:
            return REQUEST
        return REPLY if self._ends(transport) == tuple(reversed(self._ends(self._transport))) else ""

    def _is_kind(self, layer: Layer | None) -> bool:
        return (layer.name if layer else "") == (self._transport.name if self._transport else "")

    @staticmethod
    def _ends(layer: Layer | None) -> tuple[str, ...]:
        """What stands for sender and receiver in a transport header: ports, or type and identity of an echo."""
        if layer is None:
            return ()
        if layer.name in ("UDP", "TCP"):
            return layer["from"], layer["to"]
        identity = f"{layer.get('id')}/{layer.get('seq')}"
        return ("asks", identity, "") if layer.get("type") == "echo request" else ("", identity, "asks")
