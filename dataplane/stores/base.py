"""The Store protocol.

A store keeps two things: the network config (flannel's JSON text, `network_config.NetworkConfig` parses it) and the
leases of all nodes. It is the only place where two nodes can collide, so `acquire` is atomic in every store:
of any number of nodes that ask at once, no two get overlapping subnets.

Every method raises `StoreError` when the store does not work, with `transient` True where trying again
later can help. A store that is out of reach never stops traffic: the node goes on with what it knows.
"""

import logging
from collections.abc import AsyncGenerator, Container, Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Protocol

from dataplane.errors import UdplaneError
from dataplane.flags import about, boolean, bounded
from dataplane.leases.lease import Lease, LeaseAttrs, LeaseEvent, Subnets

LEASE_SECONDS = 24 * 60 * 60
"""How long a lease lives without renewal: flannel's 24 hours."""

_MAX_COMPLAINTS = 10_000
"""Entries of a store that are remembered as complained of; somebody may write new ones for ever."""

MIN_LEASE_SECONDS, MAX_LEASE_SECONDS = 10, 10 * 365 * 24 * 60 * 60


@dataclass(frozen=True, slots=True)
class AcquireRequest:
    """A node asks for a lease: what it publishes, and the subnets that it had last.

    `node` is its name, for stores that know nodes by name. `held` is the lease that it had last, as it was granted: it
    is the node's own, whatever its public address is by now, as long as nobody has written it since.
    """

    attrs: LeaseAttrs
    previous: Subnets | None = None
    node: str = ""
    held: Lease | None = None

    def owns(self, lease: Lease) -> bool:
        """Whether `lease`, as the store has it, is this node's."""
        untouched = (
            self.held is not None
            and lease.mark != ""
            and (self.held.key, self.held.attrs, self.held.mark) == (lease.key, lease.attrs, lease.mark)
        )
        return untouched or lease.attrs.same_node(self.attrs)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All leases that the store holds right now, one's own included."""

    leases: tuple[Lease, ...]


@dataclass(frozen=True, slots=True)
class Outage:
    """The watch has lost the store and keeps trying. The next `Snapshot` says that it is back."""

    error: UdplaneError


WatchUpdate = Snapshot | LeaseEvent | Outage


@dataclass(frozen=True, slots=True)
class StoreOptions:
    """What some stores need besides their URL; an empty text means not given. Most names are flannel's flags."""

    lease_seconds: float = field(
        default=LEASE_SECONDS,
        metadata=about(
            "sqlite and etcd: how long a lease lives that is not renewed",
            bounded(MIN_LEASE_SECONDS, MAX_LEASE_SECONDS),
            metavar="SECONDS",
        ),
    )
    etcd_prefix: str = field(
        default="/coreos.com/network", metadata=about("etcd: keys begin with this", metavar="PREFIX", flannel=True)
    )
    etcd_certfile: str = field(default="", metadata=about("etcd: client certificate", metavar="FILE", flannel=True))
    etcd_keyfile: str = field(default="", metadata=about("etcd: key of the certificate", metavar="FILE", flannel=True))
    etcd_cafile: str = field(default="", metadata=about("etcd: certificate authority", metavar="FILE", flannel=True))
    etcd_username: str = field(default="", metadata=about("etcd: user", metavar="NAME", flannel=True))
    etcd_password: str = field(
        default="",
        repr=False,
        metadata=about("etcd: password; better in the environment", metavar="PASSWORD", flannel=True),
    )
    kubeconfig_file: str = field(
        default="",
        metadata=about("kube: kubeconfig file, for a node that is no pod", metavar="FILE", flannel=True),
    )
    kube_annotation_prefix: str = field(
        default="flannel.alpha.coreos.com",
        metadata=about("kube: annotations begin with this", metavar="PREFIX", flannel=True),
    )
    net_config_path: str = "/etc/kube-flannel/net-conf.json"
    set_node_network_unavailable: bool = field(
        default=True,
        metadata=about("kube: clear the node's NetworkUnavailable condition", boolean, flannel=True),
    )


class Complaints:
    """What entries of a store cannot be read. Each is said once, and again when it is another thing.

    `said` is for reading: the entry and what is wrong with it, as long as that is so.
    """

    def __init__(self, log: logging.Logger) -> None:
        self.said: dict[str, str] = {}
        self._log = log

    def say(self, entry: str, text: str) -> None:
        """`entry` is ignored, because of `text`."""
        if self.said.get(entry) != text:
            if len(self.said) >= _MAX_COMPLAINTS:
                self.said.clear()
            self.said[entry] = text
            self._log.warning("ignoring %s: %s", entry, text)

    def settled(self, entry: str) -> None:
        """`entry` is as it should be, or gone."""
        self.said.pop(entry, None)

    def only(self, entries: Container[str]) -> None:
        """There are no others than `entries` any more."""
        for entry in list(self.said):  # a copy: other threads may read other entries meanwhile
            if entry not in entries:
                self.said.pop(entry, None)


class Store(Protocol):
    """One place that nodes share. All methods are safe to call at the same time from one event loop."""

    cuts_by_config: ClassVar[bool] = True
    """Whether nodes get their subnets by the network config's SubnetLen, and not from somebody else."""

    @property
    def ignored(self) -> Mapping[str, str]:
        """Entries that should be leases and cannot be read, each with what is wrong with it."""
        return {}

    async def network_config(self) -> str:
        """The network config as it was stored; NoNetworkConfigError if there is none yet."""

    async def set_network_config(self, text: str, *, only_if_absent: bool = False) -> bool:
        """Store `text` (which must parse, else ConfigError); False if one was there and `only_if_absent`."""

    async def leases(self) -> list[Lease]:
        """Every lease that has not expired, in the order of their subnets."""

    async def acquire(self, request: AcquireRequest) -> Lease:
        """Take a lease and return it.

        The first of these that is possible: the lease that is the node's already, by its public IP or because it is the
        one that the node held; the previous subnets, if they are free; free subnets picked at random. LeaseError if all
        are taken.
        """

    async def renew(self, lease: Lease, attrs: LeaseAttrs | None = None) -> Lease:
        """Extend the lease that the node holds; returns it with its new expiry.

        `attrs` replaces what the node publishes, when its public IP has changed, for instance.
        LeaseLostError if the lease was revoked, or has expired and is gone or somebody else's.
        """

    async def ready(self, lease: Lease) -> None:
        """The node forwards packets now. Kubernetes wants to know that; the other stores do nothing."""
        del lease

    async def release(self, lease: Lease) -> None:
        """Give the lease back, so that others can have its subnets. No error if it is already gone."""

    def watch(self) -> AsyncGenerator[WatchUpdate, None]:
        """Report all leases at once as a `Snapshot`, then every change, until the generator is closed (`aclose`).

        Trouble with the store is reported as an `Outage`, never raised, and the watch keeps trying; a running
        node must not fall because somebody broke the store. A consumer accepts a `Snapshot` at any time.
        """

    async def close(self) -> None:
        """Let go of files and connections. Leases stay."""
