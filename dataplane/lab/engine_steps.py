"""The python engine's named steps, watched while it works, without a line of its own for that.

The engine reads like the textbook: each step is a call of a function with a name. While a batch is decided about, the
interpreter tells a profiling function (sys.setprofile, of this thread alone) of each call and return; those of the
functions in `_AT_RETURN` are steps. So what is shown is what the engine does, in its order, and the engine used
elsewhere is as fast and as short as before.

    out of the TUN: read, header, lookup, ttl, mtu, lower, send
    into the TUN:   read, sender, header, owner, own, ecn, ttl, lower, write

A packet that is refused has the step `refuse` in the place of what would have followed.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from types import CodeType, FrameType
from typing import Any

from dataplane.engines import python
from dataplane.engines.base import BatchEngine
from dataplane.engines.contract import EngineConfig
from dataplane.engines.python import PythonEngine
from dataplane.packets import packet as rules
from dataplane.packets.batch import NO_PEER, PacketBatch
from dataplane.packets.packet import IPV4, V4_CHECKSUM, V4_MAPPED, family_of, v4_header_len, word
from dataplane.packets.routes import ADDRESS_BITS, V4_PREFIX_BITS, RouteSnapshot, mask
from dataplane.packets.verdicts import Verdict

MOST_PREFIXES = 8
"""Of one length, that a lookup names."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A step that the engine has just taken."""

    step: str
    ok: bool
    args: dict[str, Any]
    """What it looked at and what came of it, for people and for JSON."""
    packet: bytes
    """The packet after the step."""


Watcher = Callable[[Seen], None]
"""Called in the engine's thread after each step."""


class WatchedEngine(PythonEngine):
    """The python engine with somebody who looks on."""

    def __init__(self, config: EngineConfig, watcher: Watcher) -> None:
        super().__init__(config)
        self._watcher = watcher

    def encapsulate(self, batch: PacketBatch, now_ns: int) -> None:
        """Decide about packets read from the TUN."""
        with self._watched(batch, "send"):
            super().encapsulate(batch, now_ns)

    def decapsulate(self, batch: PacketBatch, now_ns: int) -> None:
        """Decide about datagrams read from the underlay."""
        with self._watched(batch, "write"):
            super().decapsulate(batch, now_ns)

    @contextmanager
    def _watched(self, batch: PacketBatch, last_step: str) -> Iterator[None]:
        before = sys.getprofile()
        sys.setprofile(_Watch(self, batch, last_step, self._watcher).event)
        try:
            yield
        finally:
            sys.setprofile(before if callable(before) else None)  # a profiler written in C is no function


