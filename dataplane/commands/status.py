"""A node's status laid out for people: what `udplane status` and `udplane peers` print.

All of this works on the answer of the control socket, as `status.node_status` made it.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from dataplane.packets.verdicts import Direction, Event, Verdict

Status = Mapping[str, Any]


def render_status(status: Status) -> str:
    """The status for people, some twenty lines."""
    lines = [_line("node", f"{status['phase']}, up {duration(status['uptime_seconds'])}, udplane {status['version']}")]
    lines += _lease_lines(status)
    lines += _backend_lines(status["backend"])
    lines += [_line("rules", text) for text in _rules_texts(status["firewall"])]
    lines += _host_lines(status["host"])
    text = "\n".join(lines) + "\n\n" + render_peers([*status["peers"], *status["refused"]])
    if status["counters"] is not None:
        text += "\n" + render_counters(status["counters"])
    return text


def render_peers(peers: Sequence[Status]) -> str:
    """One line for each peer and each lease that is refused."""
    rows, refusals = [("PEER", "AT", "MTU", "LAST SEEN", "SENT", "RECEIVED")], ""
    for peer in peers:
        subnets = " ".join(peer["subnets"])
        if peer["refused"]:
            refusals += f"refused: {subnets} of {peer['public_ip']}: {peer['trouble']}\n"
            continue
        if not peer["reachable"]:
            rows.append((subnets, f"no way: {peer['trouble']}", "", "", "", ""))
            continue
        seen = peer["last_seen_seconds"]
        ago = "-" if peer["rx_bytes"] is None else "never" if seen is None else f"{duration(seen)} ago"
        sent, received = ("-" if peer[key] is None else size(peer[key]) for key in ("tx_bytes", "rx_bytes"))
        rows.append((subnets, _endpoint(peer["address"], peer["port"]), _mtu(peer), ago, sent, received))
    return (table(rows) if len(rows) > 1 else "no peers yet\n") + refusals


def _mtu(peer: Status) -> str:
    """The MTU in use, and what the kernel said of the path, if that was less than is configured."""
    learned = peer.get("learned_mtu")
    if learned is None:
        return str(peer["mtu"])
    return f"{peer['mtu']} (path: {learned['mtu']}, said {duration(learned['age_seconds'])} ago)"


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
    lines += [_line("", f"ignored: {entry}: {text}") for entry, text in store["ignored"].items()]
    return lines


def _backend_lines(backend: Status | None) -> list[str]:
    if backend is None:
        return []
    lines = [_line("backend", backend_line(backend))]
    if "engine" not in backend:
        return lines
    lines.append(_line("engine", f"{backend['engine']}, {_plural(backend['workers'], 'worker')}"))
    plain = ", ".join(f"{name} {state}" for name, state in backend["features"].items() if "(" not in state)
    explained = [f"{name} {state}" for name, state in backend["features"].items() if "(" in state]
    lines += [_line("", text) for text in (plain, *explained) if text]
    if backend["queue_overruns"]:
        lines.append(_line("", f"{backend['queue_overruns']} packets lost because the queue of the TUN was full"))
    if backend["receive_overruns"]:
        lines.append(_line("", f"{backend['receive_overruns']} datagrams lost because the receive buffer was full"))
    return lines


def backend_line(backend: Status) -> str:
    """A backend in one line, from its report."""
    where = _endpoint(backend["address"], backend["port"])
    device = f"{backend['device']} with " if backend["device"] else ""
    return f"{backend['type']}, {where} on {backend['interface']}, {device}MTU {backend['mtu']}"


def _rules_texts(firewall: Status) -> list[str]:
    kinds = [name for name in ("masquerade", "forward", "guard") if firewall[name]]
    if not kinds:
        return ["none asked for"]
    texts = [f"{_listed(kinds)}, held by {firewall['manager'] or 'nobody yet'}"]
    if firewall["guard_lacking"]:
        texts.append(f"the guard is not whole: {firewall['guard_lacking']}")
    if firewall["guard_dropped"]:
        texts.append(f"{firewall['guard_dropped']} packets of pods and users to other nodes' overlay port dropped")
    return texts


def _host_lines(host: Status) -> list[str]:
    """How many things are looked after, then what was put back and what cannot be had."""
    troubles = [f"NOT IN PLACE: {trouble}" for trouble in (*host["troubles"], *host["lesser_troubles"])]
    put_back = [f"{what} put back {_plural(count, 'time')}" for what, count in host["put_back"].items()]
    looked_after = f"{_plural(len(host['wishes']), 'thing')} looked after" if host["wishes"] else "nothing set up yet"
    return [_line("host", looked_after), *(_line("", text) for text in (*troubles, *put_back))]


def _listed(words: Sequence[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    *first, last = words
    return f"{', '.join(first)} and {last}" if first else last


def _line(label: str, text: str) -> str:
    return f"{label:10}{text}"


def _endpoint(address: str, port: int | None) -> str:
    if port is None:
        return address
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
