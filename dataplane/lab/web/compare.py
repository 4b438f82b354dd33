"""One packet through all three engines of a node, side by side: verdict, bytes, time, and what each step came to.

The engines are made here, as the node's own was, with the routes that the node has now; the node itself never sees the
packet. All three give the same answers, so a table of them is quiet, and a difference in it is a defect to be seen.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any

from dataplane.engines.contract import Engine, EngineConfig
from dataplane.engines.registry import ENGINES, load_engine
from dataplane.errors import ConfigError, UdplaneError
from dataplane.lab.engine_steps import Seen, WatchedEngine
from dataplane.lab.netns import LabError
from dataplane.lab.node_status import ask_status
from dataplane.lab.recording import RECOMPUTED, Packet
from dataplane.lab.view import NodePlace
from dataplane.lab.walking.engine import check_of, config_of, peers_of
from dataplane.packets.batch import ADDRESS_LEN, PacketBatch
from dataplane.packets.packet import IPV4, V4_CHECKSUM, family_of, word
from dataplane.packets.packet import ttl as ttl_of
from dataplane.packets.routes import RouteSnapshot, address_key
from dataplane.packets.verdicts import Direction, Egress, Verdict

MAX_LEN = 9216
"""Bytes of a packet that is sent through: a jumbo frame's."""

BATCH, TURNS = 64, 12
"""Copies of the packet in a batch, and batches, from which the time is taken: the best batch counts."""

STEPS: Mapping[Direction, Mapping[str, tuple[str, str, str]]] = {
    Direction.ENCAP: {
        "header": ("check_header", "check_headers", "dp_packet_check"),
        "lookup": ("_route", "lookup(packets.destination)", "dp_routes_lookup"),
        "ttl": ("ttl(packet) <= 1", "packets.ttl <= 1", "dp_packet_ttl(packet->data) <= 1"),
        "mtu": ("fit", "_carried_to", "dp_fit"),
        "lower": ("change_ttl", "lower_ttl", "dp_packet_change_ttl"),
        "send": ("_forward", "_conclude", "DP_EGRESS_UNDERLAY"),
    },
    Direction.DECAP: {
        "sender": ("sender not in self.routes.senders", "known(sender)", "dp_routes_is_sender"),
        "header": ("check_header", "check_headers", "dp_packet_check"),
        "owner": ("_owner_of_source", "lookup(packets.source)", "owner"),
        "own": ("_is_ours", "_are_ours", "is_ours"),
        "ecn": ("ECN_AFTER_TUNNEL", "_ECN_AFTER_TUNNEL", "ecn_after_tunnel"),
        "ttl": ("ttl(packet) <= 1", "packets.ttl <= 1", "dp_packet_ttl(packet->data) <= 1"),
        "lower": ("change_ttl", "lower_ttl", "dp_packet_change_ttl"),
        "write": ("_forward", "_conclude", "DP_EGRESS_TUN"),
    },
}
"""The named steps of each way, and the words of the python, numpy and native engines' sources that take them."""

ENDS_AT = {
    Verdict.TRUNCATED: "header",
    Verdict.BAD_VERSION: "header",
    Verdict.BAD_HEADER: "header",
    Verdict.BAD_LENGTH: "header",
    Verdict.NO_ROUTE: "lookup",
    Verdict.TTL_EXCEEDED: "ttl",
    Verdict.TOO_BIG: "mtu",
    Verdict.UNKNOWN_SENDER: "sender",
    Verdict.FOREIGN_SOURCE: "owner",
    Verdict.FOREIGN_DESTINATION: "own",
    Verdict.ECN_LOST: "ecn",
}
"""The step at which a packet with that verdict ends."""

NAMES = ("python", "numpy", "native")
assert set(NAMES) == set(ENGINES)


@dataclass(frozen=True, slots=True)
class Question:
    """A packet, and which way it goes."""

    packet: bytes
    way: Direction
    source: bytes = bytes(ADDRESS_LEN)
    """The underlay address that it came from."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What an engine made of it."""

    verdict: Verdict
    next_hop: int
    egress: Egress
    tos: int
    packet: bytes
    fragment_len: int


def question(wish: Mapping[str, Any]) -> Question:
    """What the page asks. Raises LabError that says what is wrong with it."""
    text = str(wish.get("hex", ""))
    try:
        packet = bytes.fromhex(text)
    except ValueError as error:
        raise LabError("a packet is hex digits, two for each byte, blanks between them as you like") from error
    if len(packet) > MAX_LEN:
        raise LabError(f"a packet has {MAX_LEN} bytes at most")
    if wish.get("way") != "decap":
        return Question(packet, Direction.ENCAP)
    try:
        return Question(packet, Direction.DECAP, address_key(ip_address(str(wish.get("sender", "")))))
    except ValueError as error:
        raise LabError("a datagram has a sender: the address of a node on the underlay") from error


