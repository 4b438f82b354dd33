"""The udp backend: the TUN at one end, a UDP socket at the other, an engine between them.

The wire format and the port are those of flannel's udp backend. All nodes use one port, so a lease names only an
address: a node's peers are `lease.subnets` at `lease.attrs.public_ip`, or `public_ipv6` where the underlay is IPv6.
"""

import logging
import os
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from ipaddress import IPv4Address
from types import MappingProxyType

from dataplane.addresses import Address, Network
from dataplane.backends.base import BackendContext, PeerState
from dataplane.backends.peer_ways import PeerWays
from dataplane.backends.report import BackendReport
from dataplane.engines.contract import Engine, EngineConfig, LoopEngine, LoopOptions
from dataplane.engines.registry import load_engine
from dataplane.errors import NodeError
from dataplane.forwarding.forwarder import DEFAULT_SLOTS, Forwarder
from dataplane.forwarding.tun import TunDevice
from dataplane.forwarding.udp import DEFAULT_PORT, ENCAP_OVERHEAD, Underlay, gso_max_size
from dataplane.kernel import netdev
from dataplane.kernel.device import device_wishes
from dataplane.kernel.leftovers import Leftovers
from dataplane.kernel.wishes import Wish
from dataplane.leases.lease import Change, Lease, LeaseAttrs, LeaseEvent
from dataplane.packets.counters import Counters, PeerCounters
from dataplane.packets.routes import Peer, RouteTable

IPV6_LEAST_MTU = 1280
"""Bytes of a packet that every network of IPv6 carries (RFC 8200 5): no host has to send a smaller one."""

BASE_PLPMTU = 1200
"""Bytes of a datagram's payload that are taken to pass on any path where IPv6 is not concerned (RFC 8899 5.1.2)."""

_log = logging.getLogger(__name__)


class ServedTun:
    """The TUN device `device` with the workers of `backend` at it: a `wishes.Wish`."""

    vital = True

    def __init__(self, backend: "UdpBackend", device: str) -> None:
        self.what = f"the TUN {device}"
        self.leftovers = Leftovers({device: "tun"})
        self._backend = backend

    def difference(self) -> str:
        """Whether somebody removed, renamed or moved it, or a worker gave up."""
        return self._backend.lost()

    def fulfil(self) -> None:
        """Make it anew."""
        self._backend.reopen()


