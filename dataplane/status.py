"""What a node says about itself: made as plain data for JSON, and laid out for people.

`node_status` reads a running node; everything else works on what that returned, on whichever side of the control socket.
"""

import os
import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from dataplane import __version__
from dataplane.backends.base import PeerState
from dataplane.counters import Counters
from dataplane.lease import Lease
from dataplane.node import Node
from dataplane.verdicts import Direction, Event, Verdict

Status = Mapping[str, Any]


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


def render_status(status: Status) -> str:
    """The status for people, some twenty lines."""
    lines = [_line("node", f"{status['phase']}, up {duration(status['uptime_seconds'])}, udplane {status['version']}")]
    lines += _lease_lines(status)
    lines += _backend_lines(status["backend"])
    lines.append(_line("rules", _rules_text(status["firewall"])))
    lines += [_line("refused", f"{', '.join(r['subnets'])} of {r['public_ip']}: overlaps") for r in status["refused"]]
    text = "\n".join(lines) + "\n\n" + render_peers(status)
    if status["counters"] is not None:
        text += "\n" + render_counters(status["counters"])
    return text


def render_peers(status: Status) -> str:
    """One line for each peer."""
    rows = [("PEER", "AT", "MTU", "LAST SEEN", "SENT", "RECEIVED")]
    for peer in status["peers"]:
        subnets = " ".join(peer["subnets"])
        if not peer["reachable"]:
            rows.append((subnets, "no address of the underlay's family", "", "", "", ""))
            continue
        seen = peer["last_seen_seconds"]
        ago = "never" if seen is None else f"{duration(seen)} ago"
        sent, received = size(peer["tx_bytes"]), size(peer["rx_bytes"])
        rows.append((subnets, _endpoint(peer["address"], peer["port"]), str(peer["mtu"]), ago, sent, received))
    return table(rows) if status["peers"] else "no peers yet\n"


def render_counters(counters: Status) -> str:
    """Both directions' totals, then every reason for which something was dropped, in words."""
    text = ""
    for direction in Direction:
        counts = counters[direction.name.lower()]
        text += _line(
            direction.name.lower(), f"{counts['packets']} packets, {size(counts['bytes'])} {direction.description}\n"
        )
        for verdict in Verdict:
            dropped = counts["drops"].get(verdict.name.lower(), 0)
            if dropped:
                text += f"{'':10}{dropped} dropped: {verdict.description} ({verdict.name.lower()})\n"
    for event in Event:
        count = counters["events"].get(event.name.lower(), 0)
        if count:
            text += f"{'':10}{count} {event.description}\n"
    return text


def _lease_lines(status: Status) -> list[str]:
    lease, network, store = status["lease"], status["network"], status["store"]
    lines = []
    if network is not None:
        networks = " and ".join(filter(None, (network["ipv4"], network["ipv6"])))
        lines.append(_line("network", networks))
    subnets = " and ".join(lease["subnets"]) or "none"
    until = f", until {lease['expires']}" if lease["expires"] else ""
    lines.append(_line("lease", f"{subnets}, {lease['state']}{until}"))
    if lease["trouble"]:
        lines.append(_line("", lease["trouble"]))
    lines.append(
        _line("store", f"{store['url']}, " + (f"OUT OF REACH: {store['trouble']}" if store["trouble"] else "in reach"))
    )
    return lines


def _backend_lines(backend: Status | None) -> list[str]:
    if backend is None:
        return []
    where = _endpoint(backend["address"], backend["port"])
    lines = [
        _line(
            "backend",
            f"{backend['type']}, {where} on {backend['interface']}, {backend['tun']} with MTU {backend['mtu']}",
        ),
        _line("engine", f"{backend['engine']}, {_plural(backend['workers'], 'worker')}"),
    ]
    lines += [f"{'':10}{name}: {state}" for name, state in backend["features"].items()]
    if backend["receive_overruns"]:
        lines.append(_line("", f"{backend['receive_overruns']} datagrams lost because the receive buffer was full"))
    return lines


def _rules_text(firewall: Status) -> str:
    kinds = [name for name in ("masquerade", "forward") if firewall[name]]
    if not kinds:
        return "none asked for"
    text = f"{' and '.join(kinds)}, held by {firewall['manager'] or 'nobody yet'}"
    return text + (f"; NOT IN PLACE: {firewall['trouble']}" if firewall["trouble"] else "")


def _line(label: str, text: str) -> str:
    return f"{label:10}{text}"


def _endpoint(address: str, port: int) -> str:
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def _plural(count: int, noun: str) -> str:
    return f"{count} {noun}" + ("" if count == 1 else "s")


def table(rows: Sequence[Sequence[str]]) -> str:
    """Rows in aligned columns, the last one as wide as it is."""
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    return "".join(_aligned(row, widths) + "\n" for row in rows)


def _aligned(row: Iterable[str], widths: Iterable[int]) -> str:
    return "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def duration(seconds: float) -> str:
    """`0.3 s`, `42 s`, `5 min`, `3 h 20 min`, `2 d 4 h`."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    minutes, hours, days = int(seconds // 60), int(seconds // 3600), int(seconds // 86400)
    if hours < 1:
        return f"{minutes} min"
    if days < 1:
        return f"{hours} h {minutes % 60} min"
    return f"{days} d {hours % 24} h"


def size(octets: float) -> str:
    """`999 B`, `1.5 kB`, `2.0 GB`: powers of 1000, as rates are given."""
    for unit in ("B", "kB", "MB", "GB"):
        if octets < 1000:
            return f"{octets:.0f} B" if unit == "B" else f"{octets:.1f} {unit}"
        octets /= 1000
    return f"{octets:.1f} TB"