class _Watch:
    """Looks on while one batch is decided about."""

    def __init__(self, engine: WatchedEngine, batch: PacketBatch, last_step: str, watcher: Watcher) -> None:
        self._engine, self._batch, self._last_step, self._watcher = engine, batch, last_step, watcher
        self._i = 0
        self._sum: tuple[int, ...] = ()
        """What the checksum's last change was computed from."""
        self._ttl = 0

    def event(self, frame: FrameType, kind: str, result: Any) -> None:
        """What the interpreter tells of each call and return."""
        code = frame.f_code
        if kind == "call" and code in _ONE_PACKET:
            self._i = frame.f_locals["i"]
            self._tell("read", True, {"len": self._batch.length[self._i], "n": self._i})
        elif kind == "call" and code is BatchEngine.refuse.__code__:
            reason = Verdict(frame.f_locals["reason"])
            self._tell("refuse", False, {"verdict": reason.name.lower(), "why": reason.description})
        elif kind == "return" and code in _AT_RETURN:
            _AT_RETURN[code](self, frame, result)

    def _tell(self, step: str, ok: bool, args: dict[str, Any]) -> None:
        profile = sys.getprofile()
        sys.setprofile(None)  # nobody watches the watcher
        try:
            self._watcher(Seen(step, ok, args, bytes(self._batch.packet(self._i))))
        finally:
            sys.setprofile(profile)

    def header(self, frame: FrameType, result: Any) -> None:
        """`check_header` has returned."""
        packet = frame.f_locals["packet"]
        args: dict[str, Any] = {"got": len(packet), "version": packet[0] >> 4 if packet else 0}
        if result != Verdict.FORWARDED:
            args["verdict"] = Verdict(result).name.lower()
        elif family_of(packet) is IPV4:
            args |= {"header_len": v4_header_len(packet), "stated": word(packet, 2)}
        else:
            args |= {"header_len": 40, "stated": 40 + word(packet, 4)}
        self._tell("header", result == Verdict.FORWARDED, args)

    def lookup(self, frame: FrameType, result: Any) -> None:
        """`_route` has returned the peer that owns the destination."""
        key = rules.destination_key(frame.f_locals["packet"])
        self._tell("lookup", result != NO_PEER, self._looked_up(key, result))

    def owner(self, frame: FrameType, result: Any) -> None:
        """`_owner_of_source` has returned the peer that may send this."""
        packet, sender = frame.f_locals["packet"], frame.f_locals["sender"]
        args = self._looked_up(rules.source_key(packet), result) | {"sender": address_text(sender)}
        self._tell("owner", result != NO_PEER, args)

    def own(self, frame: FrameType, result: Any) -> None:
        """`_is_ours` has returned whether the destination is this node's."""
        packet = frame.f_locals["packet"]
        subnet = self._engine.config.subnet4 if family_of(packet) is IPV4 else self._engine.config.subnet6
        args = {"address": address_text(rules.destination_key(packet)), "subnet": str(subnet)}
        self._tell("own", bool(result), args)

    def sender(self, frame: FrameType, result: Any) -> None:
        """The batch has told the underlay address that a datagram came from, asked for in order to check it."""
        del frame
        strict = self._engine.config.check_sender
        ok = not strict or result in self._engine.routes.senders
        known = sorted(address_text(key) for key in self._engine.routes.senders)[:MOST_PREFIXES]
        self._tell("sender", ok, {"sender": address_text(result), "known": known, "strict": strict})

    def ttl(self, frame: FrameType, result: Any) -> None:
        """`ttl` has returned the TTL that is compared with 1."""
        if frame.f_back is not None and frame.f_back.f_code in _ONE_PACKET:
            self._tell("ttl", result > 1, {"ttl": result})

    def fits(self, frame: FrameType, result: Any) -> None:
        """`fit` has returned whether the packet can be sent to the peer."""
        size, peer = self._batch.length[self._i], frame.f_locals["peer"]
        args = {"len": size, "mtu": self._engine.path_mtu(peer), "fragment": self._batch.fragment_len[self._i]}
        self._tell("mtu", bool(result), args)

    def ecn(self, frame: FrameType, result: Any) -> None:
        """`ecn` has returned the inner header's bits, which are compared with the outer one's."""
        if frame.f_back is not None and frame.f_back.f_code in _ONE_PACKET:
            outer = self._batch.tos[self._i] & 0x03
            bits = rules.ECN_AFTER_TUNNEL[result][outer] if self._engine.config.carry_tos else result
            self._tell("ecn", bits != rules.ECN_LOST, {"inner": result, "outer": outer, "after": bits})

    def summed(self, frame: FrameType, result: Any) -> None:
        """`update_checksum` has returned the checksum moved along with a word."""
        values = frame.f_locals
        self._sum = (values["old_word"], values["new_word"], values["old_sum"], result)

    def lowered(self, frame: FrameType, _: Any) -> None:
        """`change_ttl` has written the TTL, and for IPv4 the checksum."""
        packet, step = frame.f_locals["packet"], frame.f_locals["step"]
        after = rules.ttl(packet)
        args: dict[str, Any] = {"before": after - step, "after": after, "version": packet[0] >> 4}
        if family_of(packet) is IPV4:
            args["sum"] = arithmetic(*self._sum[:3])
        self._tell("lower", True, args)

    def forwarded(self, frame: FrameType, _: Any) -> None:
        """`_forward` has noted where the packet goes."""
        peer = self._engine.routes.peers.get(frame.f_locals["peer"])
        args: dict[str, Any] = {"tos": self._batch.tos[self._i], "len": self._batch.length[self._i]}
        if peer is not None:
            args |= {"peer": str(peer.address), "port": peer.port}
        self._tell(self._last_step, True, args)

    def _looked_up(self, key: bytes, peer_id: int) -> dict[str, Any]:
        peer = self._engine.routes.peers.get(peer_id)
        compared = compare_prefixes(self._engine.routes, key)
        hit = next((entry["masked"] for entry in compared if entry["hit"]), "")
        return {
            "address": address_text(key),
            "compared": compared,
            "prefix": hit,
            "peer": str(peer.address) if peer else "",
            "port": peer.port if peer else 0,
        }


