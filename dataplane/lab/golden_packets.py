"""The golden packets of packets.toml: what an engine does with them, byte for byte.

They come with udplane, so that an engine of one's own can be held to them (see `golden`). The tests hold udplane's own
engines to them, and fill in the bytes from scapy expressions.
"""

import tomllib
from dataclasses import dataclass, field
from functools import cache
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from pathlib import Path
from typing import Any

from dataplane.engines.contract import EngineConfig
from dataplane.packets.routes import Peer, RouteSnapshot
from dataplane.packets.verdicts import Direction, Egress, Event, Verdict

FILE = Path(__file__).with_name("packets.toml")
SUBNET4, SUBNET6 = IPv4Network("10.5.1.0/24"), IPv6Network("fd05:1::/64")
"""The node's own subnets."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """One golden packet; the fields are described at the top of packets.toml."""

    name: str
    input: str
    input_hex: str
    output: str | None = None
    output_hex: str | None = None
    direction: str = "encap"
    peers: str = "two"
    mtu: int = 1472
    least_mtu: int = 0
    icmp_rate: int = 1000
    carry_tos: bool = True
    check_sender: bool = True
    no_subnet: list[int] = field(default_factory=list)
    path_mtus: dict[str, int] = field(default_factory=dict)
    source: str = "192.168.0.202"
    outer_tos: int = 0
    verdict: str = "FORWARDED"
    next_hop: int = 1
    tos: int = 0
    fragment_len: int = 0
    no_df: bool = False
    event: str | None = None
    other_event: str | None = None

    @property
    def config(self) -> EngineConfig:
        """The configuration of the engine."""
        return EngineConfig(
            subnet4=None if 4 in self.no_subnet else SUBNET4,
            subnet6=None if 6 in self.no_subnet else SUBNET6,
            mtu=self.mtu,
            least_mtu=self.least_mtu,
            carry_tos=self.carry_tos,
            check_sender=self.check_sender,
            icmp_rate=self.icmp_rate,
            icmp_burst=1,
        )

    @property
    def routes(self) -> RouteSnapshot:
        """The peers and what they own."""
        return RouteSnapshot(
            Peer(
                peer["id"],
                ip_address(peer["address"]),
                8285,
                tuple(ip_network(subnet) for subnet in peer["subnets"]),
            )
            for peer in _document()["peers"][self.peers]
        )

    @property
    def way(self) -> Direction:
        """The direction."""
        return Direction[self.direction.upper()]

    @property
    def received(self) -> bytes:
        """The bytes that go in."""
        return bytes.fromhex(self.input_hex)

    @property
    def left(self) -> bytes:
        """The bytes that come out, or stay."""
        return self.received if self.output_hex is None else bytes.fromhex(self.output_hex)

    @property
    def expected_verdict(self) -> Verdict:
        """What becomes of the packet."""
        return Verdict[self.verdict]

    @property
    def expected_events(self) -> list[Event]:
        """What is counted beside the verdict."""
        return [Event[name] for name in (self.event, self.other_event) if name]

    @property
    def expected_egress(self) -> Egress:
        """Where the bytes that come out go."""
        if self.verdict == "FORWARDED":
            return Egress.UNDERLAY if self.way == Direction.ENCAP else Egress.TUN
        return Egress.TUN if Event.ICMP_SENT in self.expected_events else Egress.NONE


@cache
def _document() -> dict[str, Any]:
    return tomllib.loads(FILE.read_text())


def load() -> list[Case]:
    """All cases, in the order of the file."""
    return [Case(**case) for case in _document()["case"]]