class UdpBackend:
    """See `dataplane.backends.base.Backend` for the contract of each method."""

    refresh_seconds = 60.0
    """The kernel keeps a path MTU that it learned for ten minutes."""

    def __init__(self, context: BackendContext) -> None:
        self._options = context.options
        self._config = context.config
        self._interface = context.interface
        self._on_error = context.on_error
        self._port = context.config.backend.integer("Port", DEFAULT_PORT, 1, 65535)
        self._table = RouteTable()
        self._peers: dict[str, Peer] = {}
        self._unreachable: dict[str, str] = {}
        self._peers_known = False
        self._lease: Lease | None = None
        self._engine: Engine | None = None
        self._counted = Counters()
        self._tuns: list[TunDevice] = []
        self._forwarders: list[Forwarder] = []
        self._underlays: list[Underlay] = []
        self._running = ExitStack()
        self.gso_max_size: int | None = None
        """For an engine that sends super-packets whole: the size that fits one send."""

    @property
    def attrs(self) -> LeaseAttrs:
        """The public address, in the family of the underlay."""
        address = self._options.public_ip or self._interface.address
        if isinstance(address, IPv4Address):
            return LeaseAttrs(public_ip=address)
        return LeaseAttrs(public_ipv6=address)

    @property
    def mtu(self) -> int:
        """What the external interface carries, less the outer headers."""
        return self._interface.mtu - ENCAP_OVERHEAD[self._interface.address.version]

    @property
    def families(self) -> tuple[int]:
        """The socket has one."""
        return (self._interface.address.version,)

    @property
    def port(self) -> int:
        """The port of every node's socket."""
        return self._port

    def take_up(self, lease: Lease) -> None:
        """Open both ends; the workers start with the peers."""
        self.stop()
        self._lease = lease
        with ExitStack() as opening:
            self._open(opening, lease)
            self._running = opening.pop_all()

    def wishes(self, subnets: Iterable[Network]) -> list[Wish]:
        """The TUN and its settings."""
        addresses = [subnet.network_address for subnet in subnets]
        networks = [pool.network for pool in (self._config.ipv4, self._config.ipv6) if pool is not None]
        tun = self._options.tun
        ways = PeerWays(tun, lambda: [subnet for peer in list(self._peers.values()) for subnet in peer.subnets])
        return [ServedTun(self, tun), *device_wishes(tun, addresses, networks, self.mtu), ways]

    def move(self, interface: netdev.ExternalInterface) -> None:
        """Open both ends anew, the socket at the new address."""
        self._interface = interface
        if self._lease is not None:
            self.take_up(self._lease)

    def lost(self) -> str:
        """Why the workers cannot move packets any more; empty when they can."""
        if not self._tuns:
            return "was not open"
        for tun, forwarder in zip(self._tuns, self._forwarders, strict=True):
            if not tun.in_place():
                return "was gone"
            if forwarder.error is not None:
                return f"was not served ({forwarder.error})"
        use = netdev.tun_use(self._options.tun)
        if use is not None and use.owner != os.geteuid():
            return "had another owner" if use.owner is not None else "had no owner"
        return "had a reader that is not this node" if use is not None and use.queues > len(self._tuns) else ""

    def reopen(self) -> None:
        """Take up the lease again with a TUN in its place; one that was renamed or moved away vanishes."""
        assert self._lease is not None
        self._refuse_strangers(len(self._tuns))
        for tun in self._tuns:
            if not tun.in_place():
                tun.set_persistent(False)
        self.take_up(self._lease)

    def apply(self, changes: Iterable[LeaseEvent]) -> None:
        """Turn changes of leases into routes, all of them in one snapshot.

        The workers start with the first of them. Until then packets wait in the TUN and in the socket: without routes,
        a node that has just come back would tell its pods that their peers cannot be reached.
        """
        for change in changes:
            if change.change in (Change.ADDED, Change.CHANGED):
                self._put(change.lease)
            elif change.change is Change.REMOVED:
                self._remove(change.lease.key)
        self._publish_routes()
        if not self._peers_known:
            self._peers_known = True
            self._start_workers()

    def refresh(self) -> None:
        """Ask the kernel again about narrow paths."""
        for forwarder in self._first_worker:
            forwarder.refresh_path_mtus()

    def forget_path_mtu(self, key: str) -> None:
        """Forget it in the kernel, and then here."""
        peer = self._peers.get(key)
        if peer is None:
            return
        netdev.forget_path_mtu(peer.address)
        for forwarder in self._first_worker:
            forwarder.forget_path_mtu(peer.id)

    def stop(self) -> None:
        """Stop the workers and let go of both ends; the persistent TUN stays."""
        self._running.close()
        self._forwarders, self._underlays, self._tuns = [], [], []

    def counters(self) -> Counters:
        """The engine's counts, and those of the engines that it replaced."""
        total = Counters()
        total.add(self._counted)
        if self._engine is not None:
            total.add(self._engine.counters())
        return total

    def peers(self) -> dict[str, PeerState]:
        """Every peer that packets are sent to."""
        traffic = self.counters().peers
        return {
            key: self._peer_state(peer, traffic.get(peer.id, PeerCounters()))
            for key, peer in list(self._peers.items())  # a copy: a thread may be applying changes meanwhile
        }

    def unreachable(self) -> Mapping[str, str]:
        """Peers whose addresses are all of the other family."""
        return MappingProxyType(self._unreachable)

    def report(self) -> BackendReport:
        """Device, socket and engine."""
        receive, send = self._underlays[0].buffer_bytes() if self._underlays else (0, 0)
        return {
            "type": "udp",
            "engine": self._options.engine,
            "workers": len(self._forwarders),
            "features": self._engine.features() if isinstance(self._engine, LoopEngine) else {},
            "device": self._options.tun,
            "interface": self._interface.name,
            "address": str(self._interface.address),
            "port": self._port,
            "mtu": self.mtu,
            "receive_buffer_bytes": receive,
            "send_buffer_bytes": send,
            "queue_overruns": netdev.queue_overruns(self._options.tun),
            "receive_overruns": sum(underlay.overruns() for underlay in self._underlays),
        }

    def _open(self, opening: ExitStack, lease: Lease) -> None:
        """Sockets come first: a busy port must leave a running node's device alone."""
        workers, tun = self._options.workers, self._options.tun
        if workers > 1:  # sockets that share a port do not notice if another node shares it as well, one alone does
            Underlay.open(self._interface.address, self._port).close()
        underlays = [
            opening.enter_context(Underlay.open(self._interface.address, self._port, shared=workers > 1))
            for _ in range(workers)
        ]
        engine = self._engine_for(lease)
        has_loop = isinstance(engine, LoopEngine)
        if workers > 1 and not has_loop:
            raise NodeError(
                f"engine {self._options.engine} has one worker; leave --workers out, or use --engine native"
            )
        self.gso_max_size = None
        if has_loop and not {"tso", "gso"} & self._options.no_offload:
            self.gso_max_size = gso_max_size(self.mtu)
        self._refuse_strangers(0)
        tuns = [opening.enter_context(TunDevice.open(tun, vnet_header=has_loop)) for _ in range(workers)]
        self._underlays, self._tuns = underlays, tuns
        self._hire_workers(opening, engine)

    def _refuse_strangers(self, own_queues: int) -> None:
        """NodeError if somebody else has a queue of the TUN: a part of the pods' packets goes there."""
        use = netdev.tun_use(self._options.tun)
        if use is not None and use.queues > own_queues:
            holders = [str(pid) for pid in netdev.tun_holders(self._options.tun) if pid != os.getpid()]
            who = f"process {' and '.join(holders)}" if holders else "a process that the node may not see"
            raise NodeError(
                f"{who} reads packets of {self._options.tun}, too; end it, or choose another name with --tun"
            )

    def _engine_for(self, lease: Lease) -> Engine:
        """The engine for the own lease: the one at work, with what it has learned and counted, if it fits."""
        config = self._engine_config(lease)
        if self._engine is None or self._engine.config != config:
            engine = load_engine(self._options.engine, config)
            if self._engine is not None:
                self._counted.add(self._engine.counters())
            self._engine = engine
        return self._engine

    def _hire_workers(self, opening: ExitStack, engine: Engine) -> None:
        """One worker for each pair of a TUN queue and a socket, all with one engine."""
        slots = self._options.batch or DEFAULT_SLOTS
        for tun, underlay in zip(self._tuns, self._underlays, strict=True):
            forwarder = Forwarder(engine, tun, underlay, slots=slots, on_error=self._on_error)
            self._forwarders.append(forwarder)
            opening.callback(forwarder.stop)
        self._publish_routes()
        if self._peers_known:
            self._start_workers()

    def _start_workers(self) -> None:
        for forwarder in self._forwarders:
            forwarder.start()

    def _engine_config(self, lease: Lease) -> EngineConfig:
        return EngineConfig(
            subnet4=lease.subnets.ipv4,
            subnet6=lease.subnets.ipv6,
            mtu=self.mtu,
            least_mtu=IPV6_LEAST_MTU if lease.subnets.ipv6 else min(BASE_PLPMTU, self.mtu),
            carry_tos=not self._options.no_carry_tos,
            check_sender=not self._options.accept_any_sender,
            icmp_rate=self._options.icmp_rate,
            loop=LoopOptions(self._options.batch, self._options.no_offload, self._options.busy_poll),
        )

    def _put(self, lease: Lease) -> None:
        version = self._interface.address.version
        address: Address | None = lease.attrs.public_ip if version == 4 else lease.attrs.public_ipv6
        if address is None:
            self._remove(lease.key)
            self._unreachable[lease.key] = f"it has no IPv{version} address, which this node's underlay needs"
            _log.warning("no way to %s: %s", lease, self._unreachable[lease.key])
        else:
            self._unreachable.pop(lease.key, None)
            self._peers[lease.key] = self._table.set(lease.key, address, self._port, lease.subnets)

    def _remove(self, key: str) -> None:
        self._table.remove(key)
        self._peers.pop(key, None)
        self._unreachable.pop(key, None)

    def _publish_routes(self) -> None:
        """Hand the routes to the engine: building its tables takes milliseconds where there are many peers."""
        snapshot = self._table.snapshot()
        for forwarder in self._first_worker:
            forwarder.set_routes(snapshot)

    @property
    def _first_worker(self) -> list[Forwarder]:
        """The one that is told of routes and paths, for all: they share one engine. Empty when there is none."""
        return self._forwarders[:1]

    def _peer_state(self, peer: Peer, traffic: PeerCounters) -> PeerState:
        engine = self._engine
        if engine is None:
            return PeerState(peer.address, peer.port, self.mtu, traffic)
        return PeerState(peer.address, peer.port, engine.path_mtu(peer.id), traffic, engine.learned_mtu(peer.id))


def create(context: BackendContext) -> UdpBackend:
    """Make the backend."""
    return UdpBackend(context)