def compare(node: NodePlace, asked: Question) -> dict[str, Any]:
    """What all three engines say. Raises LabError where the node has no engine."""
    config, routes = engine_of(node)
    engines: list[dict[str, Any]] = []
    outcomes: dict[str, Outcome] = {}
    for name in NAMES:
        try:
            engine = load_engine(name, config)
        except ConfigError as error:
            engines.append({"engine": name, "missing": str(error)})
            continue
        engine.set_routes(routes)
        outcomes[name] = run(engine, asked)
        engines.append({"engine": name, **document(outcomes[name]), "ns": nanoseconds(engine, asked)})
    return {
        "node": node.name,
        "way": asked.way.name.lower(),
        "packet": Packet("ip", asked.packet, RECOMPUTED).document(),
        "engines": engines,
        "rows": [row(step, asked, outcomes, routes) for step in STEPS[asked.way]],
        "checks": list(watched(config, routes, asked)),
    }


def engine_of(node: NodePlace) -> tuple[EngineConfig, RouteSnapshot]:
    """How the node's engine is made, and its routes. Raises LabError where none moves its packets."""
    try:
        status = ask_status(node)
        return config_of(status), RouteSnapshot(peers_of(status))
    except (UdplaneError, OSError) as error:
        raise LabError(f"{node.name} does not say what its engine knows: {error}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise LabError(f"{node.name} has no engine to compare: its backend is {node.backend}") from error


def run(engine: Engine, asked: Question) -> Outcome:
    """What one engine makes of the packet."""
    batch = _batch(asked, 1)
    _decide(engine, asked, batch)
    return Outcome(
        Verdict(batch.verdict[0]),
        batch.next_hop[0],
        Egress(batch.egress[0]),
        batch.tos[0],
        bytes(batch.packet(0)),
        batch.fragment_len[0],
    )


def nanoseconds(engine: Engine, asked: Question) -> int:
    """Time that a packet takes in a batch of its like."""
    best = 0
    for _ in range(TURNS):
        batch = _batch(asked, BATCH)
        began = time.perf_counter_ns()
        _decide(engine, asked, batch)
        taken = time.perf_counter_ns() - began
        best = min(best or taken, taken)
    return round(best / BATCH)


def _batch(asked: Question, copies: int) -> PacketBatch:
    batch = PacketBatch(copies, max(len(asked.packet), 2048))
    for _ in range(copies):
        batch.append(asked.packet, asked.source)
    return batch


def _decide(engine: Engine, asked: Question, batch: PacketBatch) -> None:
    (engine.encapsulate if asked.way == Direction.ENCAP else engine.decapsulate)(batch, time.monotonic_ns())


def watched(config: EngineConfig, routes: RouteSnapshot, asked: Question) -> Iterator[dict[str, Any]]:
    """The python engine's steps with their variables, as a recording has checks."""
    seen: list[Seen] = []
    engine = WatchedEngine(config, seen.append)
    engine.set_routes(routes)
    run(engine, asked)
    for one in seen:
        check = check_of(one)
        yield {"name": check.name, "ok": check.ok, "args": check.args}


def document(outcome: Outcome) -> dict[str, Any]:
    """An outcome as JSON."""
    return {
        "verdict": outcome.verdict.name,
        "next_hop": outcome.next_hop,
        "egress": outcome.egress.name,
        "packet": Packet("ip", outcome.packet, RECOMPUTED).document(),
    }


def row(step: str, asked: Question, outcomes: Mapping[str, Outcome], routes: RouteSnapshot) -> dict[str, Any]:
    """A step in all engines: whether it was passed (None: not reached), what it came to, and the words that take it."""
    cells = {}
    for name, code in zip(NAMES, STEPS[asked.way][step], strict=True):
        if name in outcomes:
            ok, value = _cell(step, asked, outcomes[name], routes)
            cells[name] = {"ok": ok, "value": value, "code": code}
    return {"step": step, "cells": cells}


def _cell(step: str, asked: Question, outcome: Outcome, routes: RouteSnapshot) -> tuple[bool | None, str]:
    order = list(STEPS[asked.way])
    end = ENDS_AT.get(outcome.verdict, order[-1])
    if order.index(step) > order.index(end):
        return None, ""
    if outcome.verdict != Verdict.FORWARDED:
        return (False, outcome.verdict.name) if step == end else (True, "")
    return True, _came_to(step, asked.packet, outcome, routes)


def _came_to(step: str, before: bytes, outcome: Outcome, routes: RouteSnapshot) -> str:
    after = memoryview(outcome.packet)
    if step in ("lookup", "owner"):
        peer = routes.peers.get(outcome.next_hop)
        return str(peer.address) if peer else str(outcome.next_hop)
    if step == "ttl":
        return str(ttl_of(memoryview(before)))
    if step == "mtu":
        return f"{len(before)} B" + (f" / {outcome.fragment_len} B" if outcome.fragment_len else "")
    if step == "lower":
        return f"{ttl_of(after)}" + (f", 0x{word(after, V4_CHECKSUM):04x}" if family_of(after) is IPV4 else "")
    return f"{len(after)} B, TOS 0x{outcome.tos:02x}" if step in ("send", "write") else ""
