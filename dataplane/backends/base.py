"""The Backend protocol: what the node asks of the way in which packets get to other nodes.

The node knows leases; a backend makes them work. It says what the node publishes about itself (`attrs`), opens what it
needs for the node's own lease (`take_up`), says what the host shall have for it (`wishes`), and follows the peers
(`apply`). It does not talk to stores.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from dataplane.addresses import Address, Network
from dataplane.backends.report import BackendReport
from dataplane.engines.contract import LearnedMtu
from dataplane.kernel.netdev import ExternalInterface
from dataplane.kernel.wishes import Wish
from dataplane.leases.lease import Lease, LeaseAttrs, LeaseEvent
from dataplane.leases.network_config import NetworkConfig
from dataplane.options import NodeOptions
from dataplane.packets.counters import Counters, PeerCounters


@dataclass(frozen=True, slots=True)
class BackendContext:
    """What a backend is made from. `on_error` may be called from any thread when packets cannot be moved any more.

    With a NodeError looking after the wishes may help; anything else is a defect.
    """

    options: NodeOptions
    config: NetworkConfig
    interface: ExternalInterface
    on_error: Callable[[Exception], None]


@dataclass(frozen=True, slots=True)
class PeerState:
    """One peer as the backend sees it: where it is, the largest inner packet on the way there, and its traffic.

    `port` is None where pods' packets travel as they are, `traffic` where the kernel moves them and does not count.
    `learned` is what the kernel said of the path, if that was noted; `mtu` holds all the same.
    """

    address: Address
    port: int | None
    mtu: int
    traffic: PeerCounters | None
    learned: LearnedMtu | None = None


class Backend(Protocol):
    """One way to move packets between nodes.

    It is made, and its methods are called, in threads that may block for milliseconds; the properties do not block.
    `refresh`, `forget_path_mtu`, and what only tells (`counters`, `peers`, `unreachable`, `report`), may be called
    while another method runs, other methods one at a time.
    """

    refresh_seconds: float
    """How often `refresh` is to be called."""

    @property
    def attrs(self) -> LeaseAttrs:
        """What the node publishes in its lease."""

    @property
    def mtu(self) -> int:
        """Bytes of the largest packet that pods may send."""

    @property
    def gso_max_size(self) -> int | None:
        """Bytes of the largest super-packet that pods should send, or None for no wish. Known after `take_up`."""

    @property
    def families(self) -> Iterable[int]:
        """The IP versions of the underlay addresses in use."""

    @property
    def port(self) -> int | None:
        """The UDP port at which nodes believe each other by their addresses, or None if there is none."""

    def take_up(self, lease: Lease) -> None:
        """Open what the process holds for the node's own `lease`; called again when its subnets are others.

        What is there already from an earlier life of the node is used again. NodeError if that cannot be.
        """

    def wishes(self, subnets: Iterable[Network]) -> Sequence[Wish]:
        """What the host shall have for a lease of these `subnets`, in the order in which it is set up."""

    def move(self, interface: ExternalInterface) -> None:
        """Use another underlay address or MTU from now on, with the lease that was taken up.

        `attrs`, `mtu` and `wishes` are others afterwards. NodeError if that cannot be; it may be called again.
        """

    def apply(self, changes: Iterable[LeaseEvent]) -> None:
        """Follow the peers' leases."""

    def refresh(self) -> None:
        """Ask the kernel again about what ages."""

    def stop(self) -> None:
        """Stop moving packets. The device, its addresses and routes stay, for the next start."""

    def forget_path_mtu(self, key: str) -> None:
        """Take the path to the peer of that lease for as wide as any until the kernel says otherwise once more.

        The kernel forgets what ICMP told it of that path, with an IPv4 underlay of all paths. NodeError if it may not.
        """

    def counters(self) -> Counters | None:
        """Counts since the start, or None where the kernel moves the packets."""

    def peers(self) -> Mapping[str, PeerState]:
        """The peers in use, by their leases' keys."""

    def unreachable(self) -> Mapping[str, str]:
        """Why there is no way to some of the peers, by their leases' keys."""

    def report(self) -> BackendReport:
        """The backend's part of the node's status."""