_ONE_PACKET: frozenset[CodeType] = frozenset(
    {PythonEngine._encapsulate_one.__code__, PythonEngine._decapsulate_one.__code__}  # noqa: SLF001
)
"""The functions that take one packet from its first step to its last."""

_AT_RETURN: dict[CodeType, Callable[[_Watch, FrameType, Any], None]] = {
    rules.check_header.__code__: _Watch.header,
    PythonEngine._route.__code__: _Watch.lookup,  # noqa: SLF001
    PythonEngine._owner_of_source.__code__: _Watch.owner,  # noqa: SLF001
    PythonEngine._is_ours.__code__: _Watch.own,  # noqa: SLF001
    PacketBatch.source_address.__code__: _Watch.sender,
    rules.ttl.__code__: _Watch.ttl,
    rules.ecn.__code__: _Watch.ecn,
    BatchEngine.fit.__code__: _Watch.fits,
    rules.update_checksum.__code__: _Watch.summed,
    rules.change_ttl.__code__: _Watch.lowered,
    python._forward.__code__: _Watch.forwarded,  # noqa: SLF001
}


def address_text(key: bytes) -> str:
    """An address of 16 bytes as people write it."""
    return str(ip_address(key[12:] if key.startswith(V4_MAPPED) else key))


def compare_prefixes(routes: RouteSnapshot, key: bytes) -> list[dict[str, Any]]:
    """What the lookup of `key` compares, longest prefixes first, up to the one that it finds.

    `masked` is the key cut to that length, `prefixes` are the ones in the table of it (at most MOST_PREFIXES).
    """
    compared = []
    for length, table in routes.prefixes.items():
        if length < V4_PREFIX_BITS and rules.is_v4_mapped(key):
            break
        masked = mask(key, length)
        v4 = rules.is_v4_mapped(key)
        same_family = [prefix for prefix in table if rules.is_v4_mapped(prefix) == v4 or length < V4_PREFIX_BITS]
        if not same_family:
            continue
        entry = {
            "length": length - (ADDRESS_BITS - 32 if v4 else 0),
            "masked": _prefix_text(masked, length),
            "prefixes": sorted(_prefix_text(prefix, length) for prefix in same_family)[:MOST_PREFIXES],
            "n": len(same_family),
            "hit": masked in table,
        }
        compared.append(entry)
        if entry["hit"]:
            break
    return compared


def _prefix_text(key: bytes, length: int) -> str:
    if key.startswith(V4_MAPPED) and length >= V4_PREFIX_BITS:
        return str(ip_network((key[12:], length - V4_PREFIX_BITS)))
    return str(ip_network((key, length)))


def arithmetic(old_word: int, new_word: int, old_sum: int) -> dict[str, Any]:
    """RFC 1624, equation 3, with numbers: HC' = ~(~HC + ~m + m'), each a text of four hex digits."""
    total = (~old_sum & 0xFFFF) + (~old_word & 0xFFFF) + new_word
    folded = total
    while folded > 0xFFFF:
        folded = (folded & 0xFFFF) + (folded >> 16)
    return {
        "old_sum": f"{old_sum:04x}",
        "not_old_sum": f"{~old_sum & 0xFFFF:04x}",
        "old_word": f"{old_word:04x}",
        "not_old_word": f"{~old_word & 0xFFFF:04x}",
        "new_word": f"{new_word:04x}",
        "total": f"{total:x}",
        "folded": f"{folded:04x}",
        "new_sum": f"{~folded & 0xFFFF:04x}",
    }


def lowering(before: bytes, after: bytes) -> dict[str, Any]:
    """How a router's step from `before` to `after`, two IP packets, changed TTL and checksum."""
    old, new = memoryview(before), memoryview(after)
    at = family_of(old).ttl
    args: dict[str, Any] = {"before": old[at], "after": new[at], "version": old[0] >> 4}
    if family_of(old) is IPV4:
        args["sum"] = arithmetic(word(old, at & ~1), word(new, at & ~1), word(old, V4_CHECKSUM))
    return args
