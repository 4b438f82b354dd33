"""The node as a member of its cluster: it keeps its lease and follows everybody else's.

`LeaseKeeper` decides when to do what, the store does it, `LeaseTable` turns what the store reports into changes; this
module is the wiring between them, and tells the node's host side (`HostSide`) what to make of it. It goes on through
everything that can happen to a store or a lease:

- store out of reach: said once; peers stay as they are known, the watch and the renewal keep trying
- lease revoked: said loudly, then a lease is asked for again, for the same subnets first. If it gets them nothing has
  changed for pods. If they belong to somebody else by now the node moves to new ones, and its pods must be started
  anew. As long as there is no lease, packets are forwarded by what is known
"""

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Protocol

from dataplane import clock
from dataplane.concurrency import first_failure
from dataplane.errors import LeaseError, LeaseLostError, StoreError, UdplaneError
from dataplane.leases.gate import LeaseGate
from dataplane.leases.keeper import Action, LeaseKeeper
from dataplane.leases.lease import Change, Lease, LeaseAttrs, LeaseEvent, Subnets
from dataplane.leases.table import LeaseTable
from dataplane.stores.base import AcquireRequest, Outage, Snapshot, Store, WatchUpdate

_log = logging.getLogger(__name__)

_PUBLISH_RETRY_SECONDS = 2.0
_LONGEST_WAIT_SECONDS = 60.0
"""asyncio's clock stands still while the machine sleeps, and that of leases does not."""

_LOGGED_ONE_BY_ONE = 20
"""Changes that come together and are still worth a line each."""


class HostSide(Protocol):
    """What changes on the host when leases change."""

    async def take_up(self, lease: Lease) -> None:
        """Make the host fit the node's own `lease`, whose subnets are new to it. UdplaneError if that cannot be."""

    def remember(self, lease: Lease) -> None:
        """Note the node's own lease, new or extended, for whoever has to give it back."""

    async def apply(self, changes: list[LeaseEvent]) -> None:
        """Follow changes of the peers' leases."""


