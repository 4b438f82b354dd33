"""The same ping by each backend of a lab, captured where it leaves a node: what each of them puts around it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from dataplane.lab.netns import LabError
from dataplane.lab.ping import Pinger
from dataplane.lab.sniff import Frame, Sniffer
from dataplane.lab.view import LabView, NodePlace, PodPlace
from dataplane.lab.web.captures import packet_document

DATA = b"the same ping, by each backend of this lab: udp vxlan gw"
"""What the ping carries, and what its frame is recognised by."""

SECONDS = 3.0
"""How long an answer may take."""
TRIES = 3


def side_by_side(view: LabView) -> dict[str, Any]:
    """A ping by each backend, and the frame in which it left. Raises LabError where no two nodes have pods to ping."""
    found = [capture(*pair) for pair in pairs(view)]
    if not found:
        raise LabError(
            "no two nodes of one backend have pods here; `udplane lab up backends` makes a lab with all three"
        )
    return {"size": len(DATA), "backends": found}


def pairs(view: LabView) -> Iterator[tuple[NodePlace, PodPlace, PodPlace]]:
    """For each backend a node, a pod of it, and a pod of another node with the same."""
    for backend in dict.fromkeys(node.backend for node in view.nodes):
        nodes = [node for node in view.nodes if node.backend == backend and node.subnets and _pod(view, node)]
        if len(nodes) > 1:
            first, second = _pod(view, nodes[0]), _pod(view, nodes[1])
            if first and second:
                yield nodes[0], first, second


def _pod(view: LabView, node: NodePlace) -> PodPlace | None:
    return next((pod for pod in view.pods_of(node.name) if any(one.version == 4 for one in pod.interfaces)), None)


def capture(node: NodePlace, source: PodPlace, target: PodPlace) -> dict[str, Any]:
    """Ping once, and take the request from the node's own device on the underlay."""
    head = {"backend": node.backend, "node": node.name, "from": source.name, "to": target.name}
    with Sniffer(node.namespace, node.device) as sniffer:
        answered = _ping(source, target)
        frame = _request(sniffer)
    if frame is None:
        return {**head, "missing": "no frame with the ping left by " + node.device}
    return {**head, "answered": answered, **packet_document(frame)}


def _ping(source: PodPlace, target: PodPlace) -> bool:
    with Pinger(source.namespace, target.address(4)) as pinger:
        return any(pinger.ping(n, data=DATA, timeout=SECONDS / TRIES) is not None for n in range(1, TRIES + 1))


def _request(sniffer: Sniffer) -> Frame | None:
    deadline = time.monotonic() + SECONDS / TRIES
    while time.monotonic() < deadline:
        for frame in sniffer.frames():
            if frame.outgoing and DATA in frame.data:
                return frame
        time.sleep(0.02)
    return None
