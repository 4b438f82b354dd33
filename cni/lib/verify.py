"""CHECK: does the pod still look as the result of its ADD says? The texts are those of the official plugins."""

from __future__ import annotations

from cni.lib import addresses, links
from cni.lib.errors import CniError
from cni.lib.ip import family, format_ip
from cni.lib.netlink import NetlinkSocket
from cni.lib.skel import Call
from cni.lib.types import Interface, IPConfig, Result, Route


def previous_result(call: Call) -> Result:
    """The result of the ADD, without which nothing can be checked."""
    previous = call.prev_result()
    if previous is None:
        raise CniError("Required prevResult missing")
    return previous


def pod_interface(call: Call, previous: Result, complaint: str = "Sandbox") -> Interface:
    """The pod's interface in the result, in the call's namespace. `complaint` is the message's first word."""
    for interface in reversed(previous.interfaces):
        if (interface.name, interface.sandbox) == (call.ifname, call.netns):
            return interface
    raise CniError(f"{complaint} in prevResult  doesn't match configured netns: {call.netns}")


def pod_link(
    netlink: NetlinkSocket, wanted: Interface, kind: str = "", prefix: str = "", capital: bool = True
) -> links.Link:
    """The link of the pod's interface in the result, of that kind and with the result's MAC address.

    Raises CniError. The official plugins begin the messages with a prefix of their own, or without a capital.
    """

    def refuse(text: str, begin: str = "") -> CniError:
        return CniError(begin + (text if capital else text[:1].lower() + text[1:]))

    link = links.find_link(netlink, wanted.name)
    if link is None:
        raise refuse(f"Container Interface name in prevResult: {wanted.name} not found", prefix)
    if kind and link.kind != kind:
        raise refuse(f"Error: Container interface {link.name} not of type {kind}")
    if wanted.mac and wanted.mac != link.mac:
        raise refuse(f"Interface {wanted.name} Mac {wanted.mac} doesn't match container Mac: {link.mac}", prefix)
    return link


def find_interface(netlink: NetlinkSocket, wanted: Interface, in_pod: bool) -> links.Link:
    """The link of an interface in the result. Raises CniError if it is gone or on the wrong side."""
    if not wanted.name:
        raise CniError("Interface name missing ")
    link = links.find_link(netlink, wanted.name)
    if link is None:
        raise CniError(f"Interface name {wanted.name} not found")
    if in_pod and not wanted.sandbox:
        raise CniError(f"Interface {wanted.name} is expected to be in a sandbox")
    if not in_pod and wanted.sandbox:
        raise CniError(f"Interface {wanted.name} should not be in sandbox")
    return link


def check_addresses(netlink: NetlinkSocket, ifname: str, ips: list[IPConfig]) -> None:
    """Every address of the result has to be on the interface."""
    if not ips:
        return
    link = links.find_link(netlink, ifname)
    if link is None:
        raise CniError(f"Cannot find container link {ifname}")
    present = {address.net for address in addresses.list_addresses(netlink, link.index)}
    for ip in ips:
        if ip.address not in present:
            raise CniError(f"Failed to match addr {ip.address} on interface {ifname}")


def check_routes(netlink: NetlinkSocket, routes: list[Route]) -> None:
    """Every route of the result has to be in the pod's tables, by its gateway if it names one.

    One that names no table may have been moved, by sbr, to a table that a rule leads to.
    """
    tables: dict[tuple[int, int], list[addresses.KernelRoute]] = {}

    def is_in(table: int, route: Route) -> bool:
        key = (family(route.dst.ip), table)
        if key not in tables:
            tables[key] = addresses.list_routes(netlink, key[0], table=table)
        wanted = route.dst.network
        return any(found.dst == wanted and route.gw in (None, found.gateway) for found in tables[key])

    for route in routes:
        table = route.extra.get("table", 0)
        if is_in(table or addresses.RT_TABLE_MAIN, route):
            continue
        if table or not any(is_in(other, route) for other in _tables_of_rules(netlink)):
            via = f" via {format_ip(route.gw)}" if route.gw else ""
            raise CniError(f"Expected Route {route.dst.network}{via} not found in routing table")


def _tables_of_rules(netlink: NetlinkSocket) -> set[int]:
    from cni.lib.rules import tables_in_use

    return tables_in_use(netlink) - {addresses.RT_TABLE_MAIN, addresses.RT_TABLE_LOCAL}
