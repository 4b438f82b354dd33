"""The node: store, backend, firewall rules and control socket, started and stopped in one place.

`Node.run` goes through these steps, and a failure in any of them ends it with one line:

1. be the only node of its run directory and of its TUN device; answer on the control socket from here on
2. read the network config from the store, waiting for a store that is out of reach
3. find the external interface and make the backend that the config names
4. acquire the lease, then take it up: device and engine, forwarding, rules, subnet file, in this order, so that
   a CNI plugin which finds the subnet file finds all the rest in place
5. until SIGTERM: keep the lease alive, follow the peers, look after rules and path MTUs

Stopping takes away nothing that pods need: the TUN with its addresses and routes, the rules, the lease and the subnet
file stay for the next start. `leave` takes them away.

When something goes wrong while the node runs:

- store out of reach: forwarding goes on with the peers that are known, and status and log say so
- lease revoked: said loudly; then the node asks for a lease again, for the same subnets first. If it gets them nothing
  has changed for pods. If they belong to somebody else it moves to new ones, and the pods must be started anew.
  Until there is a lease, it goes on forwarding by what it knows
- rules removed by somebody: put back at the next resync
- TUN removed, or a defect in the loop: the node ends with exit status 1, for its supervisor to start it again
"""

import asyncio
import contextlib
import logging
import os
import signal
import socket
import time
from collections.abc import Callable, Coroutine
from contextlib import ExitStack
from dataclasses import replace
from http import HTTPStatus
from pathlib import Path
from typing import Any, TypeVar

from dataplane import control, netdev
from dataplane.backends.base import Backend, BackendContext, open_backend
from dataplane.errors import LeaseLostError, NodeError, NoNetworkConfigError, StoreError, UdplaneError
from dataplane.firewall import Firewall, RuleSet, forward_rules, masquerade_rules
from dataplane.lease import Change, Lease, LeaseEvent, Subnets
from dataplane.lease_keeper import Action, LeaseKeeper
from dataplane.lease_table import LeaseTable
from dataplane.netns import current_netns
from dataplane.options import NodeOptions
from dataplane.run_directory import NodeRecord, RunDirectory, claimed_device
from dataplane.stores.base import AcquireRequest, Outage, Snapshot, Store, StoreOptions, WatchUpdate, open_store
from dataplane.subnet import NetworkConfig
from dataplane.subnet_file import SubnetFile, previous_subnets

_log = logging.getLogger(__name__)
_Result = TypeVar("_Result")

REFRESH_SECONDS = 60.0
"""How often learned path MTUs are looked after; the kernel keeps them for ten minutes."""

_RETRY_SECONDS = 1.0
_ANSWER_SECONDS = 8.0


