"""Which subnets a node gets: a pure choice over what the store holds.

Taken subnets need not be the pool's own (another SubnetLen may have been in force, an operator may have
reserved a larger range), so "free" means that no address overlaps. Picking at random among the first free ones,
as flannel does, keeps nodes that ask at the same time from all trying the same subnet.
"""

import itertools
import random
from collections.abc import Iterable, Iterator
from ipaddress import IPv4Network, IPv6Network
from typing import TypeVar

from dataplane.errors import LeaseError
from dataplane.leases.lease import Lease, Subnets
from dataplane.leases.network_config import NetworkConfig, SubnetPool

_CANDIDATES = 100
"""Free subnets to pick one from, flannel's number."""

_Network = TypeVar("_Network", IPv4Network, IPv6Network)


def own_lease(own: Iterable[Lease], config: NetworkConfig, previous: Subnets | None) -> Lease | None:
    """Which of its `own` leases a node takes up, if it has any.

    One that `config` would give out, and if possible the `previous` one; else the first.
    """
    return max(own, key=lambda lease: (config.accepts(lease.subnets), lease.subnets == previous), default=None)


def taken_subnets(leases: Iterable[Lease], config: NetworkConfig) -> list[Subnets]:
    """What other nodes' `leases` take away from `config`.

    A subnet that is no part of a network is believed by no node (`gate`), and must not use up the network.
    """
    parts = ([s for s in lease.subnets if any(pool.encloses(s) for pool in config.pools)] for lease in leases)
    return [Subnets.of(subnets) for subnets in parts if subnets]


def allocate(config: NetworkConfig, taken: Iterable[Subnets], previous: Subnets | None, rng: random.Random) -> Subnets:
    """Choose subnets for a node that has none: `previous` if that fits the config and is free, else random ones.

    `taken` are the subnets of all other leases. LeaseError if a pool is used up.
    """
    taken = list(taken)
    if previous is not None and config.accepts(previous) and not any(previous.overlaps(other) for other in taken):
        return previous
    return Subnets(
        _pick(config.ipv4, [subnets.ipv4 for subnets in taken if subnets.ipv4 is not None], rng),
        _pick(config.ipv6, [subnets.ipv6 for subnets in taken if subnets.ipv6 is not None], rng),
    )


def _pick(pool: SubnetPool[_Network] | None, taken: list[_Network], rng: random.Random) -> _Network | None:
    if pool is None:
        return None
    candidates = list(itertools.islice(free_subnets(pool, taken), _CANDIDATES))
    if not candidates:
        raise LeaseError(
            f"all {pool.size} subnets of {pool.network} are taken; release a lease with `udplane leave`, "
            f"wait for one to expire, or set a larger Network or SubnetLen"
        )
    return rng.choice(candidates)


def free_subnets(pool: SubnetPool[_Network], taken: Iterable[_Network]) -> Iterator[_Network]:
    """Yield the pool's subnets that overlap none of `taken`, in ascending order."""
    kind, size = type(pool.network), pool.first.num_addresses
    candidate, beyond = int(pool.first.network_address), int(pool.last.broadcast_address) + 1
    for start, end in sorted((int(net.network_address), int(net.broadcast_address) + 1) for net in taken):
        while candidate + size <= min(start, beyond):
            yield kind((candidate, pool.subnet_len))
            candidate += size
        # Go on at the first boundary at or behind this taken range.
        candidate = max(candidate, -(-end // size) * size)
    while candidate < beyond:
        yield kind((candidate, pool.subnet_len))
        candidate += size
