"""The Backend protocol: what the node asks of the way in which packets get to other nodes.

The node knows leases; a backend makes them work. It says what the node publishes about itself (`attrs`), brings up its
device for the node's own lease (`take_up`), and follows the peers (`apply`). It does not talk to stores.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Any, Protocol

from dataplane.counters import Counters, PeerCounters
from dataplane.errors import ConfigError
from dataplane.lease import Lease, LeaseAttrs, LeaseEvent
from dataplane.netdev import ExternalInterface
from dataplane.options import NodeOptions
from dataplane.subnet import NetworkConfig

Address = IPv4Address | IPv6Address


@dataclass(frozen=True, slots=True)
class BackendContext:
    """What a backend is made from. `on_error` may be called from any thread when packets cannot be moved any more."""

    options: NodeOptions
    config: NetworkConfig
    interface: ExternalInterface
    on_error: Callable[[Exception], None]


@dataclass(frozen=True, slots=True)
class PeerState:
    """One peer as the backend sees it: where it is, the largest inner packet on the way there, and its traffic."""

    address: Address
    port: int
    mtu: int
    traffic: PeerCounters


class Backend(Protocol):
    """One way to move packets between nodes. Its methods may block for milliseconds and are called one at a time."""

    @property
    def attrs(self) -> LeaseAttrs:
        """What the node publishes in its lease."""

    @property
    def mtu(self) -> int:
        """Bytes of the largest packet that pods may send."""

    @property
    def gso_max_size(self) -> int | None:
        """Bytes of the largest super-packet that pods should send, or None for no wish. Known after `take_up`."""

    def take_up(self, lease: Lease) -> None:
        """Bring the device up for the node's own `lease` and move packets; called again when its subnets are others.

        What is there already from an earlier life of the node is used again. NodeError if that cannot be.
        """

    def apply(self, changes: Iterable[LeaseEvent]) -> None:
        """Follow the peers' leases."""

    def refresh(self) -> None:
        """Look after what ages, such as learned path MTUs. Called every minute or so."""

    def stop(self) -> None:
        """Stop moving packets. The device, its addresses and routes stay, for the next start."""

    def counters(self) -> Counters:
        """Counts since the start."""

    def peers(self) -> Mapping[str, PeerState]:
        """The peers in use, by their leases' keys."""

    def report(self) -> dict[str, Any]:
        """The backend's part of the node's status, ready for JSON."""


def open_backend(context: BackendContext) -> Backend:
    """Make the backend that the network config names. ConfigError if there is none of that name."""
    name = context.config.backend.type
    if name == "udp":
        from dataplane.backends.udp import UdpBackend

        return UdpBackend(context)
    raise ConfigError(
        f'the network config asks for the backend {name!r}; this node has udp: "Backend": {{"Type": "udp"}}'
    )
