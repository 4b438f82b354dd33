"""The status document: what the control socket answers to GET /v1/status, and `udplane status --json` prints.

One definition for the node that makes it (`status`), the commands that lay it out, and docs/status-json.md. Times are
in seconds, sizes in bytes, addresses and networks are texts; None is null in JSON.
"""

from typing import NotRequired, TypedDict

from dataplane.backends.report import BackendReport


class NetworkDocument(TypedDict):
    """The network config that the node goes by."""

    ipv4: str | None
    ipv6: str | None
    backend: str


class LeaseDocument(TypedDict):
    """A lease as the store has it."""

    subnets: list[str]
    public_ip: str | None
    node: str
    """The node's name, for stores that know nodes by name; else empty."""
    expires: str | None
    """Time of day in UTC (RFC 3339); None for one that does not expire."""


class OwnLeaseDocument(LeaseDocument):
    """The lease of this node."""

    state: str
    """acquiring, held, lost ...: the values of `keeper.LeaseState`."""
    trouble: str
    """Why it is not held, or who else claims it; empty when all is well."""


class StoreDocument(TypedDict):
    """Where leases live."""

    url: str
    trouble: str
    """Why it is out of reach, or gives no network config; empty when all is well."""
    ignored: dict[str, str]
    """Entries that are no leases, and what is wrong with them."""


class FirewallDocument(TypedDict):
    """The rules that the node holds."""

    manager: str | None
    """nftables or iptables; None as long as there are no rules."""
    masquerade: bool
    forward: bool
    guard: bool
    """Whether programs of this host are kept from sending to the overlay port of members."""
    guard_lacking: str
    """Why the guard is not whole; empty when it is."""
    guard_dropped: int
    """Packets."""


class HostDocument(TypedDict):
    """What the node has set up on its host."""

    wishes: list[str]
    """Each thing that is looked after."""
    put_back: dict[str, int]
    """How often each was put back after somebody changed it, without the zeros."""
    troubles: list[str]
    """What cannot be had, and cuts pods off."""
    lesser_troubles: list[str]
    """What cannot be had, and does not."""


class LearnedMtuDocument(TypedDict):
    """What the kernel said of the path to a peer."""

    mtu: int
    age_seconds: float


class PeerDocument(LeaseDocument):
    """Another node's lease, and the way there. Counts are None where the kernel moves packets and does not count."""

    trouble: str
    """Why there is no way, or why the lease is refused; else empty."""
    refused: bool
    """Whether the lease is one that no node believes."""
    reachable: bool
    """Whether packets are sent there, not whether they arrive. The keys below are there only if so."""
    address: NotRequired[str]
    port: NotRequired[int | None]
    mtu: NotRequired[int]
    learned_mtu: NotRequired[LearnedMtuDocument | None]
    last_seen_seconds: NotRequired[float | None]
    """Since the last packet from there; None if there was none."""
    tx_packets: NotRequired[int | None]
    tx_bytes: NotRequired[int | None]
    rx_packets: NotRequired[int | None]
    rx_bytes: NotRequired[int | None]


class DirectionDocument(TypedDict):
    """What went one way."""

    packets: int
    bytes: int
    drops: dict[str, int]
    """Packets by reason: the verdicts of docs/packet-rules.md."""


class CountersDocument(TypedDict):
    """All counts since the start."""

    encap: DirectionDocument
    decap: DirectionDocument
    events: dict[str, int]


class StatusDocument(TypedDict):
    """Everything about a node."""

    version: str
    pid: int
    phase: str
    """starting, waiting ..., ready."""
    uptime_seconds: float
    network: NetworkDocument | None
    """None until the store has given a network config."""
    lease: OwnLeaseDocument
    store: StoreDocument
    backend: BackendReport | None
    """None until there is a network config."""
    firewall: FirewallDocument
    host: HostDocument
    subnet_file: str
    peers: list[PeerDocument]
    refused: list[PeerDocument]
    counters: CountersDocument | None
    """None where the kernel moves the packets."""
