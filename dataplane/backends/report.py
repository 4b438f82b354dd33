"""What a backend says about itself: its part of the node's status."""

from typing import NotRequired, TypedDict

from dataplane.text import endpoint


class BackendReport(TypedDict):
    """A backend's part of the status, as JSON has it."""

    type: str
    """As in the network config: udp, vxlan, host-gw."""
    interface: str
    """The external interface."""
    address: str
    """This node's address on the underlay."""
    port: int | None
    """The UDP port; None where pods' packets travel as they are."""
    device: str | None
    """The TUN or VXLAN device; None where there is none."""
    mtu: int
    """Bytes of the largest packet that pods may send."""
    engine: NotRequired[str]
    """This key and those below: of a backend that moves packets in this process."""
    workers: NotRequired[int]
    features: NotRequired[dict[str, str]]
    """Offloads by name: `on`, or `off (why)`; and the variant of the checksum."""
    receive_buffer_bytes: NotRequired[int]
    send_buffer_bytes: NotRequired[int]
    queue_overruns: NotRequired[int]
    """Packets lost because the queue of the TUN was full."""
    receive_overruns: NotRequired[int]
    """Datagrams lost because the receive buffer was full."""


def backend_line(report: BackendReport) -> str:
    """A backend in one line."""
    where = endpoint(report["address"], report["port"])
    device = f"{report['device']} with " if report["device"] else ""
    return f"{report['type']}, {where} on {report['interface']}, {device}MTU {report['mtu']}"
