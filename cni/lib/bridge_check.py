"""CHECK of the bridge plugin: is everything still as the ADD's result says? The texts are the official plugin's."""

from __future__ import annotations

from cni.lib import ipam, links, verify
from cni.lib.errors import CniError
from cni.lib.netlink import NetlinkSocket
from cni.lib.netns import open_netns
from cni.lib.skel import Call
from cni.lib.types import Interface, Result

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cni.lib.bridge_vlans import Vlans


def check_attachment(call: Call, bridge_name: str, promiscuous: bool, vlans: Vlans | None = None) -> None:
    """Compare the pod, its veth pair and the bridge with prevResult, and the port with the configured VLANs.

    Raises CniError at the first difference.
    """
    netns = open_netns(call.netns)
    ipam.forward(call)
    previous = verify.previous_result(call)
    with NetlinkSocket() as host, netns.netlink() as inside:
        bridge_interface = _named(previous, bridge_name)
        bridge = _check_bridge(host, bridge_interface, promiscuous)
        pod_interface = _named(previous, call.ifname, call.netns)
        if pod_interface.sandbox != call.netns:
            sandbox = pod_interface.sandbox
            raise CniError(f"Sandbox in prevResult {sandbox} doesn't match configured netns: {call.netns}")
        pod = verify.find_interface(inside, pod_interface, in_pod=True)
        if pod.kind != "veth":
            raise CniError(f"Container interface {pod.name} not of type veth")
        if pod_interface.mac and pod_interface.mac != pod.mac:
            name, mac = pod_interface.name, pod_interface.mac
            raise CniError(f"Interface {name} Mac {mac} doesn't match container Mac: {pod.mac}")
        others = [i for i in previous.interfaces if i.name not in (bridge_interface.name, pod_interface.name)]
        port = _check_host_veth(host, others, pod, bridge)
        if vlans:
            _check_vlans(host, port, bridge, vlans)
        verify.check_addresses(inside, call.ifname, previous.ips)
        verify.check_routes(inside, previous.routes)


def _named(result: Result, name: str, sandbox: str = "") -> Interface:
    """The interface of that name in the result, or an empty one."""
    found = [interface for interface in result.interfaces if interface.name == name]
    return next((interface for interface in found if interface.sandbox == sandbox or not sandbox), Interface(""))


def _check_bridge(host: NetlinkSocket, wanted: Interface, promiscuous: bool) -> links.Link:
    link = verify.find_interface(host, wanted, in_pod=False)
    if link.kind != "bridge":
        raise CniError(f"Interface {wanted.name} does not have link type of bridge")
    if wanted.mac and wanted.mac != link.mac:
        raise CniError(f"Bridge interface {wanted.name} Mac doesn't match: {wanted.mac}")
    if link.promiscuous != promiscuous:
        states = f"{str(promiscuous).lower()} doesn't match current state: {str(link.promiscuous).lower()} "
        raise CniError(f"Bridge interface {wanted.name} configured Promisc Mode {states}")
    return link


def _check_host_veth(host: NetlinkSocket, others: list[Interface], pod: links.Link, bridge: links.Link) -> links.Link:
    """One of the other interfaces has to be the pod's partner and a port of the bridge; gives it."""
    for wanted in others:
        link = verify.find_interface(host, wanted, in_pod=False)
        partners = link.kind == "veth" and link.index == pod.peer and link.peer == pod.index
        if not partners or link.master != bridge.index:
            continue
        if wanted.mac and wanted.mac != link.mac:
            raise CniError(f"Interface {wanted.name} Mac doesn't match: {wanted.mac} not found")
        return link
    raise CniError(f"CNI veth created for bridge {bridge.name} was not found")


def _check_vlans(host: NetlinkSocket, port: links.Link, bridge: links.Link, vlans: Vlans) -> None:
    """The bridge has to keep VLANs apart, and the port has to be in its own."""
    from cni.lib.bridge_vlans import list_ports, require_filtering

    require_filtering(bridge)
    if not vlans.are_on(list_ports(host, bridge).get(port.index, {})):
        raise CniError(f"Interface {port.name} is not in the VLANs of the configuration")
