"""The node: store, backend, firewall rules and control socket, started and stopped in one place.

`Node.run` goes through these steps, and a failure in any of them ends it with one line:

1. be the only node of its run directory and of its TUN device; answer on the control socket from here on
2. read the network config from the store, waiting for a store that is out of reach
3. find the external interface and make the backend that the config names
4. acquire the lease and take it up (see `host`)
5. until SIGTERM: keep the lease and follow the peers (see `membership`), look after the host (see `host`)

Stopping takes away nothing that pods need: the TUN with its addresses and routes, the rules, the lease and the subnet
file stay for the next start. `udplane leave` takes them away.

When the loop fails by a defect, the node ends with exit status 1, for its supervisor to start it again.
"""

import asyncio
import contextlib
import logging
import signal
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from http import HTTPStatus
from pathlib import Path

from dataplane.concurrency import first_failure, in_thread
from dataplane.errors import NodeError, NoNetworkConfigError, NoRoomError, StoreError
from dataplane.kernel import netdev
from dataplane.kernel.leftovers import NOTHING, Leftovers
from dataplane.kernel.netns import current_netns
from dataplane.kernel.removal import remove_leftovers
from dataplane.leases.gate import LeaseGate, check_underlay
from dataplane.leases.lease import Lease, LeaseAttrs, Subnets
from dataplane.leases.network_config import NetworkConfig
from dataplane.node import control, systemd
from dataplane.node.document import StatusDocument
from dataplane.node.host import NodeHost
from dataplane.node.membership import Membership
from dataplane.node.metrics import CONTENT_TYPE, exposition
from dataplane.node.run_directory import NodeRecord, Note, RunDirectory, claimed_device
from dataplane.node.status import NodeState, node_status
from dataplane.node.subnet_file import previous_subnets
from dataplane.options import NodeOptions
from dataplane.stores.base import AcquireRequest, Store, StoreOptions
from dataplane.stores.registry import open_store

_log = logging.getLogger(__name__)

_RETRY_SECONDS = 1.0
_ANSWER_SECONDS = 8.0


Fit = Callable[[NodeOptions, NetworkConfig], NodeOptions]


