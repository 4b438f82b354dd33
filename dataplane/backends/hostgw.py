"""The host-gw backend: a route to each peer's subnet by the peer's own address, and no encapsulation at all.

Packets cross the underlay as the pods sent them, so pods have its whole MTU. It works where nothing stands between the
nodes that would have to know pods' addresses: all nodes on one link. A peer that is elsewhere is refused. What is
published and done is flannel's host-gw (pkg/backend/hostgw, pkg/backend/route_network.go).
"""

from collections.abc import Sequence

from dataplane.addresses import Address, Network
from dataplane.backends.base import BackendContext
from dataplane.backends.routed import KernelBackend, Link, NoWayError
from dataplane.errors import NodeError
from dataplane.kernel.netdev import ExternalInterface
from dataplane.kernel.rtnetlink import Route
from dataplane.kernel.wishes import Wish
from dataplane.leases.lease import LeaseAttrs


class HostGatewayBackend(KernelBackend):
    """See `dataplane.backends.base.Backend` for the contract of each method."""

    name = "host-gw"

    def __init__(self, context: BackendContext) -> None:
        super().__init__(context)
        public = context.options.public_ip
        if public is not None and public not in self._underlay.values():
            raise NodeError(
                f"--public-ip {public} is no address of {self._interface.name}: host-gw cannot work behind NAT; leave "
                '--public-ip out, or use "Backend": {"Type": "udp"}'
            )

    def _face(self, interface: ExternalInterface) -> None:
        super()._face(interface)
        self._link = Link(interface.name)

    @property
    def mtu(self) -> int:
        """All that the external interface carries."""
        return self._interface.mtu

    @property
    def port(self) -> None:
        """Pods' packets travel as they are."""
        return

    def _device_wishes(self, _subnets: Sequence[Network]) -> list[Wish]:
        return []

    def _look(self) -> None:
        self._link.look()

    def _devices(self) -> Sequence[int]:
        return ()

    def _way(self, _attrs: LeaseAttrs, subnet: Network, address: Address) -> tuple[Route, ...]:
        if not self._link.has(address):
            raise NoWayError(
                f"{address} is not on the link of {self._interface.name}, as host-gw needs it; vxlan or udp would do"
            )
        return (Route(subnet, address, self._link.index),)


def create(context: BackendContext) -> HostGatewayBackend:
    """Make the backend."""
    return HostGatewayBackend(context)
