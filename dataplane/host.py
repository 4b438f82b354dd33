"""The node's side of the host: device and engine, forwarding, firewall rules and subnet file, made to fit a lease.

They are set up in this order, so that a CNI plugin which finds the subnet file finds all the rest in place.
"""

import asyncio
import logging
from collections.abc import Callable

from dataplane import netdev
from dataplane.addresses import Network
from dataplane.backends.base import Backend, BackendContext, open_backend
from dataplane.concurrency import in_thread
from dataplane.errors import NodeError
from dataplane.firewall import Firewall, RuleSet, forward_rules, masquerade_rules
from dataplane.lease import Lease, LeaseEvent, Subnets
from dataplane.options import NodeOptions
from dataplane.report import backend_line
from dataplane.subnet import NetworkConfig
from dataplane.subnet_file import SubnetFile

_log = logging.getLogger(__name__)


class NodeHost:
    """All that a node does to its host; the `membership.Host` of a real node.

    For reading: `backend`; `firewall`, None before a lease was taken up; `rules_trouble`, why the rules could not be
    put in place again, empty when they are.
    """

    def __init__(
        self,
        options: NodeOptions,
        config: NetworkConfig,
        interface: netdev.ExternalInterface,
        *,
        remember: Callable[[Lease], None],
        on_error: Callable[[Exception], None],
    ) -> None:
        """Blocks for milliseconds. `remember` notes the own lease; any thread may call `on_error` if packets stop."""
        self.backend: Backend = open_backend(BackendContext(options, config, interface, on_error))
        self.firewall: Firewall | None = None
        self.rules_trouble = ""
        self._options = options
        self._interface = interface
        self._networks = Subnets(
            config.ipv4.network if config.ipv4 else None, config.ipv6.network if config.ipv6 else None
        )
        self._remember = remember

    async def take_up(self, lease: Lease) -> None:
        """Set everything up for `lease`. NodeError if that cannot be."""
        await in_thread(self._set_up, lease)
        _log.info("ready: %s by %s", lease.subnets, backend_line(self.backend.report()))

    def remember(self, lease: Lease) -> None:
        """Note the own lease."""
        self._remember(lease)

    async def apply(self, changes: list[LeaseEvent]) -> None:
        """Follow the peers."""
        await in_thread(self.backend.apply, changes)

    async def look_after_rules(self) -> None:
        """Put the rules back when somebody removed them. Never ends."""
        while True:
            await asyncio.sleep(self._options.iptables_resync)
            if self.firewall is None:
                continue
            try:
                if await in_thread(self.firewall.ensure):
                    _log.warning("somebody changed the firewall rules of the pod network; they are back in place")
                self.rules_trouble = ""
            except NodeError as error:
                if str(error) != self.rules_trouble:
                    _log.error("%s", error)
                self.rules_trouble = str(error)

    async def refresh(self) -> None:
        """Have the backend look after what ages. Never ends."""
        while True:
            await asyncio.sleep(self.backend.refresh_seconds)
            await in_thread(self.backend.refresh)

    def _set_up(self, lease: Lease) -> None:
        self.backend.take_up(lease)
        netdev.enable_forwarding([subnet.version for subnet in lease.subnets], self._interface.name)
        self.firewall = Firewall(self._rules(lease.subnets), self._options.firewall)
        self.firewall.ensure()
        file = SubnetFile(
            self._networks, lease.subnets, self.backend.mtu, self._options.ip_masq, self.backend.gso_max_size
        )
        file.write(self._options.subnet_file)

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
