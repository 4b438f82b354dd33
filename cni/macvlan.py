"""macvlan: gives the pod a MAC address of its own on one of the node's interfaces, the master.

ADD makes the link on the master, inside the pod, under a temporary name: the kernel looks for the name among the
node's own interfaces first, and the node has an eth0 too. Then it gets its name, and the IPAM plugin's addresses;
without an IPAM plugin it just goes up (layer 2). DEL needs neither the master nor the pod: the link goes with the
pod's namespace, and the reservation by container id and interface name. With its name the link gets its label (see
cni.lib.ownership), so that DEL leaves the link of the pod that a stale namespace path leads to.
"""

from __future__ import annotations

from cni.lib import addresses, ipam, links, ownership, sysctl, verify, veth
from cni.lib.args import parse_args
from cni.lib.errors import PLUGIN_NOT_AVAILABLE, CniError
from cni.lib.gojson import JsonTypeError
from cni.lib.ip import AF_INET, AF_INET6
from cni.lib.netlink import U32, NetlinkError, NetlinkSocket, attribute, attribute_text, attribute_u32, parse_attributes
from cni.lib.netns import Netns, open_netns, open_netns_if_present
from cni.lib.rollback import Attempts, Rollback
from cni.lib.skel import Attachment, Call, Plugin, main
from cni.lib.types import DNS, Interface, Result

IFLA_MACVLAN_MODE = 1
IFLA_MACVLAN_BC_QUEUE_LEN = 7
MODES = {"private": 1, "vepa": 2, "bridge": 4, "passthru": 8}
DEFAULT_MODE = "bridge"


class Config:
    """What the network configuration says, with what the runtime adds."""

    def __init__(self, call: Call) -> None:
        """Raises CniError in the words of the official plugin."""
        try:
            fields = call.fields()
            self.master = fields.text("master")
            self.mode = fields.text("mode") or DEFAULT_MODE
            self.mtu = fields.number("mtu")
            self.mac = fields.text("mac")
            self.in_container = fields.flag("linkInContainer")
            self.queue_len = fields.number("bcqueuelen", go_type="uint32")
            self.dns = DNS.read(fields.child("dns", "DNS", "types.DNS"))
            runtime_config = fields.child("runtimeConfig", "")
            runtime_mac = runtime_config.text("mac") if runtime_config else ""
        except JsonTypeError as error:
            raise CniError(f"failed to load netconf: {error}") from None
        self.mac = runtime_mac or parse_args(call, ("MAC",)).get("MAC", "") or self.mac

    def find_master(self, netlink: NetlinkSocket) -> links.Link:
        """The interface to build on: the one named, or that of the first default route. Raises CniError."""
        master = links.find_link(netlink, self.master) if self.master else _default_route_link(netlink)
        if master is None:
            raise CniError("Link not found")
        if not 0 <= self.mtu <= master.mtu:
            raise CniError(f"invalid MTU {self.mtu}, must be [0, master MTU({master.mtu})]")
        return master

    @property
    def mode_number(self) -> int:
        """The mode as the kernel knows it."""
        if self.mode not in MODES:
            raise CniError(f'unknown macvlan mode: "{self.mode}"')
        return MODES[self.mode]


def _default_route_link(netlink: NetlinkSocket) -> links.Link | None:
    for of_family in (AF_INET, AF_INET6):
        for route in addresses.list_routes(netlink, of_family):
            if route.dst.prefix_len == 0 and route.index:
                return links.find_link(netlink, index=route.index)
    raise CniError("no default route interface found")


def add(call: Call) -> Result:
    """Make the link and give it its addresses."""
    config = Config(call)
    result = Result()
    with Rollback() as rollback:
        result.interfaces = [_make_link(call, config, rollback)]
        netns = open_netns(call.netns)
        if ipam.ipam_type(call):
            reserved = ipam.add(call)
            rollback.push(lambda: ipam.delete(call))
            result.ips, result.routes, result.dns = reserved.ips, reserved.routes, reserved.dns
            for ip in result.ips:
                ip.interface = 0
            with netns:
                sysctl.try_write(f"net/ipv4/conf/{call.ifname}/arp_notify", "1")
                sysctl.try_write(f"net/ipv6/conf/{call.ifname}/ndisc_notify", "1")
            ipam.configure_interface(netns, call.ifname, result)
        else:
            with netns.netlink() as inside:
                links.set_up(inside, links.get_link(inside, call.ifname).index)
        rollback.pop_all()
    if config.dns.given:
        result.dns = config.dns
    return result


def _make_link(call: Call, config: Config, rollback: Rollback) -> Interface:
    """Make the macvlan and put it into the pod under its name."""
    netns: Netns | None = open_netns(call.netns) if config.in_container else None
    with netns.netlink() if netns else NetlinkSocket() as outside:
        master = config.find_master(outside)
        mode = config.mode_number
        netns = netns or open_netns(call.netns)
        name = _temporary_name(call)
        _delete_link(netns, call, name)  # what an ADD that was killed has left
        try:
            links.add_link(outside, name, "macvlan", *_attributes(config, master, netns), data=_data(config, mode))
        except NetlinkError as error:
            raise CniError(f"failed to create macvlan: {error}") from error
    with netns.netlink() as inside:
        made = links.get_link(inside, name)
        rollback.push(lambda: _delete_link(netns, call, name))
        try:
            label = ownership.label_attribute(call.name, Attachment(call.container_id, call.ifname))
            links.set_link(inside, made.index, attribute_text(links.IFLA_IFNAME, call.ifname), label)
        except NetlinkError as error:
            raise CniError(f'failed to rename macvlan to "{call.ifname}": {error}') from error
        rollback.push(lambda: _delete_link(netns, call, call.ifname))
    return Interface(call.ifname, made.mac, call.netns)


