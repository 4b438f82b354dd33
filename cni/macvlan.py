"""macvlan: gives the pod a MAC address of its own on one of the node's interfaces, the master.

ADD makes the link on the master, inside the pod (see cni.lib.podlink), and gives it the IPAM plugin's addresses;
without an IPAM plugin it just goes up (layer 2). DEL needs neither the master nor the pod: the link goes with the
pod's namespace, and the reservation by container id and interface name.
"""

from __future__ import annotations

from cni.lib import ipam, links, sublink, verify
from cni.lib.args import parse_args
from cni.lib.errors import CniError
from cni.lib.gojson import JsonTypeError
from cni.lib.netlink import U32, NetlinkSocket, attribute, attribute_u32, parse_attributes
from cni.lib.netns import open_netns
from cni.lib.podlink import PodLink
from cni.lib.rollback import Rollback
from cni.lib.skel import Call, Plugin, main
from cni.lib.types import Interface, Result, read_net_conf

KIND = "macvlan"
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
            self.dns = read_net_conf(fields)
            runtime_config = fields.child("runtimeConfig", "")
            runtime_mac = runtime_config.text("mac") if runtime_config else ""
        except JsonTypeError as error:
            raise CniError(f"failed to load netconf: {error}") from None
        self.mac = runtime_mac or parse_args(call, ("MAC",)).get("MAC", "") or self.mac

    def find_master(self, netlink: NetlinkSocket) -> links.Link:
        """The interface to build on: the one named, or that of the first default route. Raises CniError."""
        master = sublink.find_master(netlink, self.master)
        sublink.check_mtu(self.mtu, master)
        return master

    @property
    def mode_number(self) -> int:
        """The mode as the kernel knows it."""
        if self.mode not in MODES:
            raise CniError(f'unknown macvlan mode: "{self.mode}"')
        return MODES[self.mode]


def add(call: Call) -> Result:
    """Make the link and give it its addresses."""
    config = Config(call)
    result = Result()
    with Rollback() as rollback:
        result.interfaces = [_make_link(call, config, rollback)]
        netns = open_netns(call.netns)
        if ipam.ipam_type(call):
            ipam.assign(call, netns, result, rollback, (ipam.ARP_NOTIFY, ipam.NDISC_NOTIFY))
        else:
            with netns.netlink() as inside:
                links.set_up(inside, links.get_link(inside, call.ifname).index)
        rollback.pop_all()
    if config.dns.given:
        result.dns = config.dns
    return result


def _make_link(call: Call, config: Config, rollback: Rollback) -> Interface:
    """Make the macvlan and put it into the pod under its name."""
    with sublink.outside(call.netns, config.in_container) as outside:
        master = config.find_master(outside)
        mode = config.mode_number
        netns = open_netns(call.netns)
        attributes = sublink.attributes(master, config.mtu) + _mac_attribute(config)
        data = _data(config, mode)
        return PodLink(call, KIND).make(outside, netns, attributes, data=data, rollback=rollback)


def _mac_attribute(config: Config) -> bytes:
    if not config.mac:
        return b""
    mac = links.parse_mac(config.mac)
    if mac is None:
        raise CniError(f"invalid args {config.mac} for MAC addr: address {config.mac}: invalid MAC address")
    return attribute(links.IFLA_ADDRESS, mac)


def _data(config: Config, mode: int) -> bytes:
    """What a macvlan is made with."""
    data = attribute_u32(IFLA_MACVLAN_MODE, mode)
    if config.queue_len:
        data += attribute_u32(IFLA_MACVLAN_BC_QUEUE_LEN, config.queue_len)
    return data


def delete(call: Call) -> None:
    """Give the addresses back, then remove the link."""
    PodLink(call, KIND).delete()


def check(call: Call) -> None:
    """The link, its mode, its addresses and its routes have to be as the ADD's result says."""
    config = Config(call)
    with sublink.outside(call.netns, config.in_container) as outside:
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
    link = verify.pod_link(inside, wanted, KIND, capital=False)
    data = parse_attributes(link.info.get(links.IFLA_INFO_DATA, b""))
    number = U32.unpack(data[IFLA_MACVLAN_MODE])[0]
    if number != config.mode_number:
        current = next((name for name, value in MODES.items() if value == number), str(number))
        raise CniError(f"container macvlan mode {current} does not match expected value: {config.mode}")


def gc(call: Call) -> None:
    """The links of pods that are gone are gone; their reservations are the IPAM plugin's."""
    ipam.forward(call)


def status(call: Call) -> None:
    """Ready when the master is there and the IPAM plugin is ready."""
    config = Config(call)
    sublink.require_master(config.master, config.in_container, config.mtu)
    ipam.forward(call)


PLUGIN = Plugin("macvlan", add=add, delete=delete, check=check, gc=gc, status=status)

if __name__ == "__main__":
    main(PLUGIN)
