"""What a node says about itself, as plain data for JSON; `commands.status` lays it out for people."""

import math
import os
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from dataplane import __version__, clock
from dataplane.backends.base import PeerState
from dataplane.engines.contract import LearnedMtu
from dataplane.leases.lease import Lease
from dataplane.leases.network_config import NetworkConfig
from dataplane.node.host import NodeHost
from dataplane.node.membership import Membership
from dataplane.options import NodeOptions
from dataplane.packets.counters import Counters, PeerCounters
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


def node_status(state: NodeState, guard_dropped: int = 0) -> dict[str, Any]:
    """Everything about a node; called in the thread of its event loop, which may not wait for `guard_dropped`."""
    host, membership = state.host, state.membership
    counters = host.backend.counters() if host is not None else None
    refused = membership.table.refused.values() if membership is not None and membership.table is not None else ()
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
        "firewall": _firewall(state.options, host) | {"guard_dropped": guard_dropped},
        "host": _host(host),
        "subnet_file": str(state.options.subnet_file),
        "peers": _peers(host, membership),
        "refused": [
            _lease(refusal.lease) | {"trouble": refusal.reason, "refused": True, "reachable": False}
            for refusal in refused
        ],
        "counters": counters_document(counters) if counters is not None else None,
    }


def counters_document(counters: Counters) -> dict[str, Any]:
    """The counters by name: each direction's forwarded packets and bytes and its drops by reason, and the events."""
    document: dict[str, Any] = {}
    for direction in Direction:
        packets, octets = counters.packets[direction], counters.bytes[direction]
        document[direction.name.lower()] = {
            "packets": packets[Verdict.FORWARDED],
            "bytes": octets[Verdict.FORWARDED],
            "drops": {v.name.lower(): packets[v] for v in Verdict if v != Verdict.FORWARDED},
        }
    document["events"] = {event.name.lower(): counters.events[event] for event in Event}
    return document


def _network(config: NetworkConfig | None) -> dict[str, Any] | None:
    if config is None:
        return None
    pools = {"ipv4": config.ipv4, "ipv6": config.ipv6}
    networks: dict[str, Any] = {name: str(pool.network) if pool else None for name, pool in pools.items()}
    return networks | {"backend": config.backend.type}


def _own_lease(membership: Membership | None) -> dict[str, Any]:
    """The lease that is in use. Its state may be acquiring or lost, while packets go on by it."""
    none: dict[str, Any] = {"subnets": [], "public_ip": None, "node": "", "expires": None}
    if membership is None:
        return none | {"state": "acquiring", "trouble": ""}
    lease = _lease(membership.lease) if membership.lease is not None else none
    return lease | {
        "state": membership.keeper.state.value,
        "trouble": membership.keeper.reason or membership.keeper.rival,
    }


def _lease(lease: Lease) -> dict[str, Any]:
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


def _firewall(options: NodeOptions, host: NodeHost | None) -> dict[str, Any]:
    firewall = host.firewall if host is not None else None
    with_rules = options.firewall != "none"
    return {
        "manager": firewall.manager.name if firewall is not None and firewall.manager is not None else None,
        "masquerade": with_rules and options.ip_masq,
        "forward": with_rules and options.iptables_forward_rules,
        "guard": with_rules and host is not None and host.backend.port is not None,
        "guard_lacking": firewall.lacking if firewall is not None else "",
    }


def _host(host: NodeHost | None) -> dict[str, Any]:
    """What is looked after on the host, how often each thing was put back, and what cannot be had."""
    if host is None:
        return {"wishes": [], "put_back": {}, "troubles": [], "lesser_troubles": []}
    vital = host.troubles
    return {
        "wishes": [wish.what for wish in host.wished.wishes],
        "put_back": host.wished.repairs(),
        "troubles": vital,
        "lesser_troubles": [trouble for trouble in host.wished.troubles() if trouble not in vital],
    }


def _peers(host: NodeHost | None, membership: Membership | None) -> list[dict[str, Any]]:
    if host is None or membership is None or membership.table is None:
        return []
    states, troubles = host.backend.peers(), host.backend.unreachable()
    return [
        _lease(lease)
        | {"trouble": troubles.get(key, "" if key in states else "not in use yet"), "refused": False}
        | _peer(states.get(key))
        for key, lease in membership.table.peers.items()
    ]


def _peer(state: PeerState | None) -> dict[str, Any]:
    """Where a peer is and what went to and fro."""
    if state is None:
        return {"reachable": False}
    where = {
        "address": str(state.address),
        "port": state.port,
        "mtu": state.mtu,
        "learned_mtu": _learned(state.learned),
    }
    return {"reachable": True} | where | _traffic(state.traffic)


def _learned(learned: LearnedMtu | None) -> dict[str, Any] | None:
    """What the kernel said of a path, and how long ago it said so first."""
    if learned is None:
        return None
    return {"mtu": learned.mtu, "age_seconds": round((time.monotonic_ns() - learned.since_ns) / 1e9, 1)}


def _traffic(traffic: PeerCounters | None) -> dict[str, Any]:
    """The counts, all None where nobody counts; `last_seen_seconds` is None for a peer that was never heard."""
    names = ("tx_packets", "tx_bytes", "rx_packets", "rx_bytes")
    if traffic is None:
        return dict.fromkeys(("last_seen_seconds", *names))
    heard = traffic.last_rx_ns
    seen = round((time.monotonic_ns() - heard) / 1e9, 1) if heard else None
    return {"last_seen_seconds": seen} | {name: getattr(traffic, name) for name in names}
