"""What a node says about itself: fills in the `document`, which `commands.status` lays out for people."""

import math
import os
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime

from dataplane import __version__, clock
from dataplane.backends.base import PeerState
from dataplane.engines.contract import LearnedMtu
from dataplane.leases.lease import Lease
from dataplane.leases.network_config import NetworkConfig
from dataplane.node.document import (
    CountersDocument,
    DirectionDocument,
    FirewallDocument,
    HostDocument,
    LearnedMtuDocument,
    LeaseDocument,
    NetworkDocument,
    OwnLeaseDocument,
    PeerDocument,
    StatusDocument,
)
from dataplane.node.host import NodeHost
from dataplane.node.membership import Membership
from dataplane.options import NodeOptions
from dataplane.packets.counters import Counters
from dataplane.packets.verdicts import Direction, Event, Verdict


@dataclass(slots=True)
class NodeState:
    """How far a node has come. What depends on the network config is None until that is known."""

    options: NodeOptions
    started: float = field(default_factory=clock.now)
    phase: str = "starting"
    config_trouble: str = ""
    """Why the store gives no network config; empty when it does."""
    config: NetworkConfig | None = None
    host: NodeHost | None = None
    membership: Membership | None = None


def node_status(state: NodeState, guard_dropped: int = 0) -> StatusDocument:
    """Everything about a node; called in the thread of its event loop, which may not wait for `guard_dropped`."""
    host, membership = state.host, state.membership
    counters = host.backend.counters() if host is not None else None
    return {
        "version": __version__,
        "pid": os.getpid(),
        "phase": state.phase,
        "uptime_seconds": round(clock.now() - state.started, 1),
        "network": _network(state.config),
        "lease": _own_lease(membership),
        "store": {
            "url": state.options.store,
            "trouble": state.config_trouble or (membership.store_trouble if membership is not None else ""),
            "ignored": dict(membership.ignored) if membership is not None else {},
        },
        "backend": host.backend.report() if host is not None else None,
        "firewall": _firewall(state.options, host, guard_dropped),
        "host": _host(host),
        "subnet_file": str(state.options.subnet_file),
        "peers": _peers(host, membership),
        "refused": _refused(membership),
        "counters": _counters(counters) if counters is not None else None,
    }


def _counters(counters: Counters) -> CountersDocument:
    return {
        "encap": _direction(counters, Direction.ENCAP),
        "decap": _direction(counters, Direction.DECAP),
        "events": {event.name.lower(): counters.events[event] for event in Event},
    }


def _direction(counters: Counters, direction: Direction) -> DirectionDocument:
    packets, octets = counters.packets[direction], counters.bytes[direction]
    return {
        "packets": packets[Verdict.FORWARDED],
        "bytes": octets[Verdict.FORWARDED],
        "drops": {v.name.lower(): packets[v] for v in Verdict if v != Verdict.FORWARDED},
    }


def _network(config: NetworkConfig | None) -> NetworkDocument | None:
    if config is None:
        return None
    ipv4, ipv6 = (str(pool.network) if pool is not None else None for pool in (config.ipv4, config.ipv6))
    return {"ipv4": ipv4, "ipv6": ipv6, "backend": config.backend.type}


def _own_lease(membership: Membership | None) -> OwnLeaseDocument:
    """The lease that is in use. Its state may be acquiring or lost, while packets go on by it."""
    lease: LeaseDocument = {"subnets": [], "public_ip": None, "node": "", "expires": None}
    if membership is None:
        return {**lease, "state": "acquiring", "trouble": ""}
    if membership.lease is not None:
        lease = _lease(membership.lease)
    keeper = membership.keeper
    return {**lease, "state": keeper.state.value, "trouble": keeper.reason or keeper.rival}


def _lease(lease: Lease) -> LeaseDocument:
    expires = None
    if lease.expires is not None and math.isfinite(lease.expires):
        expires = datetime.fromtimestamp(clock.time_of_day(lease.expires), UTC).isoformat(timespec="seconds")
        expires = expires.replace("+00:00", "Z")
    return {
        "subnets": [str(subnet) for subnet in lease.subnets],
        "public_ip": str(lease.attrs.public_ip or lease.attrs.public_ipv6),
        "node": lease.node,
        "expires": expires,
    }


def _firewall(options: NodeOptions, host: NodeHost | None, guard_dropped: int) -> FirewallDocument:
    firewall = host.firewall if host is not None else None
    with_rules = options.firewall != "none"
    return {
        "manager": firewall.manager.name if firewall is not None and firewall.manager is not None else None,
        "masquerade": with_rules and options.ip_masq,
        "forward": with_rules and options.iptables_forward_rules,
        "guard": with_rules and host is not None and host.backend.port is not None,
        "guard_lacking": firewall.lacking if firewall is not None else "",
        "guard_dropped": guard_dropped,
    }


def _host(host: NodeHost | None) -> HostDocument:
    if host is None:
        return {"wishes": [], "put_back": {}, "troubles": [], "lesser_troubles": []}
    vital = host.troubles
    return {
        "wishes": [wish.what for wish in host.wished.wishes],
        "put_back": host.wished.repairs(),
        "troubles": vital,
        "lesser_troubles": [trouble for trouble in host.wished.troubles() if trouble not in vital],
    }


def _peers(host: NodeHost | None, membership: Membership | None) -> list[PeerDocument]:
    if host is None or membership is None or membership.table is None:
        return []
    states, troubles = host.backend.peers(), host.backend.unreachable()
    return [
        _peer(lease, states.get(key), troubles.get(key, "" if key in states else "not in use yet"))
        for key, lease in membership.table.peers.items()
    ]


def _refused(membership: Membership | None) -> list[PeerDocument]:
    if membership is None or membership.table is None:
        return []
    refused = membership.table.refused.values()
    return [_unreachable(refusal.lease, refusal.reason, refused=True) for refusal in refused]


def _unreachable(lease: Lease, trouble: str, *, refused: bool) -> PeerDocument:
    known = _lease(lease)
    return {
        "subnets": known["subnets"],
        "public_ip": known["public_ip"],
        "node": known["node"],
        "expires": known["expires"],
        "trouble": trouble,
        "refused": refused,
        "reachable": False,
    }


def _peer(lease: Lease, state: PeerState | None, trouble: str) -> PeerDocument:
    """Where a peer is and what went to and fro."""
    known = _unreachable(lease, trouble, refused=False)
    if state is None:
        return known
    traffic = state.traffic
    return {
        **known,
        "reachable": True,
        "address": str(state.address),
        "port": state.port,
        "mtu": state.mtu,
        "learned_mtu": _learned(state.learned),
        "last_seen_seconds": _seconds_since(traffic.last_rx_ns) if traffic is not None and traffic.last_rx_ns else None,
        "tx_packets": traffic.tx_packets if traffic is not None else None,
        "tx_bytes": traffic.tx_bytes if traffic is not None else None,
        "rx_packets": traffic.rx_packets if traffic is not None else None,
        "rx_bytes": traffic.rx_bytes if traffic is not None else None,
    }


def _learned(learned: LearnedMtu | None) -> LearnedMtuDocument | None:
    if learned is None:
        return None
    return {"mtu": learned.mtu, "age_seconds": _seconds_since(learned.since_ns)}


def _seconds_since(monotonic_ns: int) -> float:
    return round((time.monotonic_ns() - monotonic_ns) / 1e9, 1)
