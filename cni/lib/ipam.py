"""Address management as an interface plugin uses it: ask the IPAM delegate, then give the interface what it said."""

from __future__ import annotations

from cni.lib import addresses, links, sysctl
from cni.lib.delegate import delegate, preload
from cni.lib.errors import CniError
from cni.lib.gojson import JsonTypeError
from cni.lib.ip import format_ip
from cni.lib.netlink import NLM_F_CREATE, NetlinkError, NetlinkSocket
from cni.lib.netns import Netns
from cni.lib.rollback import Rollback
from cni.lib.skel import Call
from cni.lib.types import Interface, IPConfig, Result, Route

# These leave nothing behind when they fail.
SELF_CONTAINED = ("host-local", "static")
ARP_NOTIFY = "net/ipv4/conf/IFNAME/arp_notify"
NDISC_NOTIFY = "net/ipv6/conf/IFNAME/ndisc_notify"
SETTLE_SECONDS = 10
SETTLE_POLL_SECONDS = 0.02


def ipam_type(call: Call, complaint: str = "failed to load netconf", struct: str = "NetConf") -> str:
    """The IPAM plugin's name, empty for an interface without addresses. Raises CniError."""
    try:
        section = call.fields(struct).child("ipam", "IPAM", "types.IPAM")
        return section.text("type") if section else ""
    except JsonTypeError as error:
        raise CniError(f"{complaint}: {error}") from None


def needs_interface(call: Call) -> bool:
    """Whether the IPAM plugin's DEL works through the pod's interface: dhcp sends its release there."""
    try:
        return ipam_type(call) == "dhcp"
    except CniError:  # `forward` will say so
        return False


def prepare(call: Call) -> None:
    """Load the IPAM plugin if it will run in this process, so that `add` need not."""
    preload(call, ipam_type(call))


def add(call: Call) -> Result:
    """Reserve addresses. If the delegate fails, its DEL runs before the error goes on (specification, section 4.2).

    A SELF_CONTAINED one needs no DEL, and must not get one: its complaint may be that the container has an address
    already, which a DEL would take from it.
    """
    name = ipam_type(call)
    try:
        result = delegate(call, name, "ADD") or Result()
        if not result.ips:
            raise CniError("IPAM plugin returned missing IP config")
    except CniError:
        if name not in SELF_CONTAINED:
            _quietly_delete(call, name)
        raise
    return result


def _quietly_delete(call: Call, name: str) -> None:
    """Undo what a failing ADD may have reserved; the ADD's own error is the one to report."""
    try:
        delegate(call, name, "DEL")
    except CniError:
        return


def forward(call: Call) -> None:
    """Pass DEL, CHECK, GC or STATUS on to the IPAM plugin, if there is one."""
    name = ipam_type(call)
    if name:
        delegate(call, name, call.command)


def delete(call: Call) -> None:
    """Give the addresses back: for undoing an ADD."""
    delegate(call, ipam_type(call), "DEL")


def assign(call: Call, netns: Netns, result: Result, rollback: Rollback, notify: tuple[str, ...] = ()) -> None:
    """Reserve addresses, put them into `result` and on its only interface, the pod's. Raises CniError.

    `notify` are switches of that interface which are set first, where the kernel has them: to announce the addresses.
    """
    reserve(call, result, rollback)
    configure(call, netns, result, notify)


def configure(call: Call, netns: Netns, result: Result, notify: tuple[str, ...]) -> None:
    """Put the addresses of `result` on its only interface, as `assign` does."""
    with netns:
        for setting in notify:
            sysctl.try_write(setting.replace("IFNAME", call.ifname), "1")
    configure_interface(netns, call.ifname, result)


def reserve(call: Call, result: Result, rollback: Rollback) -> None:
    """Reserve addresses for the only interface of `result`, and put them there. Raises CniError."""
    reserved = add(call)
    rollback.push(lambda: delete(call))
    result.ips, result.routes, result.dns = reserved.ips, reserved.routes, reserved.dns
    for ip in result.ips:
        ip.interface = 0