def _temporary_name(call: Call) -> str:
    """The name that the link is made under. It follows from the attachment, so that DEL finds it."""
    return veth.host_name(call.name, Attachment(call.container_id, call.ifname))


def _delete_link(netns: Netns, call: Call, name: str) -> None:
    """Remove the attachment's link that has this name. It may be gone, or be somebody else's."""
    with netns.netlink() as inside:
        link = links.find_link(inside, name)
        if link is not None and link.kind == "macvlan" and _is_ours(link, call):
            links.delete_link(inside, index=link.index)


def _is_ours(link: links.Link, call: Call) -> bool:
    """Whether a macvlan in the call's namespace is the call's: labelled so, or still under its temporary name.

    One that nobody has labelled is an official plugin's, or an earlier version's, if the ADD's result tells of its
    MAC address.
    """
    written = ownership.alias(link)
    if written:
        return written == ownership.label(call.name, Attachment(call.container_id, call.ifname))
    previous = call.prev_result_if_any()
    told = {(one.name, one.mac.lower()) for one in previous.interfaces if one.sandbox} if previous else set()
    return link.name == _temporary_name(call) or (link.name, link.mac) in told


def _attributes(config: Config, master: links.Link, netns: Netns) -> list[bytes]:
    """What every kind of link is made with."""
    attributes = [attribute_u32(links.IFLA_LINK, master.index), attribute_u32(links.IFLA_NET_NS_FD, netns.fd)]
    if config.mtu:
        attributes.append(attribute_u32(links.IFLA_MTU, config.mtu))
    if config.mac:
        mac = links.parse_mac(config.mac)
        if mac is None:
            raise CniError(f"invalid args {config.mac} for MAC addr: address {config.mac}: invalid MAC address")
        attributes.append(attribute(links.IFLA_ADDRESS, mac))
    return attributes


def _data(config: Config, mode: int) -> bytes:
    """What a macvlan is made with."""
    data = attribute_u32(IFLA_MACVLAN_MODE, mode)
    if config.queue_len:
        data += attribute_u32(IFLA_MACVLAN_BC_QUEUE_LEN, config.queue_len)
    return data


def delete(call: Call) -> None:
    """Give the addresses back (a DHCP release still leaves by the link), then remove the link."""
    with Attempts() as attempts:
        attempts.run(lambda: ipam.forward(call))
        attempts.run(lambda: _delete_from_pod(call))


def _delete_from_pod(call: Call) -> None:
    netns = open_netns_if_present(call.netns)
    if netns is not None:
        for name in (call.ifname, _temporary_name(call)):
            _delete_link(netns, call, name)


def check(call: Call) -> None:
    """The link, its mode, its addresses and its routes have to be as the ADD's result says."""
    config = Config(call)
    with NetlinkSocket() if not config.in_container else open_netns(call.netns).netlink() as outside:
        config.find_master(outside)
    netns = open_netns(call.netns)
    ipam.forward(call)
    previous = call.prev_result()
    if previous is None:
        raise CniError("required prevResult missing")
    with netns.netlink() as inside:
        _check_link(inside, verify.pod_interface(call, previous, "sandbox"), config)
        verify.check_addresses(inside, call.ifname, previous.ips)
        verify.check_routes(inside, previous.routes)


def _check_link(inside: NetlinkSocket, wanted: Interface, config: Config) -> None:
    link = links.find_link(inside, wanted.name)
    if link is None:
        raise CniError(f"container Interface name in prevResult: {wanted.name} not found")
    if link.kind != "macvlan":
        raise CniError(f"error: Container interface {link.name} not of type macvlan")
    data = parse_attributes(link.info.get(links.IFLA_INFO_DATA, b""))
    number = U32.unpack(data[IFLA_MACVLAN_MODE])[0]
    if number != config.mode_number:
        current = next((name for name, value in MODES.items() if value == number), str(number))
        raise CniError(f"container macvlan mode {current} does not match expected value: {config.mode}")
    if wanted.mac and wanted.mac != link.mac:
        raise CniError(f"interface {wanted.name} Mac {wanted.mac} doesn't match container Mac: {link.mac}")


def gc(call: Call) -> None:
    """The links of pods that are gone are gone; their reservations are the IPAM plugin's."""
    ipam.forward(call)


def status(call: Call) -> None:
    """Ready when the master is there and the IPAM plugin is ready."""
    config = Config(call)
    if not config.in_container:
        with NetlinkSocket() as host:
            try:
                config.find_master(host)
            except CniError as error:
                raise CniError(f'master "{config.master}": {error.msg}', PLUGIN_NOT_AVAILABLE) from None
    ipam.forward(call)


PLUGIN = Plugin("macvlan", add=add, delete=delete, check=check, gc=gc, status=status)

if __name__ == "__main__":
    main(PLUGIN)
