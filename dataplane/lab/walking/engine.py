"""What an engine did to a packet: the python engine's rules, run over the recorded bytes with the node's own routes.

All engines give the same answers to the same input, so this tells of each of them. What the node knows is asked of the
node: its lease, its peers and the MTU from `udplane status`, flags that change a rule from the command line with which
it was started. A super-packet is decided about piece by piece, as it goes on the wire.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from pathlib import Path

from dataplane.backends.udp import IPV6_LEAST_MTU
from dataplane.engines.contract import EngineConfig
from dataplane.errors import UdplaneError
from dataplane.lab.engine_steps import Seen, WatchedEngine
from dataplane.lab.node_status import ask_status
from dataplane.lab.recording import Check
from dataplane.lab.view import NodePlace
from dataplane.node.document import StatusDocument
from dataplane.packets.batch import MAX_PACKET, PacketBatch
from dataplane.packets.routes import Peer, RouteSnapshot, address_key
from dataplane.packets.verdicts import Egress, Verdict

ANY_SENDER, NO_TOS = "--accept-any-sender", "--no-carry-tos"


@dataclass(slots=True)
class Judgement:
    """What came of a packet."""

    verdict: str
    """Name of a Verdict in small letters."""
    checks: list[Check] = field(default_factory=list)
    packet: bytes = b""
    """What leaves: the packet, or the ICMP error about it; empty when nothing does."""


class EngineOf:
    """The engine of a node, as far as can be known from outside."""

    def __init__(self, node: NodePlace) -> None:
        """Ask the node. `trouble` says why nothing can be known, for example since it does not run."""
        self.node = node
        self.status: StatusDocument | None = None
        self.trouble = ""
        self._seen: list[Seen] = []
        self._engine: WatchedEngine | None = None
        try:
            self.status = ask_status(node)
        except (UdplaneError, OSError) as error:
            self.trouble = str(error)
            return
        with contextlib.suppress(KeyError, TypeError, ValueError):
            self._engine = WatchedEngine(config_of(self.status), self._seen.append)
            self._engine.set_routes(RouteSnapshot(peers_of(self.status)))

    @property
    def known(self) -> bool:
        """Whether the rules can be run."""
        return self._engine is not None

    def encapsulate(self, packet: bytes) -> Judgement:
        """What becomes of a packet read from the TUN."""
        return self._judge(packet, b"", 0)

    def decapsulate(self, packet: bytes, sender: str, tos: int) -> Judgement:
        """What becomes of a datagram's payload that came from the underlay address `sender` with outer byte `tos`."""
        return self._judge(packet, address_key(ip_address(sender)), tos)

    def _judge(self, packet: bytes, source: bytes, tos: int) -> Judgement:
        if self._engine is None:
            return Judgement("")
        batch = PacketBatch(1, MAX_PACKET)
        self._seen.clear()
        if source:
            batch.append(packet, source, tos)
            self._engine.decapsulate(batch, 0)
        else:
            batch.append(packet)
            self._engine.encapsulate(batch, 0)
        checks = [check_of(seen) for seen in self._seen]
        leaves = bytes(batch.packet(0)) if batch.egress[0] != Egress.NONE else b""
        return Judgement(Verdict(batch.verdict[0]).name.lower(), checks, leaves)


def check_of(seen: Seen) -> Check:
    """A step as a check of a recording; where a sentence needs no checksum, the step has another name."""
    return Check("lower6" if seen.step == "lower" and seen.args["version"] == 6 else seen.step, seen.ok, seen.args)


def config_of(status: StatusDocument) -> EngineConfig:
    """How the engine of that node was made. Raises ValueError where none moves packets."""
    backend, lease = status["backend"], status["lease"]
    if backend is None or backend.get("engine") is None:
        raise ValueError("no engine of this process moves packets")
    subnets = [ip_network(text) for text in lease["subnets"]]
    flags = _command_line(status["pid"])
    has_v6 = any(subnet.version == 6 for subnet in subnets)
    return EngineConfig(
        subnet4=next((subnet for subnet in subnets if isinstance(subnet, IPv4Network)), None),
        subnet6=next((subnet for subnet in subnets if isinstance(subnet, IPv6Network)), None),
        mtu=backend["mtu"],
        least_mtu=min(IPV6_LEAST_MTU, backend["mtu"]) if has_v6 else 0,
        carry_tos=NO_TOS not in flags,
        check_sender=ANY_SENDER not in flags,
    )


def _command_line(pid: int) -> list[str]:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
    return []


def peers_of(status: StatusDocument) -> Iterable[Peer]:
    """The peers that it knows a way to."""
    for number, peer in enumerate(status["peers"]):
        if peer["reachable"]:
            subnets = tuple(ip_network(text) for text in peer["subnets"])
            yield Peer(number, ip_address(peer["address"]), peer["port"] or 0, subnets)
