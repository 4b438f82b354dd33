"""What vxlan and host-gw share: the kernel moves the packets, the node keeps the kernel's tables as the leases say.

For each subnet of a peer's lease a backend says which entries lead there (`_way`; see `rtnetlink` for the three
kinds). This module turns changes of leases into changes of entries, at the start makes the tables exactly what they
should be, whatever an earlier life of the node left there, and later puts back what others removed.

IPv4 subnets are reached at IPv4 addresses of the underlay and IPv6 subnets at IPv6 ones, as in flannel, so a host needs
an address of each family that the network config enables.
"""

import logging
import socket
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from ipaddress import IPv4Address, IPv6Address

from dataplane.addresses import Address, Network
from dataplane.backends.base import BackendContext, PeerState
from dataplane.backends.report import BackendReport
from dataplane.errors import NodeError
from dataplane.kernel import netdev
from dataplane.kernel.leftovers import Leftovers
from dataplane.kernel.netdev import ExternalInterface
from dataplane.kernel.rtnetlink import Entry, Route, Tables
from dataplane.kernel.wishes import Wish
from dataplane.leases.lease import Change, Lease, LeaseAttrs, LeaseEvent
from dataplane.packets.counters import Counters

_log = logging.getLogger(__name__)

_REST = 20.0
"""So many times as long as it takes to read the tables they are left alone."""


class NoWayError(Exception):
    """There is no way to a peer's subnet; the text says why."""


class Link:
    """The external interface's link, for routes by hosts on it. Read `index` after `look`."""

    def __init__(self, name: str) -> None:
        self.index = 0
        self._name = name
        self._networks: Sequence[Network] = ()

    def look(self) -> None:
        """Ask the kernel which networks are there. NodeError if the interface is gone."""
        try:
            self.index = socket.if_nametoindex(self._name)
        except OSError as error:
            raise NodeError(f"the external interface {self._name} is gone; see `ip link` and --iface") from error
        self._networks = netdev.on_link_networks(self._name)

    def has(self, address: Address) -> bool:
        """Whether the host with this address is on the link."""
        return any(address in network for network in self._networks)


class WaysToPeers:
    """The entries of the kernel's tables that lead to the peers of `backend`: a `wishes.Wish`.

    Reading the tables of a large cluster takes long, so they are read at most a twentieth of the time.
    """

    what = "the ways to peers"
    vital = True

    def __init__(self, backend: "KernelBackend", networks: tuple[Network, ...]) -> None:
        self.leftovers = Leftovers(networks=networks)
        self._backend = backend
        self._rest_until = 0.0

    def difference(self) -> str:
        """How many entries differ."""
        started = time.monotonic()
        if started < self._rest_until:
            return ""
        count = self._backend.compare()
        self._backend.retry()
        self._rest_until = started + _REST * (time.monotonic() - started)
        return f"differed in {count} {'entry' if count == 1 else 'entries'}" if count else ""

    def fulfil(self) -> None:
        """Set the tables right."""
        self._backend.restore()


