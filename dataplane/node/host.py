"""The node's side of the host: what it sets up for a lease, looks after, and makes fit again when the host changes.

What is set up is the list of wishes that `NodeHost` makes for a lease, in this order: the backend's devices with their
addresses and routes, forwarding, firewall rules, and last the subnet file, so that a CNI plugin which finds it finds
all the rest in place (see `kernel.wishes`).

The list is compared with the host on each resync interval, and within a second of a change of links, addresses or
routes (see `kernel.host_events`). The address and the MTU of the external interface are no wishes but facts: when they
change the backend moves, and the node publishes its new address under the same lease.
"""

import asyncio
import contextlib
import logging
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from dataplane.addresses import Address, Network
from dataplane.backends.base import Backend, BackendContext
from dataplane.backends.registry import open_backend
from dataplane.backends.report import backend_line
from dataplane.concurrency import in_thread
from dataplane.errors import NodeError
from dataplane.kernel import netdev
from dataplane.kernel.device import forwarding_wishes
from dataplane.kernel.firewall import WITHOUT_RULES, Firewall
from dataplane.kernel.host_events import host_events
from dataplane.kernel.leftovers import Leftovers
from dataplane.kernel.rules import Guard, RuleSet, forward_rules, masquerade_rules
from dataplane.kernel.unshared_network import UnsharedNetworks
from dataplane.kernel.wishes import Quiet, Wish, WishedState
from dataplane.leases.lease import Change, Lease, LeaseAttrs, LeaseEvent, Subnets
from dataplane.leases.network_config import NetworkConfig
from dataplane.node.subnet_file import SubnetFile, WrittenSubnetFile
from dataplane.options import NodeOptions

_log = logging.getLogger(__name__)

_EVENT_GAP_SECONDS = 1.0
"""At the most so often the host is looked at because something there changed."""

_STUCK = 60.0
"""Looking after takes milliseconds; programs that hang are ended after half of this."""