class Node:
    """One node. Make it and `run` it, once."""

    def __init__(self, options: NodeOptions, store_options: StoreOptions, fit: Fit | None = None) -> None:
        """`fit` decides options that depend on the network config, once that is known; it may raise UdplaneError."""
        if options.net_config_path:
            store_options = replace(store_options, net_config_path=options.net_config_path)
        self._options = options
        self._store_options = store_options
        self._store: Store = open_store(options.store, store_options)
        self._run_directory = RunDirectory(options.run_dir)
        self._state = NodeState(options)
        self._note = Note(self._run_directory)
        self._earlier = NOTHING
        self._gate: LeaseGate | None = None
        self._fit = fit
        self._stopping = False

    @property
    def ready(self) -> bool:
        """Whether pods' packets are forwarded and the subnet file is written."""
        return self._state.phase == "ready"

    async def run(self) -> None:
        """Run until SIGTERM, SIGINT or `POST /v1/stop`; UdplaneError when the node cannot go on."""
        task, loop = asyncio.current_task(), asyncio.get_running_loop()

        def stop() -> None:
            if task is not None and not self._stopping:
                task.cancel()
            self._stopping = True

        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop)
        with ExitStack() as stack:
            stack.enter_context(self._run_directory.locked())
            stack.enter_context(claimed_device(self._options.tun))
            self._serve(stack, loop, stop)
            try:
                await self._work()
            except asyncio.CancelledError:
                if not self._stopping:
                    raise
            finally:
                self._state.phase = "stopping"
                systemd.notify("STOPPING=1")
                if self._state.host is not None:
                    await asyncio.to_thread(self._state.host.backend.stop)
                await self._store.close()
        _log.info("stopped; pods keep their network until `udplane leave`")

    def _serve(self, stack: ExitStack, loop: asyncio.AbstractEventLoop, stop: Callable[[], None]) -> None:
        """Open the control socket and, if asked for, the port for health checks and Prometheus."""
        public, private = self._public_answers(loop), self._private_answers(loop, stop)
        self._control = control.ServedSocket(self._run_directory.control_socket, private | public)
        try:
            self._control.fulfil()
        except NoRoomError as error:
            _log.warning("%s; until then no command can talk to this node", error)
        stack.callback(self._control.close)
        if self._options.healthz_port:
            listener = control.health_socket(self._options.healthz_ip, self._options.healthz_port)
            stack.enter_context(control.serving(listener, public))

    def _public_answers(self, loop: asyncio.AbstractEventLoop) -> dict[tuple[str, str], Callable[[], control.Answer]]:
        """What anybody who reaches the port may ask."""

        def health() -> control.Answer:
            troubles = self._state.host.troubles if self._state.host is not None else []
            status = HTTPStatus.OK if self.ready and not troubles else HTTPStatus.SERVICE_UNAVAILABLE
            return status, {"phase": self._state.phase, "troubles": troubles}

        def metrics() -> control.Answer:
            return HTTPStatus.OK, control.Text(exposition(self._document(loop)), CONTENT_TYPE)

        return {("GET", "/healthz"): health, ("GET", "/metrics"): metrics}

    def _private_answers(
        self, loop: asyncio.AbstractEventLoop, stop: Callable[[], None]
    ) -> dict[tuple[str, str], Callable[[], control.Answer]]:
        """What only those may ask who may use the control socket."""

        def status() -> control.Answer:
            return HTTPStatus.OK, self._document(loop)

        def request_stop() -> control.Answer:
            loop.call_soon_threadsafe(stop)
            return HTTPStatus.ACCEPTED, {"stopping": True}

        def compare() -> control.Answer:
            host = self._state.host
            return HTTPStatus.OK, {"differences": host.wished.differences() if host is not None else {}}

        return {("GET", "/v1/status"): status, ("POST", "/v1/stop"): request_stop, ("GET", "/v1/host"): compare}

    def _document(self, loop: asyncio.AbstractEventLoop) -> StatusDocument:
        """The status, put together in the thread of the event loop; called in any other."""

        async def collect(guard_dropped: int) -> StatusDocument:
            return node_status(self._state, guard_dropped)

        firewall = self._state.host.firewall if self._state.host is not None else None
        collected = collect(firewall.guarded() if firewall is not None else 0)
        return asyncio.run_coroutine_threadsafe(collected, loop).result(_ANSWER_SECONDS)

    async def _work(self) -> None:
        """Steps 2 to 5."""
        self._state.phase = "waiting for the network config"
        config = await self._network_config()
        if self._fit is not None:
            self._options = self._state.options = await in_thread(self._fit, self._options, config)
        interface = await self._external_interface()
        own = (*map(interface.address_of, (4, 6)), self._options.public_ip)
        check_underlay(config, own)
        gate = self._gate = LeaseGate(config, own, any_length=not self._store.cuts_by_config)
        broken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        loop = asyncio.get_running_loop()
        host = await in_thread(
            lambda: NodeHost(
                self._options,
                config,
                interface,
                loop=loop,
                remember=self._remember,
                on_move=self._publish,
                on_error=_failing_with(broken),
                also=[self._note, self._control],
            )
        )
        membership = Membership(self._store, host, gate, self._request, self._options.subnet_lease_renew_margin * 60.0)
        self._state.config, self._state.host, self._state.membership = config, host, membership
        self._state.phase = "waiting for a lease"
        await membership.join()
        await in_thread(self._clear_up)
        self._state.phase = "ready"
        systemd.notify("READY=1")
        await first_failure(
            membership.keep_lease(),
            membership.follow_peers(),
            membership.keep_published(),
            host.look_after(),
            host.refresh(),
            systemd.watchdog(),
            _wait(broken),
        )

    async def _external_interface(self) -> netdev.ExternalInterface:
        """The interface that leads to other nodes; never a device of this node's own, be it from an earlier life."""
        earlier = await in_thread(self._earlier_leftovers)
        own_devices = [*earlier.devices, self._options.tun]
        return await in_thread(netdev.external_interface, self._options.iface, self._options.public_ip, own_devices)

    async def _network_config(self) -> NetworkConfig:
        """The config from the store, put there first if the node was given one. Waits as long as there is none."""
        while True:
            try:
                await self._seed_config()
                config = NetworkConfig.parse(await self._store.network_config())
            except StoreError as error:
                if not error.transient and not isinstance(error, NoNetworkConfigError):
                    raise
                if str(error) != self._state.config_trouble:
                    _log.warning("waiting: %s", error)
                self._state.config_trouble = str(error)
            else:
                self._state.config_trouble = ""
                return config
            await asyncio.sleep(_RETRY_SECONDS)

    async def _seed_config(self) -> None:
        path = self._options.net_config_path
        if path:
            text = await asyncio.to_thread(_read_config, Path(path))
            await self._store.set_network_config(text, only_if_absent=True)

    def _request(self, last: Subnets | None) -> AcquireRequest:
        """What the node asks for: what it had, as it knows, or noted in an earlier life, or by its subnet file."""
        assert self._state.host is not None
        held = None
        with contextlib.suppress(NodeError):
            record = self._run_directory.recall()
            held = record.lease if record is not None and record.store == self._options.store else None
        previous = last or (held.subnets if held else None) or previous_subnets(self._options.subnet_file)
        return AcquireRequest(self._state.host.backend.attrs, previous, self._options.node_name, held)

    def _remember(self, lease: Lease, leftovers: Leftovers) -> None:
        """Note the own lease. What cannot be noted is tried again when the host is looked after; traffic goes on."""
        kept = Leftovers.sum([leftovers, self._earlier])
        self._note.record = NodeRecord(self._options.store, self._store_options, lease, kept, current_netns())
        try:
            self._note.fulfil()
        except NodeError as error:
            _log.warning("%s; until then `udplane leave` does not know what is here", error)

    def _publish(self, attrs: LeaseAttrs) -> None:
        """Tell the other nodes where this one is now."""
        assert self._state.membership is not None and self._gate is not None
        self._gate.own = frozenset(attrs.addresses)
        self._state.membership.publish(attrs)

    def _earlier_leftovers(self) -> Leftovers:
        """What the last node of this run directory left here."""
        try:
            record = self._run_directory.recall()
        except NodeError as error:
            _log.warning("cannot see what an earlier start left here: %s", error)
            return NOTHING
        self._earlier = record.leftovers if record is not None and record.netns == current_netns() else NOTHING
        return self._earlier

    def _clear_up(self) -> None:
        """Take away what an earlier start had and this one has not: another backend, device or subnet file."""
        assert self._state.host is not None
        try:
            for line in remove_leftovers(self._earlier, keep=self._state.host.wished.leftovers()):
                _log.info("%s, left by an earlier start", line)
        except NodeError as error:
            _log.warning("cannot clear up what an earlier start left here: %s", error)
        else:
            self._earlier = NOTHING


def _failing_with(future: asyncio.Future[None]) -> Callable[[Exception], None]:
    """A function that any thread may call to make `future` fail."""

    def fail(error: Exception) -> None:
        if not future.done():
            future.set_exception(error)

    def fail_from_any_thread(error: Exception) -> None:
        future.get_loop().call_soon_threadsafe(fail, error)

    return fail_from_any_thread


async def _wait(future: asyncio.Future[None]) -> None:
    await future


def _read_config(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError as error:
        raise NodeError(f"cannot read the network config {path}: {error.strerror}; see --net-config-path") from error
