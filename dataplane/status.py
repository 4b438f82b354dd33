"""What a node says about itself, as plain data for JSON; `report` lays it out for people."""

import os
import time
from datetime import UTC, datetime
from typing import Any

from dataplane import __version__
from dataplane.backends.base import PeerState
from dataplane.counters import Counters
from dataplane.lease import Lease
from dataplane.node import Node
from dataplane.verdicts import Direction, Event, Verdict


def node_status(node: Node) -> dict[str, Any]:
    """Everything about `node`; called in the thread of its event loop."""
    return {
        "version": __version__,
        "pid": os.getpid(),
        "phase": node.phase,
        "uptime_seconds": round(time.time() - node.started, 1),
        "network": _network(node),
        "lease": _own_lease(node),
        "store": {"url": node.options.store, "trouble": node.store_trouble},
        "backend": node.backend.report() if node.backend is not None else None,
        "firewall": _firewall(node),
        "subnet_file": str(node.options.subnet_file),
        "peers": _peers(node),
        "refused": [_lease(lease) for lease in node.table.refused.values()] if node.table is not None else [],
        "counters": counters_document(node.backend.counters()) if node.backend is not None else None,
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


def _network(node: Node) -> dict[str, Any] | None:
    if node.config is None:
        return None
    pools = {"ipv4": node.config.ipv4, "ipv6": node.config.ipv6}
    networks: dict[str, Any] = {name: str(pool.network) if pool else None for name, pool in pools.items()}
    return networks | {"backend": node.config.backend.type}


def _own_lease(node: Node) -> dict[str, Any]:
    lease = _lease(node.lease) if node.lease is not None else {"subnets": [], "public_ip": None, "expires": None}
    return lease | {"state": node.keeper.state.value, "trouble": node.keeper.reason}


def _lease(lease: Lease) -> dict[str, Any]:
    expires = None
    if lease.expires is not None:
        expires = datetime.fromtimestamp(lease.expires, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    return {
        "subnets": [str(subnet) for subnet in lease.subnets],
        "public_ip": str(lease.attrs.public_ip or lease.attrs.public_ipv6),
        "node": lease.node,
        "expires": expires,
    }


def _firewall(node: Node) -> dict[str, Any]:
    manager = node.firewall.manager if node.firewall is not None else None
    return {
        "manager": manager.name if manager is not None else None,
        "masquerade": node.options.ip_masq,
        "forward": node.options.iptables_forward_rules,
        "trouble": node.rules_trouble,
    }


def _peers(node: Node) -> list[dict[str, Any]]:
    if node.backend is None or node.table is None:
        return []
    states = node.backend.peers()
    return [_lease(lease) | _traffic(states.get(key)) for key, lease in node.table.peers.items()]


def _traffic(state: PeerState | None) -> dict[str, Any]:
    """Where a peer is and what went to and fro; `last_seen_seconds` is None for one that was never heard."""
    if state is None:
        return {"reachable": False}
    heard = state.traffic.last_rx_ns
    return {
        "reachable": True,
        "address": str(state.address),
        "port": state.port,
        "mtu": state.mtu,
        "last_seen_seconds": round((time.monotonic_ns() - heard) / 1e9, 1) if heard else None,
        "tx_packets": state.traffic.tx_packets,
        "tx_bytes": state.traffic.tx_bytes,
        "rx_packets": state.traffic.rx_packets,
        "rx_bytes": state.traffic.rx_bytes,
    }