class Node:
    """One node. Make it and `run` it, once."""

    def __init__(self, options: NodeOptions, store_options: StoreOptions) -> None:
        self.options = options
        self.started = time.time()
        self.phase = "starting"
        self.config: NetworkConfig | None = None
        self.interface: netdev.ExternalInterface | None = None
        self.backend: Backend | None = None
        self.firewall: Firewall | None = None
        self.lease: Lease | None = None
        self.keeper = LeaseKeeper(margin=options.subnet_lease_renew_margin * 60.0)
        self.table: LeaseTable | None = None
        self.store_trouble = ""
        """Why the store is out of reach; empty when it is not."""
        self.rules_trouble = ""
        """Why the rules could not be put in place again; empty when they are."""
        if options.net_config_path:
            store_options = replace(store_options, net_config_path=options.net_config_path)
        self._store_options = store_options
        self._store: Store = open_store(options.store, store_options)
        self._run_directory = RunDirectory(options.run_dir)
        self._lease_changed = asyncio.Event()
        self._lease_lock = asyncio.Lock()
        self._stopping = False

    async def run(self) -> None:
        """Run until SIGTERM, SIGINT or `POST /v1/stop`; UdplaneError when the node cannot go on."""
        task, loop = asyncio.current_task(), asyncio.get_running_loop()

        def stop() -> None:
            self._stopping = True
            if task is not None:
                task.cancel()

        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop)
        with ExitStack() as stack:
            stack.enter_context(self._run_directory.locked())
            stack.enter_context(claimed_device(self.options.tun))
            self._serve(stack, loop, stop)
            try:
                await self._work()
            except asyncio.CancelledError:
                if not self._stopping:
                    raise
            finally:
                self.phase = "stopping"
                if self.backend is not None:
                    await asyncio.to_thread(self.backend.stop)
                await self._store.close()
        _log.info("stopped; pods keep their network until `udplane leave`")

    def _serve(self, stack: ExitStack, loop: asyncio.AbstractEventLoop, stop: Callable[[], None]) -> None:
        """Open the control socket and, if asked for, the health check."""
        from dataplane.status import node_status

        def status() -> control.Answer:
            async def collect() -> dict[str, Any]:
                return node_status(self)

            answer = asyncio.run_coroutine_threadsafe(collect(), loop)
            return HTTPStatus.OK, answer.result(_ANSWER_SECONDS)

        def request_stop() -> control.Answer:
            loop.call_soon_threadsafe(stop)
            return HTTPStatus.ACCEPTED, {"stopping": True}

        def health() -> control.Answer:
            ready = self.phase == "ready"
            return HTTPStatus.OK if ready else HTTPStatus.SERVICE_UNAVAILABLE, {"phase": self.phase}

        listener = stack.enter_context(control.control_socket(self._run_directory.control_socket))
        routes: control.Routes = {
            ("GET", "/v1/status"): status,
            ("POST", "/v1/stop"): request_stop,
            ("GET", "/healthz"): health,
        }
        stack.enter_context(control.serving(listener, routes))
        if self.options.healthz_port:
            public = control.health_socket(self.options.healthz_ip, self.options.healthz_port)
            stack.enter_context(control.serving(public, {("GET", "/healthz"): health}))

    async def _work(self) -> None:
        """Steps 2 to 5."""
        self.config = await self._network_config()
        self.interface = await asyncio.to_thread(netdev.external_interface, self.options.iface, self.options.public_ip)
        loop = asyncio.get_running_loop()
        broken: asyncio.Future[None] = loop.create_future()

        def give_up(error: Exception) -> None:
            if not broken.done():
                broken.set_exception(error)

        def on_error(error: Exception) -> None:
            loop.call_soon_threadsafe(give_up, error)

        context = BackendContext(self.options, self.config, self.interface, on_error)
        self.backend = open_backend(context)
        self.phase = "waiting for a lease"
        await self._acquire()
        await _first_failure(
            self._keep_lease(), self._follow_peers(), self._look_after_rules(), self._refresh(), _until(broken)
        )

    async def _network_config(self) -> NetworkConfig:
        """The config from the store, put there first if the node was given one. Waits as long as there is none."""
        self.phase = "waiting for the network config"
        said = ""
        while True:
            try:
                await self._seed_config()
                return NetworkConfig.parse(await self._store.network_config())
            except StoreError as error:
                if not error.transient and not isinstance(error, NoNetworkConfigError):
                    raise
                self.store_trouble = str(error)
                if str(error) != said:
                    said = str(error)
                    _log.warning("waiting: %s", said)
            await asyncio.sleep(_RETRY_SECONDS)

    async def _seed_config(self) -> None:
        path = self.options.net_config_path
        if path and not self.options.store.startswith("kube:"):
            text = await asyncio.to_thread(_read_config, Path(path))
            await self._store.set_network_config(text, only_if_absent=True)

    async def _acquire(self) -> None:
        """Get the first lease. What cannot get better by waiting ends the node."""
        while self.lease is None:
            step = self.keeper.next_step(time.time())
            await asyncio.sleep(max(0.0, (step.at or 0.0) - time.time()))
            await self._ask_store(step.action)

    async def _keep_lease(self) -> None:
        """Do what the lease keeper says, when it says so or when the lease has changed."""
        while True:
            now = time.time()
            step = self.keeper.next_step(now)
            if step.action is Action.STOP:
                _log.error("lease lost: %s; asking for a lease again, traffic goes on meanwhile", self.keeper.reason)
                self.keeper.restarted()
            elif step.at is None or step.at > now:
                self._lease_changed.clear()
                timeout = None if step.at is None else step.at - now
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._lease_changed.wait(), timeout)
            else:
                await self._ask_store(step.action)

    async def _ask_store(self, action: Action) -> None:
        """Acquire or renew, tell the keeper how it went, and take up what was granted."""
        async with self._lease_lock:
            try:
                if action is Action.RENEW and self.lease is not None:
                    lease = await self._store.renew(self.lease)
                else:
                    lease = await self._store.acquire(self._request())
            except UdplaneError as error:
                self._not_granted(action, error)
                return
            self.keeper.granted(lease, time.time())
            if self.keeper.lease is lease:
                await self._take_up(lease)

    def _not_granted(self, action: Action, error: UdplaneError) -> None:
        transient = isinstance(error, StoreError) and error.transient
        if self.lease is None and not transient:
            raise error
        if action is Action.RENEW and isinstance(error, LeaseLostError):
            self.keeper.revoked(str(error))
        else:
            self.keeper.failed(str(error), time.time())
            _log.warning("cannot %s the lease: %s; trying again", action.value, error)

    def _request(self) -> AcquireRequest:
        assert self.backend is not None
        previous = self.lease.subnets if self.lease else previous_subnets(self.options.subnet_file)
        return AcquireRequest(self.backend.attrs, previous, self.options.node_name)

    async def _take_up(self, lease: Lease) -> None:
        """Make the host fit the lease. One that was only extended changes nothing on the host."""
        moved = self.lease is None or self.lease.subnets != lease.subnets
        if moved and self.lease is not None:
            _log.error("this node's subnet is %s now; start the pods of %s anew", lease.subnets, self.lease.subnets)
        if moved:
            await _in_thread(self._configure_host, lease)
            self._adopt(lease)
        self.lease = lease
        self._run_directory.remember(self._record(lease))
        if moved:
            self.phase = "ready"
            _log.info("ready: %s", self._summary(lease))
            _notify_supervisor("READY=1")

    def _configure_host(self, lease: Lease) -> None:
        assert self.backend is not None and self.config is not None and self.interface is not None
        self.backend.take_up(lease)
        netdev.enable_forwarding([subnet.version for subnet in lease.subnets], self.interface.name)
        self.firewall = Firewall(self._rules(lease.subnets), self.options.firewall)
        self.firewall.ensure()
        networks = Subnets(
            self.config.ipv4.network if self.config.ipv4 else None,
            self.config.ipv6.network if self.config.ipv6 else None,
        )
        SubnetFile(networks, lease.subnets, self.backend.mtu, self.options.ip_masq).write(self.options.subnet_file)

    def _rules(self, subnets: Subnets) -> list[RuleSet]:
        assert self.config is not None
        pools = {4: self.config.ipv4, 6: self.config.ipv6}
        rules = []
        for subnet in subnets:
            pool = pools[subnet.version]
            assert pool is not None
            rules.append(
                RuleSet(
                    subnet.version,
                    masquerade_rules(pool.network, subnet) if self.options.ip_masq else (),
                    forward_rules(pool.network) if self.options.iptables_forward_rules else (),
                    fully_random=not self.options.ip_masq_fully_random_disable,
                )
            )
        return rules

    def _adopt(self, lease: Lease) -> None:
        """Follow the peers as the owner of `lease`, keeping those that are known."""
        assert self.backend is not None
        old, self.table = self.table, LeaseTable(lease)
        if old is not None:
            changes = self.table.reset([*old.peers.values(), *old.refused.values()])
            gone = [peer for key, peer in old.peers.items() if key not in self.table.peers]
            self.backend.apply([LeaseEvent(Change.REMOVED, peer) for peer in gone] + changes)

    def _record(self, lease: Lease) -> NodeRecord:
        options = self.options
        return NodeRecord(
            options.store, self._store_options, lease, options.tun, options.subnet_file.absolute(), current_netns()
        )

    def _summary(self, lease: Lease) -> str:
        assert self.backend is not None
        report = self.backend.report()
        return (
            f"{lease.subnets} on {report['tun']} with MTU {report['mtu']}, engine {report['engine']}, "
            f"underlay {report['address']} port {report['port']}"
        )

    async def _follow_peers(self) -> None:
        """Take in what the store reports."""
        async with contextlib.aclosing(self._store.watch()) as updates:
            async for update in updates:
                self._note_outage(update)
                if not isinstance(update, Outage):
                    async with self._lease_lock:
                        await self._take_in(update)

    def _note_outage(self, update: WatchUpdate) -> None:
        if isinstance(update, Outage):
            self.store_trouble = str(update.error)
            _log.warning("the store is out of reach, forwarding goes on: %s", update.error)
        elif self.store_trouble:
            self.store_trouble = ""
            _log.info("the store is back")

    async def _take_in(self, update: Snapshot | LeaseEvent) -> None:
        assert self.table is not None and self.backend is not None and self.lease is not None
        if isinstance(update, Snapshot):
            own = next((lease for lease in update.leases if lease.key == self.lease.key), None)
            self._observe_own(own)
            changes = self.table.reset(update.leases)
        else:
            if update.lease.key == self.lease.key:
                self._observe_own(None if update.change is Change.REMOVED else update.lease)
            changes = self.table.apply(update)
        for change in changes:
            _log_change(change, self.table)
        await _in_thread(self.backend.apply, changes)

    def _observe_own(self, seen: Lease | None) -> None:
        self.keeper.observed(seen, time.time())
        self._lease_changed.set()

    async def _look_after_rules(self) -> None:
        while True:
            await asyncio.sleep(self.options.iptables_resync)
            assert self.firewall is not None
            try:
                if await _in_thread(self.firewall.ensure):
                    _log.warning("somebody changed the firewall rules of the pod network; they are back in place")
                self.rules_trouble = ""
            except NodeError as error:
                if str(error) != self.rules_trouble:
                    _log.error("%s", error)
                self.rules_trouble = str(error)

    async def _refresh(self) -> None:
        assert self.backend is not None
        while True:
            await asyncio.sleep(REFRESH_SECONDS)
            await _in_thread(self.backend.refresh)


