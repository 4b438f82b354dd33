"""`udplane peers`: every lease with its underlay address, last seen, bytes each way."""

import argparse
from collections.abc import Sequence

from dataplane.commands.with_node import add_json, add_run_dir, client, show
from dataplane.node.document import PeerDocument
from dataplane.text import duration, endpoint, size, table


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Whose peers, and how to print them."""
    add_run_dir(parser)
    add_json(parser)


def run(namespace: argparse.Namespace) -> int:
    """Ask the node and print."""
    status = client(namespace).status()
    show(namespace, [*status["peers"], *status["refused"]], render_peers)
    return 0


def render_peers(peers: Sequence[PeerDocument]) -> str:
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
        sent, received = ("-" if octets is None else size(octets) for octets in (peer["tx_bytes"], peer["rx_bytes"]))
        rows.append((subnets, endpoint(peer["address"], peer["port"]), _mtu(peer), ago, sent, received))
    return (table(rows) if len(rows) > 1 else "no peers yet\n") + refusals


def _mtu(peer: PeerDocument) -> str:
    """The MTU in use, and what the kernel said of the path, if that was less than is configured."""
    learned = peer.get("learned_mtu")
    if learned is None:
        return str(peer["mtu"])
    return f"{peer['mtu']} (path: {learned['mtu']}, said {duration(learned['age_seconds'])} ago)"