def configure_interface(netns: Netns, ifname: str, result: Result, detect_duplicates: bool = False) -> None:
    """Give the pod's interface the addresses and routes of `result` and switch it on. Raises CniError."""
    with netns.netlink() as netlink:
        link = links.find_link(netlink, ifname)
        if link is None:
            raise CniError(f'failed to lookup "{ifname}": Link not found')
        ours = [ip for ip in result.ips if ip.interface is not None]
        for ip in ours:
            _check_interface_index(ip, ifname, result.interfaces)
        if any(len(ip.address.ip) == 16 for ip in ours):
            with netns:
                enable_ipv6(ifname)
                keep_addresses(ifname)
        for ip in ours:
            try:
                addresses.add_address(netlink, link.index, ip.address, detect_duplicates)
            except NetlinkError as error:
                raise CniError(f'failed to add IP addr {ip.address} to "{ifname}": {error}') from error
        try:
            links.set_up(netlink, link.index)
        except NetlinkError as error:
            raise CniError(f'failed to set "{ifname}" UP: {error}') from error
        if detect_duplicates:
            settle(netlink, link.index, ifname)
        add_routes(netlink, link.index, ifname, result.routes, ours)


def _check_interface_index(ip: IPConfig, ifname: str, interfaces: list[Interface]) -> None:
    index = -1 if ip.interface is None else ip.interface
    if not 0 <= index < len(interfaces) or interfaces[index].name != ifname:
        raise CniError(f'failed to add IP addr {ip.address} to "{ifname}": invalid interface index')


def enable_ipv6(ifname: str) -> None:
    """Let `lo` and the interface of the current namespace have IPv6 addresses, where an image has switched that off."""
    for name in ("lo", ifname):
        setting = f"net/ipv6/conf/{name}/disable_ipv6"
        try:
            if sysctl.read(setting) != "0":
                sysctl.write(setting, "0")
        except FileNotFoundError:  # no IPv6 in this kernel; adding the address will say so
            continue
        except OSError as error:
            raise CniError(f'failed to enable IPv6 for interface "{name}" ({setting}): {error.strerror}') from error


def keep_addresses(ifname: str) -> None:
    """Let the interface of the current namespace keep its IPv6 addresses when it goes down, as it does IPv4's."""
    try:
        sysctl.write(f"net/ipv6/conf/{ifname}/keep_addr_on_down", "1")
    except FileNotFoundError:  # as above
        return
    except OSError as error:
        raise CniError(f'failed to enable keep_addr_on_down for interface "{ifname}": {error.strerror}') from error


def settle(netlink: NetlinkSocket, index: int, ifname: str) -> None:
    """Wait until duplicate address detection has approved every address. Raises CniError if one is a duplicate."""
    import time

    deadline = time.monotonic() + SETTLE_SECONDS
    while True:
        found = addresses.list_addresses(netlink, index)
        for address in found:
            if address.duplicate:
                raise CniError(f"link {ifname} has address {address.net} that another host uses (dadfailed)")
        if not any(address.tentative for address in found):
            return
        if time.monotonic() > deadline:
            raise CniError(f"link {ifname} still has tentative addresses after {SETTLE_SECONDS} seconds")
        time.sleep(SETTLE_POLL_SECONDS)


def add_routes(netlink: NetlinkSocket, index: int, ifname: str, routes: list[Route], ips: list[IPConfig]) -> None:
    """Add a result's routes; one without a gateway takes the first gateway of its family, if there is one."""
    for route in routes:
        length = len(route.dst.ip)
        defaults = [ip.gateway for ip in ips if ip.gateway and len(ip.gateway) == length]
        gateway = route.gw or (defaults[0] if defaults else None)
        wanted = kernel_route(route, index, gateway)
        try:
            addresses.add_route(netlink, wanted, NLM_F_CREATE)
        except NetlinkError as error:
            via = format_ip(gateway) if gateway else "<nil>"
            raise CniError(f"failed to add route '{route.dst} via {via} dev {ifname}': {error}") from error


HIGHEST_SCOPE = 255


def kernel_route(route: Route, index: int, gateway: bytes | None) -> addresses.KernelRoute:
    """A result's route as the kernel takes it. Raises CniError for a number that it has no room for."""
    for key, number in route.extra.items():
        if not 0 <= number <= (HIGHEST_SCOPE if key == "scope" else 0xFFFFFFFF):
            raise CniError(f"invalid {key} {number} of the route to {route.dst}")
    wanted = addresses.KernelRoute(route.dst, index, gateway, scope=route.extra.get("scope", 0))
    wanted.table = route.extra.get("table", 0)
    wanted.priority = route.extra.get("priority", 0)
    wanted.mtu = route.extra.get("mtu", 0)
    wanted.advmss = route.extra.get("advmss", 0)
    return wanted