def _read_config(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError as error:
        raise NodeError(f"cannot read the network config {path}: {error.strerror}; see --net-config-path") from error


def _log_change(change: LeaseEvent, table: LeaseTable) -> None:
    if change.change is Change.REFUSED:
        _log.error("ignoring %s: it overlaps %s", change.lease, table.conflict(change.lease))
    else:
        _log.info("peer %s: %s", change.change.value, change.lease)


async def _until(future: asyncio.Future[None]) -> None:
    await future


async def _first_failure(*work: Coroutine[Any, Any, None]) -> None:
    """Run everything at once until one fails or this is cancelled, then cancel the rest and wait for it."""
    tasks = [asyncio.ensure_future(one) for one in work]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _in_thread(function: Callable[..., _Result], *arguments: Any) -> _Result:
    """Call a function that blocks. If this is cancelled, wait for its end: it must not work on behind our back."""
    call = asyncio.ensure_future(asyncio.to_thread(function, *arguments))
    try:
        return await asyncio.shield(call)
    except asyncio.CancelledError:
        await asyncio.wait([call])
        raise


def _notify_supervisor(message: str) -> None:
    """Tell systemd, if it is there and waits for it (sd_notify(3))."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if address:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock, contextlib.suppress(OSError):
            sock.sendto(message.encode(), address.replace("@", "\0", 1) if address.startswith("@") else address)
