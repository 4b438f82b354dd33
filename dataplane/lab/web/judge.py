"""Judges an engine that a student has written by golden packets, and says how it differs.

An engine is a class `Engine` that gets one packet at a time, as `udplane lab up --engine FILE` takes it:

    encapsulate(packet, node)    returns (bytes, peer), or the name of a reason to drop the packet

or a whole engine, a class that inherits from the textbook's. This module runs in the page as well as here, so it needs
nothing but the engine's own modules.
"""

import traceback
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Any

from dataplane.addresses import Address, Network
from dataplane.engines.base import BatchEngine
from dataplane.engines.contract import EngineConfig
from dataplane.engines.python import PythonEngine
from dataplane.packets.batch import NO_PEER, PacketBatch
from dataplane.packets.routes import Peer as RoutedPeer
from dataplane.packets.routes import RouteSnapshot, address_key
from dataplane.packets.verdicts import Verdict

SOURCE = "your engine"
"""What a student's text is called in messages."""

SUBNET4, SUBNET6 = IPv4Network("10.5.1.0/24"), IPv6Network("fd05:1::/64")
"""The own subnets of the node that golden packets are made for."""

NOW_NS = 1


class NoEngineError(Exception):
    """The student's text makes no engine; says why in one line."""


def load(source: str) -> type[Any]:
    """The class in a student's text that has `encapsulate`. Raises NoEngineError with the line at fault."""
    space: dict[str, Any] = {"__name__": "student"}
    try:
        exec(compile(source, SOURCE, "exec"), space)
    except BaseException as error:  # noqa: BLE001  # whatever a student's text does
        raise NoEngineError(one_line(error)) from None
    own = [thing for thing in space.values() if isinstance(thing, type) and thing.__module__ == "student"]
    engines = [thing for thing in own if callable(getattr(thing, "encapsulate", None))]
    if len(engines) != 1:
        raise NoEngineError(f"one class with a method `encapsulate` is needed, and {len(engines)} are here")
    return engines[0]


def judge(source: str, cases: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """What becomes of each golden packet: {"error": ...} or {"results": [...]}."""
    try:
        made = load(source)
    except NoEngineError as error:
        return {"error": str(error)}
    return {"results": [judge_one(made, case) for case in cases]}


def judge_one(made: type[Any], case: Mapping[str, Any]) -> dict[str, Any]:
    """One packet through the student's engine: what differs from what is right, and by which rule."""
    batched = issubclass(made, BatchEngine)
    # A class with one packet at a time writes no ICMP errors: of what it drops, the reason counts.
    keys = ("verdict", "next_hop", "bytes") if batched or case["verdict"] == "FORWARDED" else ("verdict",)
    expected = {key: case[key] for key in keys}
    result: dict[str, Any] = {"name": case["name"], "input": case["input"], "expected": expected}
    try:
        got = run_batch(made, case) if batched else run_one(made, case)
    except BaseException as error:  # noqa: BLE001
        return {**result, "ok": False, "error": one_line(error)}
    wrong = [key for key in expected if got[key] != expected[key]]
    return {**result, "ok": not wrong, "got": got, "wrong": wrong, "hint": hint(case, got, wrong)}


def run_batch(made: type[Any], case: Mapping[str, Any]) -> dict[str, Any]:
    """Verdict, next hop and bytes after a whole engine has had the packet."""
    engine = made(_config(case))
    engine.set_routes(_routes(case["peers"]))
    batch = PacketBatch(1, 2048)
    batch.append(bytes.fromhex(case["input"]), address_key(ip_address(case["source"])))
    (engine.encapsulate if case["direction"] == "encap" else engine.decapsulate)(batch, NOW_NS)
    number = batch.verdict[0]
    verdict = Verdict(number).name if number in list(Verdict) else str(number)
    return {"verdict": verdict, "next_hop": batch.next_hop[0], "bytes": bytes(batch.packet(0)).hex()}


@dataclass(frozen=True)
class Peer:
    """Another node, as a class with one packet at a time sees it."""

    id: int
    address: Address
    port: int
    subnets: tuple[Network, ...]


@dataclass(frozen=True)
class Node:
    """This node, as such a class sees it."""

    subnets: tuple[Network, ...]
    mtu: int
    peers: tuple[Peer, ...]


def run_one(made: type[Any], case: Mapping[str, Any]) -> dict[str, Any]:
    """The same after a class with one packet at a time has had it. Raises NoEngineError for an answer that is none."""
    peers = tuple(
        Peer(one["id"], ip_address(one["address"]), 8285, tuple(ip_network(text) for text in one["subnets"]))
        for one in case["peers"]
    )
    packet = bytes.fromhex(case["input"])
    answer = made().encapsulate(packet, Node((SUBNET4, SUBNET6), case.get("mtu", 1472), peers))
    if isinstance(answer, str):
        if answer.upper() not in Verdict.__members__:
            raise NoEngineError(f"{answer!r} is no reason to drop a packet: NO_ROUTE, TTL_EXCEEDED and so on are")
        return {"verdict": answer.upper(), "next_hop": NO_PEER, "bytes": packet.hex()}
    if not isinstance(answer, tuple) or len(answer) != 2 or not isinstance(answer[0], bytes | bytearray | memoryview):
        raise NoEngineError(f"encapsulate returned {str(answer)[:60]!r}, and not (bytes, peer) or a reason")
    return {"verdict": "FORWARDED", "next_hop": getattr(answer[1], "id", NO_PEER), "bytes": bytes(answer[0]).hex()}


def hint(case: Mapping[str, Any], got: Mapping[str, Any], wrong: list[str]) -> str:
    """The key of the sentence that says which rule a wrong answer breaks; empty where there is none."""
    if wrong != ["bytes"]:
        return "verdict" if "verdict" in wrong else "next_hop" if wrong else ""
    right, mine = bytes.fromhex(case["bytes"]), bytes.fromhex(got["bytes"])
    if len(right) != len(mine):
        return "length"
    places = {at for at, (one, other) in enumerate(zip(right, mine, strict=True)) if one != other}
    if right[0] >> 4 == 4:
        if places <= {10, 11}:
            swapped = mine[10:12] == right[10:12][::-1]
            return "byte_order" if swapped else "checksum"
        return "ttl" if 8 in places else "bytes"
    return "hop_limit" if 7 in places else "bytes"


def one_line(error: BaseException) -> str:
    """What went wrong in a student's text, with the last line of it that was at work."""
    if isinstance(error, SyntaxError):
        return f"line {error.lineno}: {error.msg}"
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == SOURCE]
    where = f"line {frames[-1].lineno}: " if frames else ""
    return f"{where}{type(error).__name__}: {error}".rstrip(": ")


def _config(case: Mapping[str, Any]) -> EngineConfig:
    return EngineConfig(SUBNET4, SUBNET6, case.get("mtu", 1472), icmp_burst=1)


def _routes(peers: Iterable[Mapping[str, Any]]) -> RouteSnapshot:
    return RouteSnapshot(
        RoutedPeer(one["id"], ip_address(one["address"]), 8285, tuple(ip_network(text) for text in one["subnets"]))
        for one in peers
    )


def reference(cases: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """What the textbook engine itself does with each case."""
    return [judge_one(PythonEngine, case) for case in cases]
