"""`udplane lab inject`: send a packet that is written as a scapy expression, and tell what became of it."""

import argparse
import re
from collections.abc import Callable

from dataplane.errors import UsageError
from dataplane.lab import counters, inside, sending
from dataplane.lab.dissect import OVERLAY_PORT
from dataplane.lab.verbs.common import add_lab
from dataplane.lab.view import LabView

HELP = 'send a scapy expression from a place: inject pod1 \'IP(dst="pod4")/UDP()/"hello"\''

MOST = 1000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Where, what, how."""
    add_lab(parser)
    parser.epilog = (
        "The expression is Python of your own and runs with your rights; names of places are known in it. What starts "
        "with Ether() leaves by the device as it is, what starts with IP() or IPv6() as if a program there sent it."
    )
    parser.add_argument("where", metavar="WHERE", help="a pod, node, host, router or wire of the lab")
    parser.add_argument("expression", metavar="EXPRESSION", help="scapy layers with / between them")
    parser.add_argument("--device", metavar="D", help="leave by this device: any for Ether(), a TUN for IP()")
    parser.add_argument(
        "--to", metavar="PLACE[:PORT]", help=f"as the payload of a UDP datagram to there (default port {OVERLAY_PORT})"
    )
    parser.add_argument("--count", type=_count, default=1, metavar="N", help="send it so many times")


def run(arguments: argparse.Namespace) -> int:
    """Send and tell."""
    if arguments.device and arguments.to:
        raise UsageError("--device and --to do not go together; leave one out")
    _, view = inside.move_in(arguments.lab, arguments.where)
    from dataplane.lab import scapy_packets

    names = {re.sub(r"\W", "_", place.name): str(place.interfaces[0].ip) for place in view.places() if place.addresses}
    packets = scapy_packets.packets(arguments.expression, names)
    sends = [_way(view, arguments, packet) for packet in packets] * arguments.count

    def send_all() -> None:
        for send in sends:
            send()

    moves = counters.watch(view, send_all)
    for packet in packets[:5]:
        print(
            f"sent from {arguments.where}: {scapy_packets.summary(packet)}, {len(scapy_packets.to_bytes(packet))} bytes"
        )
    if len(sends) > 1:
        print(f"{len(sends)} packets in all")
    for move in moves:
        direction, name, words = counters.description(move)
        print(f"  {move.where:10}{direction:7}+{move.after - move.before:<4}{words} ({name})")
    if not moves:
        print("  no counter of a node moved: it met no udplane on its way")
    return 0


def _way(view: LabView, arguments: argparse.Namespace, packet: object) -> Callable[[], None]:
    """What sends a packet. Raises UsageError or LabError when there is no way."""
    from dataplane.lab import scapy_packets

    data, kind = scapy_packets.to_bytes(packet), scapy_packets.kind(packet)
    place = view.find(arguments.where)
    if arguments.to:
        return lambda: sending.send_datagram(data, *sending.endpoint(arguments.to))
    if kind == "ethernet":
        return lambda: sending.send_frame(data, arguments.device or place.device)
    if kind == "data":
        raise UsageError(
            "the packet starts with neither Ether() nor IP() nor IPv6(); put one in front, or send it as the payload "
            "of a datagram: --to PLACE[:PORT]"
        )
    if arguments.device:
        if sending.is_ethernet(arguments.device):
            raise UsageError(
                f"frames of {arguments.device} start with Ethernet; put Ether(dst=...)/ in front, or leave --device out"
            )
        return lambda: sending.send_frame(data, arguments.device)
    return lambda: sending.send_routed(data, scapy_packets.destination(packet))


def _count(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,4}", text) or not 1 <= int(text) <= MOST:
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 1 to {MOST}")
    return int(text)