class Membership:
    """One node's part in its cluster.

    For reading: `lease` is the last one that was taken up, or None; `keeper` knows its state; `table` knows the peers;
    `store_trouble` says why the store is out of reach, and is empty when it is not.
    """

    def __init__(
        self,
        store: Store,
        host: HostSide,
        gate: LeaseGate,
        request: Callable[[Subnets | None], AcquireRequest],
        renew_margin: float,
    ) -> None:
        """`request` makes the demand for a lease, given the subnets of the last one; `renew_margin` is in seconds."""
        self.lease: Lease | None = None
        self.keeper = LeaseKeeper(margin=renew_margin)
        self.table: LeaseTable | None = None
        self.store_trouble = ""
        self._store = store
        self._host = host
        self._gate = gate
        self._request = request
        self._own_changed = asyncio.Event()
        self._unpublished: LeaseAttrs | None = None
        self._to_publish = asyncio.Event()
        # What the watch says about the own lease must not come between asking the store and taking in its answer.
        self._lock = asyncio.Lock()

    async def join(self) -> None:
        """Get the first lease and take it up. UdplaneError for what waiting does not make better."""
        while self.lease is None:
            step = self.keeper.next_step(clock.now())
            await asyncio.sleep(max(0.0, (step.at or 0.0) - clock.now()))
            await self._ask_store(step.action)

    async def keep_lease(self) -> None:
        """Do what the lease keeper says, when it says so or when the own lease has changed. Never ends."""
        while True:
            now = clock.now()
            step = self.keeper.next_step(now)
            if step.action is Action.STOP:
                _log.error("lease lost: %s; asking for a lease again, traffic goes on meanwhile", self.keeper.reason)
                self.keeper.restarted()
            elif step.at is None or step.at > now:
                self._own_changed.clear()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(None if step.at is None else min(step.at - now, _LONGEST_WAIT_SECONDS)):
                        await self._own_changed.wait()
            else:
                await self._ask_store(step.action)

    def publish(self, attrs: LeaseAttrs) -> None:
        """Have the own lease say `attrs` from now on."""
        self._unpublished = attrs
        self._to_publish.set()

    async def keep_published(self) -> None:
        """Put what `publish` was told into the store under the lease that the node has, until it works. Never ends."""
        while True:
            await self._to_publish.wait()
            async with self._lock:
                published = await self._publish()
            if not published:
                await asyncio.sleep(_PUBLISH_RETRY_SECONDS)

    async def _publish(self) -> bool:
        """Renew the lease with what is to be published; False if that is to be tried again."""
        assert self.lease is not None and self._unpublished is not None
        attrs = self._unpublished
        try:
            lease = await self._store.renew(self.lease, attrs)
        except LeaseLostError as error:
            self.keeper.revoked(str(error))  # which asks for one with the new attributes
            self._own_changed.set()
        except UdplaneError as error:
            if str(error) != self.keeper.reason:
                _log.error("cannot tell the others this node's new address: %s; trying again", error)
            self.keeper.failed(str(error), clock.now())
            return False
        else:
            self.keeper.granted(lease, clock.now())
            await self._take_up(lease, lease.subnets)
            where = " and ".join(map(str, lease.attrs.addresses))
            _log.info("the others are told that %s is at %s now", lease.subnets, where)
        if attrs is self._unpublished:
            self._to_publish.clear()
        return True

    async def follow_peers(self) -> None:
        """Take in what the store reports, once there is a lease. Never ends.

        What comes while the host is busy with earlier changes waits, and is then taken in all at once: a storm of
        changes in a large cluster costs few changes of the routes.
        """
        updates: asyncio.Queue[WatchUpdate] = asyncio.Queue()
        await first_failure(self._watch(updates), self._digest(updates))

    async def _watch(self, updates: asyncio.Queue[WatchUpdate]) -> None:
        async with contextlib.aclosing(self._store.watch()) as watch:
            async for update in watch:
                updates.put_nowait(update)

    async def _digest(self, updates: asyncio.Queue[WatchUpdate]) -> None:
        while True:
            waiting = [await updates.get()]
            while not updates.empty():
                waiting.append(updates.get_nowait())
            async with self._lock:
                for update in waiting:
                    self._take_in(update)
                changes = self._table.settle()
                await self._host.apply(changes)
                self._log_changes(changes)

    async def _ask_store(self, action: Action) -> None:
        """Acquire or renew, tell the keeper how it went, and take up what was granted."""
        async with self._lock:
            try:
                if action is Action.RENEW and self.lease is not None:
                    before: Subnets | None = self.lease.subnets
                    lease = await self._store.renew(self.lease)
                else:
                    request = self._request(self.lease.subnets if self.lease else None)
                    before = request.previous
                    self._check(self._gate.trouble_with_addresses(request.attrs.addresses))
                    lease = await self._store.acquire(request)
                self._check(self._gate.trouble_with_own(lease))
            except UdplaneError as error:
                self._not_granted(action, error)
                return
            trouble = self.keeper.reason
            self.keeper.granted(lease, clock.now())
            if self.keeper.lease is lease:
                await self._take_up(lease, before)
                if trouble:
                    _log.info("the lease of %s is granted again", lease.subnets)

    def _check(self, trouble: str) -> None:
        """LeaseError if other nodes would not believe this node's lease, be it for its flags or another config."""
        if trouble:
            raise LeaseError(
                f"no other node would believe this node's lease: {trouble}; correct --public-ip or the network config, "
                "and restart this node"
            )

    def _not_granted(self, action: Action, error: UdplaneError) -> None:
        if self.lease is None and not (isinstance(error, StoreError) and error.transient):
            raise error
        if action is Action.RENEW and isinstance(error, LeaseLostError):
            self.keeper.revoked(str(error))
        else:
            self.keeper.failed(str(error), clock.now())
            _log.warning("cannot %s the lease: %s; trying again", action.value, error)

    async def _take_up(self, lease: Lease, before: Subnets | None) -> None:
        """Make host and peers fit the lease. One that was only extended changes nothing there.

        Pods have addresses of the subnets that the node had `before`, be it in an earlier life.

        It is noted first: a node that is killed in the middle of this must know what it has to give back.
        """
        self._host.remember(lease)
        if self.lease is None or self.lease.subnets != lease.subnets:
            if before is not None and before != lease.subnets:
                _log.error("this node's subnet was %s and is %s now; start its pods anew", before, lease.subnets)
            await self._host.take_up(lease)
            await self._adopt(lease)
            await self._announce(lease)
        elif self.lease.attrs != lease.attrs:
            await self._adopt(lease)
        self.lease = lease

    async def _announce(self, lease: Lease) -> None:
        """Tell the store that the node forwards packets; it goes on doing so if the store does not listen."""
        try:
            await self._store.ready(lease)
        except StoreError as error:
            _log.warning("cannot tell the store that this node is ready: %s", error)

    async def _adopt(self, lease: Lease) -> None:
        """Follow the peers as the owner of `lease`, keeping those that are known."""
        if self.table is None:
            self.table = LeaseTable(lease, self._gate)
        else:
            self.table.adopt(lease)
            changes = self.table.settle()
            await self._host.apply(changes)
            self._log_changes(changes)

    @property
    def ignored(self) -> Mapping[str, str]:
        """What the store has instead of leases, see `Store.ignored`."""
        return self._store.ignored

    @property
    def _table(self) -> LeaseTable:
        assert self.table is not None
        return self.table

    def _take_in(self, update: WatchUpdate) -> None:
        """Let the table of peers and the lease keeper know of `update`."""
        assert self.lease is not None
        if isinstance(update, Outage):
            self.store_trouble = str(update.error)
            _log.warning("the store is out of reach, forwarding goes on: %s", update.error)
            return
        if self.store_trouble:
            self.store_trouble = ""
            _log.info("the store is back")
        if isinstance(update, Snapshot):
            self._observe_own(next((lease for lease in update.leases if lease.key == self.lease.key), None))
            self._table.replace(update.leases)
            return
        if update.lease.key == self.lease.key:
            self._observe_own(None if update.change is Change.REMOVED else update.lease)
        self._table.note(update)

    def _observe_own(self, seen: Lease | None) -> None:
        rival = self.keeper.rival
        self.keeper.observed(seen, clock.now())
        if self.keeper.rival and not rival:
            _log.error("%s", self.keeper.rival)
        self._own_changed.set()

    def _log_changes(self, changes: list[LeaseEvent]) -> None:
        """A line for each change, or one for all when there are many; so for peers, and for what is refused."""
        refused = [event.lease for event in changes if event.change is Change.REFUSED]
        peers = [event for event in changes if event.change is not Change.REFUSED]
        for lease in refused[:_LOGGED_ONE_BY_ONE]:
            _log.error("ignoring the lease %s: %s", lease, self._table.refused[lease.key].reason)
        if len(refused) > _LOGGED_ONE_BY_ONE:
            _log.error("and %d leases more; `udplane peers` says why", len(refused) - _LOGGED_ONE_BY_ONE)
        if len(peers) > _LOGGED_ONE_BY_ONE:
            counts = Counter(event.change.value for event in peers)
            _log.info("peers: %s", ", ".join(f"{number} {kind}" for kind, number in counts.items()))
            return
        for event in peers:
            _log.info("peer %s: %s", event.change.value, event.lease)
