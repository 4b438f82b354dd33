"""The peers' leases as one node sees them: what the store reports, cleaned up, as changes of routes.

Sans-I/O: `replace` takes a snapshot, `note` one event, and `settle` returns the changes that the engine's routes need
after any number of them. Which leases are used is a function of what the store holds, and not of the order in which it
came:

- the node's own lease is no peer, and one that names its own public address is refused: a route to oneself would
  send packets round in circles;
- `LeaseGate` decides which of the others can be believed;
- two leases that overlap cannot both be routed. The one that the store has had for longer is used (`Lease.since`), of
  two that it has had for as long the one of the lower addresses. The other takes its place when that one goes.

What is not used is kept aside in `refused`, with the reason. A store that reports the same lease again makes no
change; a peer that moved to another public address is CHANGED.
"""

import bisect
from collections.abc import Iterable
from typing import NamedTuple

from dataplane.leases.gate import LeaseGate, Refusal
from dataplane.leases.lease import Change, Lease, LeaseEvent


class _DisjointRanges:
    """A set of address ranges of one family of which no two overlap, each owned by a lease."""

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._ranges: dict[int, tuple[int, Lease]] = {}  # first address -> (last address, lease)

    def overlapping(self, extent: "_Extent") -> Lease | None:
        """The lease of a range that overlaps `extent`, or None."""
        # Ranges are disjoint and sorted: if any overlaps, the last one that begins at or before our end does.
        index = bisect.bisect_right(self._starts, extent.last) - 1
        if index < 0:
            return None
        other_last, lease = self._ranges[self._starts[index]]
        return lease if other_last >= extent.first else None

    def add(self, extent: "_Extent", lease: Lease) -> None:
        bisect.insort(self._starts, extent.first)
        self._ranges[extent.first] = extent.last, lease


class LeaseTable:
    """The peers of one node: read them, never write.

    `own` is the lease of the node itself; its subnets are routed to nobody else. `peers` are the leases in use, by
    their keys; a lease may have fewer subnets here than in the store, see `gate`. `refused` are the others, by
    the keys that they have in the store.
    """

    def __init__(self, own: Lease, gate: LeaseGate) -> None:
        self.own = own
        self.peers: dict[str, Lease] = {}
        self.refused: dict[str, Refusal] = {}
        self._gate = gate
        self._reported: dict[str, _Reported] = {}
        self._settled = True

    def adopt(self, own: Lease) -> None:
        """The node has another lease now."""
        self.own = own
        reported, self._reported = self._reported, {}
        self.replace(entry.lease for entry in reported.values())

    def replace(self, leases: Iterable[Lease]) -> None:
        """The store holds exactly `leases`."""
        before, self._reported = self._reported, {}
        for lease in leases:
            self._put(lease, before.get(lease.key))
        self._settled = False

    def note(self, event: LeaseEvent) -> None:
        """One thing happened in the store. A lease that was only renewed changes nothing."""
        before = self._reported.pop(event.lease.key, None)
        if event.change is not Change.REMOVED:
            self._put(event.lease, before)
            if before is not None and before.lease.attrs == event.lease.attrs:
                return
        self._settled = False

    def settle(self) -> list[LeaseEvent]:
        """Work out who is used now; returns the changes since the last time, removals first, refusals last."""
        if self._settled:
            return []
        before, refused_before = self.peers, self.refused
        self.peers, self.refused = self._choose()
        self._settled = True
        changes = [LeaseEvent(Change.REMOVED, lease) for key, lease in before.items() if key not in self.peers]
        for key, lease in self.peers.items():
            known = before.get(key)
            if known is None:
                changes.append(LeaseEvent(Change.ADDED, lease))
            elif known.attrs != lease.attrs:
                changes.append(LeaseEvent(Change.CHANGED, lease))
        for key, refusal in self.refused.items():
            if key not in refused_before or refused_before[key].reason != refusal.reason:
                changes.append(LeaseEvent(Change.REFUSED, refusal.lease))
        return changes

    def _put(self, lease: Lease, before: "_Reported | None") -> None:
        if before is None or before.lease != lease or before.lease.since != lease.since:
            before = _Reported(lease, self._judge(lease))
        self._reported[lease.key] = before

    def _judge(self, lease: Lease) -> Lease | Refusal | None:
        """The lease as it is used, or why it is not; None for the node's own, which is no peer's."""
        if lease.key == self.own.key:
            return None
        if lease.attrs.same_node(self.own.attrs):
            return Refusal(lease, f"it names this node's own public address, whose lease is {self.own.subnets}")
        return self._gate.admit(lease)

    def _choose(self) -> tuple[dict[str, Lease], dict[str, Refusal]]:
        """The peers and the refused among what is reported."""
        peers: dict[str, Lease] = {}
        refused: dict[str, Refusal] = {}
        ranges = {4: _DisjointRanges(), 6: _DisjointRanges()}
        for extent in _extents(self.own):
            ranges[extent.version].add(extent, self.own)
        for key, entry in sorted(self._reported.items(), key=lambda item: item[1].precedence):
            judged = entry.judged
            if judged is None:
                continue
            other = next(filter(None, (ranges[extent.version].overlapping(extent) for extent in entry.extents)), None)
            if other is not None:
                judged = Refusal(entry.lease, f"it overlaps {other}")
            if isinstance(judged, Refusal):
                refused[key] = judged
                continue
            peers[entry.key] = judged
            for extent in entry.extents:
                ranges[extent.version].add(extent, judged)
        return peers, refused


class _Extent(NamedTuple):
    """The addresses of a subnet, as numbers."""

    version: int
    first: int
    last: int


def _extents(lease: Lease) -> tuple[_Extent, ...]:
    return tuple(
        _Extent(subnet.version, int(subnet.network_address), int(subnet.broadcast_address)) for subnet in lease.subnets
    )


class _Reported:
    """A lease as the store has it, and all that does not depend on other leases, worked out once."""

    __slots__ = ("extents", "judged", "key", "lease", "precedence")

    def __init__(self, lease: Lease, judged: Lease | Refusal | None) -> None:
        self.lease = lease
        self.judged = judged
        self.extents = _extents(judged) if isinstance(judged, Lease) else ()
        self.key = judged.key if isinstance(judged, Lease) else ""
        self.precedence = lease.since, _extents(lease)
        """Of two leases that overlap the lower one in this order is used."""
