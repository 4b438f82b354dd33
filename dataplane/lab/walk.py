"""A packet walk: one echo request, seen at every device on its way, and what has changed since the device before.

1. A packet socket is opened on each device of the way (`sniff`).
2. The sender's namespace pings once (`ping`).
3. The copies are taken apart (`headers`), and those of this echo request picked out by its ICMP identifier and
   sequence number, which no hop changes, whether it travels plainly or inside a datagram of the overlay.
4. Each copy is compared with the one before, header by header from the inside out.

A way has an order, known from the topology; time stamps are shown but nothing is inferred from them. A device where
the packet was expected and not seen is part of the answer: the packet was lost just before it.
"""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from dataplane.addresses import Address
from dataplane.lab.headers import ECHO_REQUEST, Header, dissect
from dataplane.lab.netns import Namespace
from dataplane.lab.ping import Pinger, Reply
from dataplane.lab.sniff import Frame, Sniffer
from dataplane.lab.topology import Lab, Node, Pod


@dataclass(frozen=True, slots=True)
class Point:
    """A device on the way."""

    place: str
    netns: Namespace
    device: str
    outgoing: bool
    """Whether the packet leaves the namespace by the device, or comes in by it."""
    note: str
    """What happens to a packet here, in a few words."""


@dataclass(frozen=True, slots=True)
class Change:
    """How one header differs from the device before."""

    kind: str
    """`+` a header that was put on, `-` one that was taken off, `~` one of which fields changed."""
    header: str
    fields: dict[str, str]
    """Field and value; for `~` the old value, an arrow and the new one."""


@dataclass(frozen=True, slots=True)
class Step:
    """The packet at one point."""

    point: Point
    frame: Frame | None
    """None: not seen here."""
    changes: tuple[Change, ...]


@dataclass(frozen=True, slots=True)
class Walk:
    """An echo request's way, and the answer that came back."""

    steps: tuple[Step, ...]
    reply: Reply | None

    @property
    def arrived(self) -> bool:
        """Whether the request was seen at its last point."""
        return self.steps[-1].frame is not None


def overlay_way(lab: Lab, source: tuple[Node, Pod], target: tuple[Node, Pod], tun: str = "udplane0") -> list[Point]:
    """The devices between pods on two nodes that an overlay joins."""
    (node, pod), (peer, peer_pod) = source, target
    return [
        Point(pod.name, pod.netns, "eth0", True, "the pod's end of its wire"),
        Point(node.name, node.netns, pod.host_device, False, "the node's end of that wire"),
        Point(node.name, node.netns, "cni0", False, "bridge: the pod's gateway"),
        Point(node.name, node.netns, tun, True, "TUN: the kernel has routed it, udplane reads it"),
        Point(node.name, node.netns, "eth0", True, "udplane has put it into a UDP datagram"),
        Point("underlay", lab.underlay, node.name, False, "the wire between the nodes"),
        Point("underlay", lab.underlay, peer.name, True, "the wire between the nodes"),
        Point(peer.name, peer.netns, "eth0", False, "the peer's udplane takes it from here"),
        Point(peer.name, peer.netns, tun, False, "TUN: udplane has taken it out and written it"),
        Point(peer.name, peer.netns, "cni0", True, "bridge: the kernel has routed it"),
        Point(peer.name, peer.netns, peer_pod.host_device, True, "the node's end of the wire"),
        Point(peer_pod.name, peer_pod.netns, "eth0", False, "the pod's end of its wire"),
    ]


def walk(way: Sequence[Point], destination: Address, *, size: int = 56, timeout: float = 2.0) -> Walk:
    """Ping `destination` once from the first point's namespace and follow the request along `way`."""
    with ExitStack() as stack:
        sniffers = [stack.enter_context(Sniffer(point.netns, point.device)) for point in way]
        pinger = stack.enter_context(Pinger(way[0].netns, destination))
        reply = pinger.ping(1, size=size, timeout=timeout)
        frames = [
            _find(sniffer, point.outgoing, pinger.identifier) for sniffer, point in zip(sniffers, way, strict=True)
        ]
    steps, before = [], list[Header]()
    for point, frame in zip(way, frames, strict=True):
        headers = dissect(frame.data, ethernet=frame.ethernet) if frame else before
        steps.append(Step(point, frame, tuple(compare(before, headers))))
        before = headers
    return Walk(tuple(steps), reply)


def _find(sniffer: Sniffer, outgoing: bool, identifier: int) -> Frame | None:
    """The first copy of the echo request with that ICMP identifier, in that direction."""
    for frame in sniffer.frames():
        if frame.outgoing == outgoing:
            innermost = dissect(frame.data, ethernet=frame.ethernet)[-1:]
            if (
                innermost
                and innermost[0].fields.get("type") == ECHO_REQUEST
                and innermost[0].fields["id"] == identifier
            ):
                return frame
    return None


def compare(before: Sequence[Header], after: Sequence[Header]) -> list[Change]:
    """What differs between two sights of one packet, outermost header first.

    The innermost headers are the same ones; going outwards, from the first that is of another protocol on, the old
    headers were taken off and the new ones put on.
    """
    common = 0
    while common < min(len(before), len(after)) and before[-1 - common].name == after[-1 - common].name:
        common += 1
    n_off, n_on = len(before) - common, len(after) - common
    changes = [Change("-", header.name, _text(header)) for header in before[:n_off]]
    changes += [Change("+", header.name, _text(header)) for header in after[:n_on]]
    for old, new in zip(before[n_off:], after[n_on:], strict=True):
        fields = {key: f"{old.fields[key]} → {value}" for key, value in new.fields.items() if old.fields[key] != value}
        if fields:
            changes.append(Change("~", new.name, fields))
    return changes


def _text(header: Header) -> dict[str, str]:
    return {key: str(value) for key, value in header.fields.items()}
