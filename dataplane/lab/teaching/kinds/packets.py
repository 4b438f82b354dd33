"""Checks that send a packet, or look at those that pass a device."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import ExitStack
from ipaddress import ip_address
from typing import Any

from dataplane.addresses import Address
from dataplane.lab.dissect import Layer, dissect
from dataplane.lab.ping import Pinger, Reply
from dataplane.lab.sniff import Sniffer
from dataplane.lab.strict_toml import Section
from dataplane.lab.teaching.kinds.base import Kind, Result, Room, Values

TRIES = 3
TRY_SECONDS = 0.7
WAIT_SECONDS = 0.3
"""How long after the last command copies of packets may still come."""

MOST_FRAMES = 2000


def _reachable(room: Room, values: Values) -> Result:
    reply, said = _ping(room, values, size=values["size"])
    answered = reply is not None and reply.echoed
    expected = "an answer" if values["answers"] else "no answer"
    return Result(answered == values["answers"], said, expected)


def _ttl(room: Room, values: Values) -> Result:
    reply, said = _ping(room, values)
    if reply is None or not reply.echoed:
        return Result(False, said, f"an answer with TTL {values['is']}")
    return Result(str(reply.ttl) == values["is"], f"TTL {reply.ttl}", f"TTL {values['is']}")


def _mtu(room: Room, values: Values) -> Result:
    """The largest packet that is answered, found by halves; the kernel is kept from cutting it."""
    destination = _destination(room, values)
    overhead = 28 if destination.version == 4 else 48
    room_for = room.place(values["from"]).namespace
    low, high = 0, 9000
    with Pinger(room_for, destination, fragment=False) as pinger:
        for sequence in range(1, 20):
            if low >= high:
                break
            middle = (low + high + 1) // 2
            if _passes(pinger, sequence, middle):
                low = middle
            else:
                high = middle - 1
    got = f"packets of {low + overhead} bytes pass" if low else "no packet passes"
    return Result(str(low + overhead) == values["is"], got, f"packets of {values['is']} bytes pass")


def _passes(pinger: Pinger, sequence: int, size: int) -> bool:
    try:
        reply = pinger.ping(sequence, size=size, timeout=TRY_SECONDS)
    except OSError:
        return False
    return reply is not None and reply.echoed


def _ping(room: Room, values: Values, *, size: int = 56) -> tuple[Reply | None, str]:
    """An answer to one of a few echo requests, and what came of them in words."""
    destination = _destination(room, values)
    said = f"no answer from {destination}"
    with Pinger(room.place(values["from"]).namespace, destination) as pinger:
        for sequence in range(1, TRIES + 1):
            try:
                reply = pinger.ping(sequence, size=size, timeout=TRY_SECONDS)
            except OSError as error:
                return None, f"the kernel does not send: {error.strerror}"
            if reply is not None and reply.echoed:
                return reply, f"an answer with TTL {reply.ttl}"
            if reply is not None:
                said = f"{reply.source} says: ICMP type {reply.type}, code {reply.code}"
    return None, said


def _destination(room: Room, values: Values) -> Address:
    """An address, or that of a place."""
    try:
        return ip_address(values["to"])
    except ValueError:
        return room.place(values["to"]).address(values["family"])


def _seen(room: Room, values: Values) -> Result:
    """A packet whose layers match passes a device while commands run, or none does."""
    place = room.place(values["where"])
    wanted = ", ".join(f"{name} {value}" for name, value in values["match"].items())
    expected = f"{'a packet' if values['there'] else 'no packet'} with {wanted}"
    nearest = ""
    for frame, layers in _passing(room, values, place.namespace, values["device"] or place.device):
        missing = [name for name, value in values["match"].items() if not _matches(layers, frame, name, value)]
        if not missing:
            return Result(values["there"], _in_words(layers), expected)
        nearest = nearest or _in_words(layers)
    return Result(not values["there"], f"others only, such as {nearest}" if nearest else "no packet passed", expected)


def _passing(room: Room, values: Values, netns: Any, device: str) -> list[tuple[bytes, list[Layer]]]:
    """The packets that pass a device while the check's commands run, each with its layers."""
    found: list[tuple[bytes, list[Layer]]] = []
    with ExitStack() as stack:
        sniffer = stack.enter_context(Sniffer(netns, device))
        for entry in values["run"]:
            where, _, command = entry.partition(": ")
            room.place(where).namespace.run(["sh", "-c", command], check=False)
        deadline = time.monotonic() + WAIT_SECONDS
        while len(found) < MOST_FRAMES and time.monotonic() < deadline:
            found += [(f.data, dissect(f.data, "ethernet" if f.ethernet else "ip")) for f in sniffer.frames()]
            time.sleep(0.02)
    return found


