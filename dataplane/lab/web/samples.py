"""Packets to try engines with: a ping from a pod of a node, and what can be wrong with one."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from ipaddress import ip_address, ip_network
from typing import Any

from dataplane.addresses import Address
from dataplane.lab.view import LabView, NodePlace, PodPlace
from dataplane.packets.packet import checksum

ECHO_REQUEST = 8
ICMP = 1
DO_NOT_FRAGMENT = 0x4000
HEADER = "!BBHHHBBH4s4s"
TOO_LONG = 1600
"""Bytes of a packet that fits through no tunnel over Ethernet."""


def samples(view: LabView, node: NodePlace) -> list[dict[str, Any]]:
    """Packets with a key that names them, the way they go, and for those that come in the sender."""
    return list(_samples(view, node))


def _samples(view: LabView, node: NodePlace) -> Iterator[dict[str, Any]]:
    peer = next((one for one in view.nodes if one is not node and one.backend == node.backend), None)
    here, there = _pod(view, node), _pod(view, peer) if peer else None
    if here is None or there is None or peer is None:
        return
    source, target = here.address(4), there.address(4)
    nobody = ip_address(str(ip_network(view.network["Network"])[-2]))
    way: dict[str, Any] = {"way": "encap"}
    yield {"key": "ping", "hex": echo(source, target).hex(), **way}
    yield {"key": "ttl", "hex": echo(source, target, ttl=1).hex(), **way}
    yield {"key": "nobody", "hex": echo(source, nobody).hex(), **way}
    yield {"key": "long", "hex": echo(source, target, length=TOO_LONG).hex(), **way}
    yield {"key": "liar", "hex": echo(source, target)[:-1].hex(), **way}
    way = {"way": "decap", "sender": str(peer.address(4))}
    yield {"key": "arriving", "hex": echo(target, source).hex(), **way}
    yield {"key": "forged", "hex": echo(nobody, source).hex(), **way}
    yield {"key": "stranger", "hex": echo(target, source).hex(), "way": "decap", "sender": "192.0.2.1"}


def _pod(view: LabView, node: NodePlace) -> PodPlace | None:
    """A pod of a node that has an address."""
    return next((pod for pod in view.pods_of(node.name) if any(one.version == 4 for one in pod.interfaces)), None)


def echo(source: Address, target: Address, *, ttl: int = 63, length: int = 84) -> bytes:
    """An IPv4 packet with an echo request, `length` bytes in all, that does not want to be fragmented."""
    data = bytes(i & 0xFF for i in range(length - 28))
    message = struct.pack("!BBHHH", ECHO_REQUEST, 0, 0, 1, 1) + data
    message = message[:2] + checksum(message).to_bytes(2) + message[4:]
    fields = (0x45, 0, length, 1, DO_NOT_FRAGMENT, ttl, ICMP)
    header = struct.pack(HEADER, *fields, 0, source.packed, target.packed)
    return struct.pack(HEADER, *fields, checksum(header), source.packed, target.packed) + message