class KernelBackend(ABC):
    """See `dataplane.backends.base.Backend` for the contract of each method."""

    name: str
    """The backend's type, in the network config and in leases."""

    refresh_seconds = 3600.0
    """Nothing here ages."""

    gso_max_size: int | None = None

    def __init__(self, context: BackendContext) -> None:
        self._public_ip = context.options.public_ip
        pools = (context.config.ipv4, context.config.ipv6)
        self._networks: list[Network] = [pool.network for pool in pools if pool is not None]
        self._lock = threading.Lock()
        self._leases: dict[str, Lease] = {}
        self._ways: dict[str, tuple[Entry, ...]] = {}
        # Which leases want an entry in one place of the tables: a node's leases share its MAC address. The last has it.
        self._wanted: dict[object, dict[str, Entry]] = {}
        self._troubles: dict[str, str] = {}
        self._refused: dict[str, str] = {}
        self._refused_places: set[object] = set()
        self._synchronised = False
        self._face(context.interface)

    def _face(self, interface: ExternalInterface) -> None:
        """Use this interface and its addresses. NodeError if it lacks one."""
        underlay = {network.version: self._underlay_address(interface, network.version) for network in self._networks}
        self._interface, self._underlay = interface, underlay
        self._public = dict(underlay)
        if self._public_ip is not None and self._public_ip.version in underlay:
            self._public[self._public_ip.version] = self._public_ip

    @property
    @abstractmethod
    def mtu(self) -> int:
        """See `Backend`."""

    @property
    @abstractmethod
    def port(self) -> int | None:
        """See `Backend`."""

    @abstractmethod
    def _device_wishes(self, subnets: Sequence[Network]) -> list[Wish]:
        """The devices that this backend needs for the node's own subnets, with their settings."""

    @abstractmethod
    def _look(self) -> None:
        """See how the host's interfaces are now. NodeError if the external one is gone."""

    @abstractmethod
    def _devices(self) -> Sequence[int]:
        """Indices of the devices whose neighbours and forwarding entries are this backend's."""

    @abstractmethod
    def _way(self, attrs: LeaseAttrs, subnet: Network, address: Address) -> tuple[Entry, ...]:
        """The entries that lead to `subnet`, whose node is at the underlay address `address`; NoWayError if none do.

        The kernel gets them in this order.
        """

    @property
    def attrs(self) -> LeaseAttrs:
        """The public address of each family, and the backend's name so that others know how packets are to come."""
        public4, public6 = self._public.get(4), self._public.get(6)
        return LeaseAttrs(
            public_ip=public4 if isinstance(public4, IPv4Address) else None,
            public_ipv6=public6 if isinstance(public6, IPv6Address) else None,
            backend_type=self.name,
        )

    @property
    def families(self) -> tuple[int, ...]:
        """As pods have them."""
        return tuple(self._underlay)

    def take_up(self, lease: Lease) -> None:
        """Nothing to open: the kernel moves the packets."""
        del lease

    def wishes(self, subnets: Iterable[Network]) -> list[Wish]:
        """The devices, then the ways to peers, which come with `apply`."""
        return [*self._device_wishes(list(subnets)), WaysToPeers(self, tuple(self._networks))]

    def move(self, interface: ExternalInterface) -> None:
        """Use another underlay address; the devices and ways follow with the wishes."""
        with self._lock:
            self._face(interface)

    def apply(self, changes: Iterable[LeaseEvent]) -> None:
        """Change entries as leases changed. The first time, remove all others of ours that are in the tables."""
        with self._lock:
            touched: dict[str, None] = {}
            for change in changes:
                touched[change.lease.key] = None
                if change.change in (Change.ADDED, Change.CHANGED):
                    self._leases[change.lease.key] = change.lease
                elif change.change is Change.REMOVED:
                    self._leases.pop(change.lease.key, None)
            if self._synchronised:
                self._update(*self._replan(touched))
            else:
                self._synchronise()

    def refresh(self) -> None:
        """Nothing here ages."""
        return

    def compare(self) -> int:
        """How many entries of the tables are not as the leases want them, apart from those that the kernel refused."""
        with self._lock:
            if not self._synchronised:
                return 0
            remove, put = self._differences()
            return len(remove) + sum(entry.identity not in self._refused_places for entry in put)

    def restore(self) -> None:
        """Set the tables right."""
        with self._lock:
            self._update(*self._differences())

    def retry(self) -> None:
        """Put again what the kernel refused."""
        with self._lock:
            if self._refused_places:
                self._update([], [entry for entry in self._differences()[1] if entry.identity in self._refused_places])

    def stop(self) -> None:
        """Leave the tables as they are; the kernel goes on by what they say."""
        with self._lock:
            self._synchronised = False

    def forget_path_mtu(self, key: str) -> None:
        """Have the kernel forget what it learned of the path."""
        lease = self._leases.get(key)
        if lease is not None:
            netdev.forget_path_mtu(self._first_address(lease))

    def counters(self) -> Counters | None:
        """The kernel does not count by verdict."""
        return None

    def peers(self) -> Mapping[str, PeerState]:
        """The peers to which there are ways."""
        return {
            key: PeerState(self._first_address(lease), self.port, self.mtu, None)
            for key, lease in list(self._leases.items())
            if key in self._ways and key not in self._refused
        }

    def unreachable(self) -> Mapping[str, str]:
        """Peers that lack a way to a subnet."""
        return self._troubles | self._refused

    def report(self) -> BackendReport:
        """Interface and (first) device."""
        return {
            "type": self.name,
            "interface": self._interface.name,
            "address": str(self._interface.address),
            "port": self.port,
            "device": self._device_name(),
            "mtu": self.mtu,
        }

    def _device_name(self) -> str | None:
        """The first device of this backend's own."""
        return None

    def _underlay_address(self, interface: ExternalInterface, version: int) -> Address:
        address = interface.address_of(version)
        if address is None:
            raise NodeError(
                f"the network config has IPv{version} pods, for which {self.name} needs an IPv{version} address of "
                f'{interface.name}; add one, or use "Backend": {{"Type": "udp"}}, which carries both over either'
            )
        return address

    def _first_address(self, lease: Lease) -> Address:
        return next(a for a in lease.attrs.addresses if a.version in self._underlay)

    def _synchronise(self) -> None:
        """The first time: make the tables what the leases want, whatever an earlier life of the node left there."""
        self._update(*self._differences())
        self._synchronised = True

    def _differences(self) -> tuple[list[Entry], list[Entry]]:
        """Compare the tables with what the leases want; the entries to remove and those to put."""
        self._look()
        self._replan(self._leases)
        self._wanted = {place: claims for place, claims in self._wanted.items() if claims}
        wanted = {place: winner for place in self._wanted if (winner := self._winner(place)) is not None}
        with Tables() as tables:
            present = tables.read(self._networks, self._devices())
        remove = [entry for entry in present if entry.identity not in wanted]
        return remove, [entry for entry in wanted.values() if entry not in present]

    def _replan(self, keys: Iterable[str]) -> tuple[list[Entry], list[Entry]]:
        """Work out the ways of these leases anew; returns the entries to remove and those to put."""
        before: dict[object, Entry | None] = {}
        for key in keys:
            old, new = self._ways.pop(key, ()), self._plan(key)
            if new:
                self._ways[key] = new
            for entry in (*old, *new):
                before.setdefault(entry.identity, self._winner(entry.identity))
            for entry in old:
                if entry not in new:
                    del self._wanted[entry.identity][key]
            for entry in new:
                if entry not in old:
                    self._wanted.setdefault(entry.identity, {})[key] = entry
        winners = [(was, self._winner(place)) for place, was in before.items()]
        remove = [was for was, winner in winners if was is not None and winner is None]
        return remove, [winner for was, winner in winners if winner is not None and winner != was]

    def _winner(self, place: object) -> Entry | None:
        """The entry that belongs into a place of the tables, if any lease wants one there."""
        claims = self._wanted.get(place)
        return claims[next(reversed(claims))] if claims else None

    def _plan(self, key: str) -> tuple[Entry, ...]:
        """The way to all subnets of the lease `key`, empty if it is gone."""
        lease = self._leases.get(key)
        if lease is None:
            self._refused.pop(key, None)
        known, trouble = self._troubles.pop(key, ""), ""
        way: tuple[Entry, ...] = ()
        if lease is not None:
            for subnet in lease.subnets:
                try:
                    way += self._way_to(lease, subnet)
                except NoWayError as error:
                    trouble = str(error)
        if trouble:
            self._troubles[key] = trouble
            if trouble != known:
                _log.warning("no way to %s: %s", lease, trouble)
        return way

    def _way_to(self, lease: Lease, subnet: Network) -> tuple[Entry, ...]:
        if lease.attrs.backend_type != self.name:
            other = lease.attrs.backend_type or "udp"
            raise NoWayError(f"its backend is {other}, this node's is {self.name}")
        if subnet.version not in self._underlay:
            raise NoWayError(f"this node's network config has no IPv{subnet.version}")
        address = lease.attrs.public_ip if subnet.version == 4 else lease.attrs.public_ipv6
        if address is None:
            raise NoWayError(f"it has no IPv{subnet.version} address on the underlay")
        return self._way(lease.attrs, subnet, address)

    def _update(self, remove: list[Entry], put: list[Entry]) -> None:
        """Change the tables, routes being the first to go.

        A refusal is the trouble of the peers that want the entry. It is logged when it is new.
        """
        remove.sort(key=lambda entry: not isinstance(entry, Route))
        with Tables() as tables:
            refusals = tables.update(remove, put)
        before = {key: self._refused.pop(key, "") for entry in put for key in self._wanted[entry.identity]}
        for refusal in refusals:
            for key in self._wanted.get(refusal.entry.identity, ()):
                self._refused[key] = f"the kernel refuses {refusal.entry}: {refusal.reason}"
        for key, known in before.items():
            trouble = self._refused.get(key, "")
            if trouble and trouble != known:
                _log.warning("no way to %s: %s", self._leases[key], trouble)
        self._refused_places -= {entry.identity for entry in [*remove, *put]}
        self._refused_places |= {refusal.entry.identity for refusal in refusals}