def _matches(layers: list[Layer], frame: bytes, name: str, value: str) -> bool:
    """Whether a packet has a field of that value: `IPv4.ttl`, `inner IPv4.to`, or a byte: `byte.42` = `0x45`."""
    owner, _, key = name.rpartition(".")
    if owner == "byte":
        at = int(key)
        return at < len(frame) and frame[at] == int(value, 0)
    texts = [layer.get(key) for layer in layers if owner in (layer.name, f"{layer.role} {layer.name}")]
    return value in texts


def _in_words(layers: list[Layer]) -> str:
    ends = [f"{layer['from']} > {layer['to']}" for layer in layers if layer.get("from") and layer.name != "Ethernet"]
    return "/".join(layer.name for layer in layers) + (f" {ends[-1]}" if ends else "")


def _read_ping(section: Section) -> dict[str, Any]:
    return {
        "from": section.needed("from"),
        "to": section.needed("to"),
        "family": section.whole_number("family", 4, 4, 6),
    }


def _read_reachable(section: Section) -> dict[str, Any]:
    size = section.whole_number("size", 56, 0, 65000)
    return {**_read_ping(section), "answers": section.boolean("answers", True), "size": size}


def _read_number(section: Section) -> dict[str, Any]:
    return {**_read_ping(section), "is": str(section.needed("is"))}


def _read_seen(section: Section) -> dict[str, Any]:
    match = {name: str(value) for name, value in section.plain("match").items()}
    if not match:
        raise section.wrong("match", 'write what to look for, such as { "IPv4.ttl" = "62" }')
    for name in match:
        if "." not in name:
            raise section.wrong("match", f"{name}: write LAYER.FIELD such as IPv4.ttl, or byte.OFFSET")
    run = section.texts("run")
    if any(": " not in entry for entry in run):
        raise section.wrong("run", 'write where and what, such as ["pod1: ping -c 1 pod3"]')
    return {
        "where": section.needed("where"),
        "device": section.text("device"),
        "match": match,
        "there": section.boolean("there", True),
        "run": list(run),
    }


def _way(values: Mapping[str, Any]) -> str:
    return f"from {values['from']} to {values['to']}"


def _reachable_words(values: Mapping[str, Any]) -> str:
    return f"{values['to']} {'answers' if values['answers'] else 'does not answer'} {values['from']}"


KINDS = {
    "reachable": Kind("a ping is answered, or is not", _read_reachable, _reachable, _reachable_words),
    "ttl": Kind("the TTL of the answer to a ping", _read_number, _ttl, lambda v: f"TTL of the answer {_way(v)}"),
    "mtu": Kind("the largest packet that is answered", _read_number, _mtu, lambda v: f"largest packet {_way(v)}"),
    "seen": Kind(
        "a packet passes a device while commands run",
        _read_seen,
        _seen,
        lambda v: f"{v['where']}: {'a packet' if v['there'] else 'no packet'} with {', '.join(v['match'])}",
    ),
}
"""`packet` kinds; an answer to a ping is waited for, so that a check may begin right after a change."""
