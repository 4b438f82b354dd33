"""The peers' leases as one node sees them: what the store reports, cleaned up, as changes of routes.

Sans-I/O: `reset` takes a snapshot, `apply` one event, and both return the changes that the engine's routes
need. On the way three things are set right:

- the node's own lease, and any other that names its own public address, is no peer: a route to oneself would
  send packets round in circles;
- a store that reports the same lease again makes no change; a peer that moved to another public address is CHANGED;
- two leases that overlap cannot both be routed. The one that was there first stays, the other is refused and
  kept aside in `refused`, and takes its place when the first goes.
"""

import bisect
from collections.abc import Iterable

from dataplane.lease import Change, Lease, LeaseEvent, Network


class _DisjointRanges:
    """A set of address ranges of one family of which no two overlap, each owned by a lease's key."""

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._ranges: dict[int, tuple[int, str]] = {}  # first address -> (last address, key)

    def overlapping(self, network: Network) -> str | None:
        """The key of a range that overlaps `network`, or None."""
        last = int(network.broadcast_address)
        # Ranges are disjoint and sorted: if any overlaps, the last one that begins at or before our end does.
        index = bisect.bisect_right(self._starts, last) - 1
        if index < 0:
            return None
        other_last, key = self._ranges[self._starts[index]]
        return key if other_last >= int(network.network_address) else None

    def add(self, network: Network, key: str) -> None:
        start = int(network.network_address)
        bisect.insort(self._starts, start)
        self._ranges[start] = int(network.broadcast_address), key

    def remove(self, network: Network) -> None:
        start = int(network.network_address)
        del self._starts[bisect.bisect_left(self._starts, start)]
        del self._ranges[start]


class LeaseTable:
    """The peers of one node. `peers` and `refused` map a lease's key to the lease: read them, never write.

    `own` is the lease of the node itself; its subnets are routed to nobody else.
    """

    def __init__(self, own: Lease) -> None:
        self.peers: dict[str, Lease] = {}
        self.refused: dict[str, Lease] = {}
        self._own = own
        self._ranges = {4: _DisjointRanges(), 6: _DisjointRanges()}
        self._claim(own)

    def reset(self, leases: Iterable[Lease]) -> list[LeaseEvent]:
        """Make the table hold exactly `leases`; returns the changes, removals first."""
        reported = {lease.key: lease for lease in leases}
        gone = [key for key in (*self.refused, *self.peers) if key not in reported]
        changes = [change for key in gone for change in self._remove(key)]
        return changes + [change for lease in reported.values() for change in self._put(lease)]

    def apply(self, event: LeaseEvent) -> list[LeaseEvent]:
        """Take in one event of the store; returns the changes it makes."""
        if event.change is Change.REMOVED:
            return self._remove(event.lease.key)
        return self._put(event.lease)

    def conflict(self, lease: Lease) -> Lease | None:
        """The lease because of which `lease` is or would be refused, if there is one."""
        for subnet in lease.subnets:
            key = self._ranges[subnet.version].overlapping(subnet)
            if key is not None and key != lease.key:
                return self.peers.get(key, self._own)
        return None

    def _put(self, lease: Lease) -> list[LeaseEvent]:
        key = lease.key
        if key == self._own.key or lease.attrs.same_node(self._own.attrs):
            return self._remove(key)
        known = self.peers.get(key)
        if known is not None:
            self.peers[key] = lease
            return [] if known.attrs == lease.attrs else [LeaseEvent(Change.CHANGED, lease)]
        if self.conflict(lease) is not None:
            already = key in self.refused
            self.refused[key] = lease
            return [] if already else [LeaseEvent(Change.REFUSED, lease)]
        self.refused.pop(key, None)
        self.peers[key] = lease
        self._claim(lease)
        return [LeaseEvent(Change.ADDED, lease)]

    def _remove(self, key: str) -> list[LeaseEvent]:
        self.refused.pop(key, None)
        lease = self.peers.pop(key, None)
        if lease is None:
            return []
        for subnet in lease.subnets:
            self._ranges[subnet.version].remove(subnet)
        changes = [LeaseEvent(Change.REMOVED, lease)]
        for waiting in [other for other in self.refused.values() if other.subnets.overlaps(lease.subnets)]:
            changes += self._put(waiting)
        return changes

    def _claim(self, lease: Lease) -> None:
        for subnet in lease.subnets:
            self._ranges[subnet.version].add(subnet, lease.key)
