"""The view of a lab that one process has built by itself, such as the demo."""

from dataplane.lab.overlay import NETWORK_CONFIG, TUN, Overlay
from dataplane.lab.topology import UNDERLAY_MTU, Lab
from dataplane.lab.view import LabView, NodePlace, PodPlace, SegmentPlace

TUNNELS = {"udp": TUN, "vxlan": "flannel.1", "host-gw": ""}
"""The overlay's device by backend."""


def view_of(lab: Lab, overlay: Overlay, *, backend: str = "udp", engine: str = "native") -> LabView:
    """What stands: `overlay` with the nodes and pods of `lab`."""
    nodes = tuple(
        NodePlace(
            daemon.node.name,
            daemon.node.netns.name,
            tuple(str(address) for address in daemon.node.addresses),
            segment="underlay",
            backend=backend,
            engine=engine,
            tunnel=TUNNELS[backend],
            directory=str(daemon.directory),
            subnets=tuple(str(subnet) for subnet in daemon.lease()[0]),
        )
        for daemon in overlay.daemons
    )
    pods = tuple(
        PodPlace(
            pod.name,
            pod.netns.name,
            tuple(str(address) for address in pod.addresses),
            node=node.name,
            host_device=pod.host_device,
        )
        for node in lab.nodes
        for pod in node.pods
    )
    ports = {node.name: node.name for node in lab.nodes}
    underlay = SegmentPlace("underlay", lab.underlay.name, (), "br0", ports=ports, mtu=UNDERLAY_MTU)
    return LabView("demo", str(overlay.directory), NETWORK_CONFIG, overlay.store, nodes, pods, (), (underlay,))