class NodeHost:
    """All that a node does to its host; the `membership.Host` of a real node.

    For reading: `backend`; `wished`, what was set up, without wishes before a lease was taken up; `firewall`, None
    before that; `underlay_trouble`, why there is no underlay, empty when there is one.
    """

    def __init__(
        self,
        options: NodeOptions,
        config: NetworkConfig,
        interface: netdev.ExternalInterface,
        *,
        loop: asyncio.AbstractEventLoop,
        remember: Callable[[Lease, Leftovers], None],
        on_move: Callable[[LeaseAttrs], None],
        on_error: Callable[[Exception], None],
        also: Sequence[Wish] = (),
    ) -> None:
        """Blocks for milliseconds; the coroutines of this object run in `loop`.

        `remember` notes the own lease and what is left on the host; `on_move` is told what the node publishes from now
        on; any thread may call `on_error` if packets stop for good. `also` are wishes that come last.
        """
        self._loop = loop
        self._on_error = on_error
        self._changed = asyncio.Event()
        self.backend: Backend = open_backend(BackendContext(options, config, interface, self._packets_stopped))
        self.wished = WishedState([])
        self.firewall: Firewall | None = None
        self.underlay_trouble = ""
        self._quiet = Quiet()
        self._options = options
        self._interface = interface
        self._networks = Subnets(
            config.ipv4.network if config.ipv4 else None, config.ipv6.network if config.ipv6 else None
        )
        self._also = also
        self._remember = remember
        self._on_move = on_move
        self._lease: Lease | None = None
        self._looked_at = time.monotonic()
        self._members: dict[str, frozenset[Address]] = {}
        # What the host is changed by: one at a time.
        self._changing = asyncio.Lock()

    @property
    def troubles(self) -> list[str]:
        """Why pods are cut off, or new pods cannot start; empty when all is well."""
        underlay = [self.underlay_trouble] if self.underlay_trouble else []
        away = time.monotonic() - self._looked_at
        is_stuck = self._lease is not None and away > self._options.iptables_resync + _STUCK
        stuck = [f"nothing has been looked after for {away:.0f} s"] if is_stuck else []
        return underlay + self.wished.troubles(vital_only=True) + stuck

    async def take_up(self, lease: Lease) -> None:
        """Set everything up for `lease`. NodeError if that cannot be."""
        async with self._changing:
            await in_thread(self._set_up, lease)
        self._looked_at = time.monotonic()
        _log.info("ready: %s by %s", lease.subnets, backend_line(self.backend.report()))
        if self._options.firewall == "none":
            _log.warning("--firewall none: %s", WITHOUT_RULES)

    def remember(self, lease: Lease) -> None:
        """Note the own lease."""
        self._remember(lease, WishedState(self._wishes(lease.subnets)).leftovers())

    async def apply(self, changes: list[LeaseEvent]) -> None:
        """Follow the peers."""
        async with self._changing:
            await in_thread(self._apply, changes)

    async def look_after(self) -> None:
        """Put back what others changed, and follow what the external interface becomes. Never ends."""
        with host_events(self._changed):
            while True:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._options.iptables_resync):
                        await self._changed.wait()
                self._changed.clear()
                if self._lease is not None:
                    async with self._changing:
                        moved = await in_thread(self._look)
                    self._looked_at = time.monotonic()
                    if moved:
                        self._on_move(self.backend.attrs)
                await asyncio.sleep(min(_EVENT_GAP_SECONDS, self._options.iptables_resync / 2))

    async def refresh(self) -> None:
        """Have the backend look after what ages. Never ends."""
        while True:
            await asyncio.sleep(self.backend.refresh_seconds)
            await in_thread(self.backend.refresh)

    def _set_up(self, lease: Lease) -> None:
        unshared = self._unshared()
        if unshared.difference():
            unshared.fulfil()  # raises, before anything is touched
        self.backend.take_up(lease)
        self._lease = lease
        self._wish_for(lease).fulfil()

    def _wish_for(self, lease: Lease) -> WishedState:
        """Make the wishes for `lease` those that are looked after."""
        wished = WishedState(self._wishes(lease.subnets))
        wished.adopt(self.wished)
        firewall = next(wish for wish in wished.wishes if isinstance(wish, Firewall))
        if self.firewall is not None:
            firewall.adopt(self.firewall)
        self.firewall = firewall
        self.wished = wished
        return wished

    def _wishes(self, subnets: Subnets) -> list[Wish]:
        """All that the host shall have for a lease of `subnets`."""
        file = SubnetFile(self._networks, subnets, self.backend.mtu, self._options.ip_masq, self.backend.gso_max_size)
        return [
            self._unshared(),
            *self.backend.wishes(subnets),
            *forwarding_wishes([subnet.version for subnet in subnets], self._interface.name),
            Firewall(self._rules(subnets), self._options.firewall, self._guards()),
            WrittenSubnetFile(self._options.subnet_file.absolute(), file),
            *self._also,
        ]

    def _unshared(self) -> UnsharedNetworks:
        own = Leftovers.sum(wish.leftovers for wish in self.backend.wishes(())).devices
        return UnsharedNetworks(tuple(self._networks), tuple(own))

    def _apply(self, changes: Sequence[LeaseEvent]) -> None:
        self.backend.apply(changes)
        for change in changes:
            gone = change.change in (Change.REMOVED, Change.REFUSED)
            self._members |= {change.lease.key: frozenset() if gone else frozenset(change.lease.attrs.addresses)}
        if self.firewall is not None:
            try:
                self.firewall.set_members(self._guarded())
            except NodeError as error:
                _log.error("%s", error)  # what is not in place is seen, and put there, when it is looked after

    def _look(self) -> bool:
        """Look at the external interface, then at all that is wished; whether others must hear of a new address."""
        before = self.backend.attrs
        self._follow_underlay()
        self.wished.look_after()
        return self.backend.attrs != before

    def _follow_underlay(self) -> None:
        """Move the backend if the external interface has another address or MTU."""
        assert self._lease is not None
        try:
            found = self._external_interface()
            if self._facts(found) != self._facts(self._interface):
                _log.warning("the underlay is %s now; it was %s", _described(found), _described(self._interface))
                self.backend.move(found)
                self._interface = found
                self._wish_for(self._lease).fulfil()
        except NodeError as error:
            if str(error) != self.underlay_trouble and self._quiet.may_say(str(error)):
                _log.error("no underlay: %s; looking again until there is one", error)
            self.underlay_trouble = str(error)
        else:
            back = f"there is an underlay again: {_described(found)}"
            if self.underlay_trouble and self._quiet.may_say(back):
                _log.info("%s", back)
            self.underlay_trouble = ""

    def _facts(self, interface: netdev.ExternalInterface) -> tuple[object, ...]:
        """What the backend uses of an interface; other addresses may come and go."""
        return interface.name, interface.mtu, interface.address, *map(interface.address_of, self.backend.families)

    def _external_interface(self) -> netdev.ExternalInterface:
        """The interface as it is now. As long as it has the address in use, that stays, whatever else may come up."""
        now, options = self._interface, self._options
        with contextlib.suppress(NodeError):
            same = netdev.external_interface(now.name, options.public_ip)
            if now.address in same.addresses:
                in_use_first = sorted(same.addresses, key=lambda address: address not in now.addresses)
                return replace(same, address=now.address, addresses=tuple(in_use_first))
        own = list(self.wished.leftovers().devices)
        with contextlib.suppress(NodeError):
            other = netdev.external_interface(options.iface, options.public_ip, own)
            if now.address in other.addresses:  # it moved along, to a bridge for instance
                return replace(other, address=now.address)
        if now.address == options.public_ip:
            raise NodeError(f"{now.name} has lost the address {now.address}, which --public-ip names")
        return netdev.external_interface(options.iface, options.public_ip, own)

    def _packets_stopped(self, error: Exception) -> None:
        """Look at once at what stopped them; what looking after cannot mend ends the node."""
        if isinstance(error, NodeError):
            self._loop.call_soon_threadsafe(self._changed.set)
        else:
            self._on_error(error)

    def _rules(self, subnets: Subnets) -> list[RuleSet]:
        networks: dict[int, Network] = {network.version: network for network in self._networks}
        return [
            RuleSet(
                subnet.version,
                masquerade_rules(networks[subnet.version], subnet) if self._options.ip_masq else (),
                forward_rules(networks[subnet.version]) if self._options.iptables_forward_rules else (),
                fully_random=not self._options.ip_masq_fully_random_disable,
            )
            for subnet in subnets
        ]

    def _guards(self) -> list[Guard]:
        """One for each family in which others send to this node."""
        port, interface, uid = self.backend.port, self._interface.name, os.geteuid()
        if port is None:
            return []
        members, pods = self._guarded(), list(self._networks)
        return [
            Guard(
                version,
                port,
                interface,
                frozenset(member for member in members if member.version == version),
                tuple(network for network in pods if network.version == version),
                uid,
            )
            for version in sorted({address.version for address in self.backend.attrs.addresses})
        ]

    def _guarded(self) -> frozenset[Address]:
        """The members, this node among them."""
        own = [address for address in map(self._interface.address_of, (4, 6)) if address is not None]
        return frozenset[Address]().union(*self._members.values(), own)


def _described(interface: netdev.ExternalInterface) -> str:
    return f"{interface.address} on {interface.name}, MTU {interface.mtu}"
