"""`udplane status`: what the node of a run directory is doing, laid out for people or as JSON.

All of this works on the answer of the control socket, as `node.status` made it.
"""

import argparse

from dataplane.backends.report import BackendReport, backend_line
from dataplane.commands.peers import render_peers
from dataplane.commands.with_node import add_json, add_run_dir, client, show
from dataplane.node.document import CountersDocument, FirewallDocument, HostDocument, StatusDocument
from dataplane.packets.verdicts import Direction, Event, Verdict
from dataplane.text import duration, listed, plural, size


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Whose status, and how to print it."""
    add_run_dir(parser)
    add_json(parser)


def run(namespace: argparse.Namespace) -> int:
    """Ask the node and print."""
    show(namespace, client(namespace).status(), render_status)
    return 0


def render_status(status: StatusDocument) -> str:
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


def render_counters(counters: CountersDocument) -> str:
    """Both directions' totals, then every reason for which something was dropped, in words."""
    text = ""
    for direction, counts in ((Direction.ENCAP, counters["encap"]), (Direction.DECAP, counters["decap"])):
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


def _lease_lines(status: StatusDocument) -> list[str]:
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
    without = "OUT OF REACH" if network is not None else "NO NETWORK CONFIG"
    state = f"{without}: {store['trouble']}" if store["trouble"] else "in reach"
    lines.append(_line("store", f"{store['url']}, {state}"))
    lines += [_line("", f"ignored: {entry}: {text}") for entry, text in store["ignored"].items()]
    return lines


def _backend_lines(backend: BackendReport | None) -> list[str]:
    if backend is None:
        return []
    lines = [_line("backend", backend_line(backend))]
    if "engine" not in backend:
        return lines
    lines.append(_line("engine", f"{backend['engine']}, {plural(backend['workers'], 'worker')}"))
    plain = ", ".join(f"{name} {state}" for name, state in backend["features"].items() if "(" not in state)
    explained = [f"{name} {state}" for name, state in backend["features"].items() if "(" in state]
    lines += [_line("", text) for text in (plain, *explained) if text]
    if backend["queue_overruns"]:
        lines.append(_line("", f"{backend['queue_overruns']} packets lost because the queue of the TUN was full"))
    if backend["receive_overruns"]:
        lines.append(_line("", f"{backend['receive_overruns']} datagrams lost because the receive buffer was full"))
    return lines


def _rules_texts(firewall: FirewallDocument) -> list[str]:
    kinds = [name for name in ("masquerade", "forward", "guard") if firewall[name]]
    if not kinds:
        return ["none asked for"]
    texts = [f"{listed(kinds)}, held by {firewall['manager'] or 'nobody yet'}"]
    if firewall["guard_lacking"]:
        texts.append(f"the guard is not whole: {firewall['guard_lacking']}")
    if firewall["guard_dropped"]:
        texts.append(f"{firewall['guard_dropped']} packets of pods and users to other nodes' overlay port dropped")
    return texts


def _host_lines(host: HostDocument) -> list[str]:
    """How many things are looked after, then what was put back and what cannot be had."""
    troubles = [f"NOT IN PLACE: {trouble}" for trouble in (*host["troubles"], *host["lesser_troubles"])]
    put_back = [f"{what} put back {plural(count, 'time')}" for what, count in host["put_back"].items()]
    looked_after = f"{plural(len(host['wishes']), 'thing')} looked after" if host["wishes"] else "nothing set up yet"
    return [_line("host", looked_after), *(_line("", text) for text in (*troubles, *put_back))]


def _line(label: str, text: str) -> str:
    return f"{label:10}{text}"
