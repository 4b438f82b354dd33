"""`udplane capture`: both sides of the tunnel, inner and outer, as pcapng."""

import argparse
import sys
from ipaddress import ip_address, ip_network

from dataplane.capture.capture import Capture, CaptureRequest, Tunnel, capture_to
from dataplane.capture.filter import compile_filter
from dataplane.commands.with_node import add_run_dir, client
from dataplane.errors import NodeError, UsageError
from dataplane.flags import count, seconds
from dataplane.kernel.netns import enter_netns_of
from dataplane.node.document import StatusDocument


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which packets, where to, how many and how long."""
    add_run_dir(parser)
    parser.add_argument("-w", dest="output", required=True, metavar="FILE", help="where to write, - for stdout")
    parser.add_argument(
        "--filter",
        nargs="+",
        default=[],
        metavar="WORD",
        help="host ADDRESS, port N, tcp, udp, icmp, peer ADDRESS, with and, or, not and brackets, about inner packets",
    )
    parser.add_argument("--count", type=count, metavar="N", help="stop after so many packets")
    parser.add_argument("--seconds", type=seconds, metavar="SECONDS", help="stop after so long")


def run(namespace: argparse.Namespace) -> int:
    """Capture where the node is, until there is enough or Ctrl-C."""
    text = " ".join(namespace.filter)
    request = CaptureRequest(compile_filter(text), text, namespace.count, namespace.seconds)
    if namespace.output == "-" and sys.stdout.isatty():
        raise UsageError("a capture is no text for a terminal; give -w FILE, or pipe it: | wireshark -k -i -")
    node = client(namespace)
    tunnel = _tunnel(node.status())
    enter_netns_of(node.process_id())
    capture = Capture(tunnel, request)
    capture_to(namespace.output, capture)
    lost = f", {capture.dropped} more lost for want of room" if capture.dropped else ""
    print(f"captured {capture.captured} packets{lost}", file=sys.stderr)
    return 0


def _tunnel(status: StatusDocument) -> Tunnel:
    """What the node with this status moves packets through; NodeError if it moves none itself."""
    backend = status["backend"]
    if backend is None:
        raise NodeError(f"the node is {status['phase']} and has no devices yet; see `udplane status`")
    device, port = backend["device"], backend["port"]
    if "engine" not in backend or device is None or port is None:
        where = device or backend["interface"]
        raise NodeError(
            f"the kernel moves the packets of the {backend['type']} backend; watch them with `tcpdump -i {where}`"
        )
    owners = [
        (ip_network(subnet), ip_address(peer["address"]))
        for peer in status["peers"]
        if peer["reachable"]
        for subnet in peer["subnets"]
    ]
    return Tunnel(device, backend["interface"], ip_address(backend["address"]), port, owners)
