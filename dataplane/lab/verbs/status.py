"""`udplane lab status`: what stands in a lab, and how its nodes are."""

import argparse
import json
from dataclasses import asdict

from dataplane.errors import NodeError
from dataplane.lab import state
from dataplane.lab.verbs.common import add_lab
from dataplane.lab.view import LabView, NodePlace, Place
from dataplane.node.control import ControlClient
from dataplane.node.run_directory import RunDirectory
from dataplane.text import table

HELP = "what stands in a lab, and how its nodes are"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which, and how to print."""
    add_lab(parser)
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(arguments: argparse.Namespace) -> int:
    """Ask every node and print."""
    lab = state.find(arguments.lab)
    view = lab.view()
    if arguments.json:
        document = {"lab": asdict(view), "keeper": asdict(lab.record), "nodes": {n.name: phase(n) for n in view.nodes}}
        print(json.dumps(document, indent=2))
    else:
        print(f"lab {lab.name}, topology {lab.record.topology}, files in {lab.directory}")
        print(describe(view))
    return 0


def phase(node: NodePlace) -> str:
    """How the node says that it is; `gone` if it does not answer."""
    if not node.backend:
        return "without udplane"
    try:
        return str(ControlClient(RunDirectory(node.run_dir).control_socket).status()["phase"])
    except NodeError:
        return "gone"


def describe(view: LabView) -> str:
    """Everything with its addresses, pods below their nodes."""
    rows = []
    for node in view.nodes:
        what = ", ".join(filter(None, (phase(node), node.backend, node.engine)))
        rows.append([node.name, _addresses(node), f"{what}; on {node.segment}, pods in {' and '.join(node.subnets)}"])
        rows += [
            [f"  {pod.name}", _addresses(pod), pod.host_device or "not connected"] for pod in view.pods_of(node.name)
        ]
    rows += [[host.name, _addresses(host), f"host on {' and '.join(host.devices)}"] for host in view.hosts]
    rows += [[one.name, _addresses(one), f"wire, MTU {one.mtu}: {', '.join(one.ports)}"] for one in view.segments]
    return table(rows)


def _addresses(place: Place) -> str:
    return " ".join(str(interface.ip) for interface in place.interfaces) or "-"
