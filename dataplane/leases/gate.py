"""The gate: what a node believes of the network config and the leases that come from a store.

Whoever can write to the store, by mistake or in bad faith, could otherwise send any address's packets anywhere and
let any host speak for them. Both questions depend on nothing but the config and the node's own addresses, so every node
of the same config answers them alike, in whatever order leases come and however often it is started.

A lease passes if all of this is so:

- each of its subnets lies in the network of its family, and leaves two bits for hosts
- where nodes get their subnets by the config (`Store.cuts_by_config`), each is of its family's SubnetLen. SubnetMin
  and SubnetMax are not asked: moving them is how a network in use is made larger
- another node can be reached at each of its public addresses: no loopback, multicast, broadcast and so on, nothing in
  a pod network, whose packets would go round and round, and no address of this node

A subnet of a family that the config does not enable is left out of a lease, so that a cluster can get its second
family node by node.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from dataplane.addresses import Address, Network, trouble_with_host, trouble_with_pods
from dataplane.errors import ConfigError
from dataplane.leases.lease import Lease, Subnets
from dataplane.leases.network_config import NetworkConfig


@dataclass(frozen=True, slots=True)
class Refusal:
    """A lease that is not used, as the store has it, and why."""

    lease: Lease
    reason: str


def check_underlay(config: NetworkConfig, addresses: Iterable[Address | None]) -> None:
    """ConfigError if a pod network of `config` holds one of the node's `addresses` on the underlay; None is none."""
    for pool in config.pools:
        for address in addresses:
            if address is not None and address in pool.network:
                raise ConfigError(
                    f"the network config's {pool.network} holds this node's own address {address}, so that packets "
                    "between nodes would go into the tunnel; choose a Network that is used for nothing else"
                )


class LeaseGate:
    """Judges leases by `config`. `own` are this node's addresses on the underlay; None is none."""

    def __init__(self, config: NetworkConfig, own: Iterable[Address | None] = (), *, any_length: bool = False) -> None:
        """`any_length` if somebody else than the config cuts the networks into subnets, see `Store.cuts_by_config`."""
        self._pools = {pool.network.version: pool for pool in config.pools}
        self.own = frozenset(own)
        """This node's addresses on the underlay; to be set when they change."""
        self._any_length = any_length

    def admit(self, lease: Lease) -> Lease | Refusal:
        """`lease` with those of its subnets that count here, or why it is refused."""
        own = (f"its public address {a} is this node's own" for a in lease.attrs.addresses if a in self.own)
        if reason := self.trouble_with_own(lease) or next(own, ""):
            return Refusal(lease, reason)
        kept = [subnet for subnet in lease.subnets if subnet.version in self._pools]
        return lease if len(kept) == len(list(lease.subnets)) else replace(lease, subnets=Subnets.of(kept))

    def trouble_with_own(self, lease: Lease) -> str:
        """Why other nodes would refuse the node's own `lease`; empty if they would not."""
        return self._trouble_with_subnets(lease.subnets) or self.trouble_with_addresses(lease.attrs.addresses)

    def trouble_with_addresses(self, addresses: Iterable[Address]) -> str:
        """Why a node cannot be reached at one of its public `addresses`; empty if it can at all of them."""
        for address in addresses:
            if trouble := trouble_with_host(address):
                return f"its public address {address} {trouble}"
            if network := next((p.network for p in self._pools.values() if address in p.network), None):
                return f"its public address {address} lies in the pod network {network}"
        return ""

    def _trouble_with_subnets(self, subnets: Subnets) -> str:
        if not any(subnet.version in self._pools for subnet in subnets):
            return "it has no subnet of a family that the network config enables"
        return next(filter(None, map(self._trouble_with_subnet, subnets)), "")

    def _trouble_with_subnet(self, subnet: Network) -> str:
        pool = self._pools.get(subnet.version)
        if pool is None:
            trouble = trouble_with_pods(subnet)
            return f"its subnet {subnet} {trouble}" if trouble else ""
        if not pool.encloses(subnet):
            return f"its subnet {subnet} is not in the network config's {pool.network}"
        if subnet.prefixlen > subnet.max_prefixlen - 2:
            return f"its subnet {subnet} leaves no room for pods"
        if not self._any_length and subnet.prefixlen != pool.subnet_len:
            return (
                f"its subnet {subnet} is no /{pool.subnet_len}, which is the network config's SubnetLen; "
                "if that was changed, restart the nodes that still go by the old one"
            )
        return ""
