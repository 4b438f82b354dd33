"""vlan: gives the pod an interface of its own in one of a master's VLANs (IEEE 802.1Q).

What the pod sends leaves by the master with the VLAN's tag; what arrives there with it is the pod's. ADD makes the link
on the master, inside the pod (see cni.lib.podlink), and gives it the IPAM plugin's addresses. A master has one link for
each VLAN, so a VLAN is one pod's at a time. DEL needs neither the master nor the pod's namespace.
"""

from __future__ import annotations

from cni.lib import ipam, links, sublink, verify
from cni.lib.errors import CniError
from cni.lib.gojson import JsonTypeError
from cni.lib.netlink import U16, NetlinkSocket, attribute, parse_attributes
from cni.lib.netns import open_netns
from cni.lib.podlink import PodLink
from cni.lib.rollback import Rollback
from cni.lib.skel import Call, Plugin, main
from cni.lib.types import Interface, Result, read_net_conf

KIND = "vlan"
IFLA_VLAN_ID = 1
MAX_VLAN = 4094


class Config:
    """What the network configuration says."""

    def __init__(self, call: Call) -> None:
        """Raises CniError in the words of the official plugin."""
        try:
            fields = call.fields()
            self.master = fields.text("master")
            self.vlan = fields.number("vlanId")
            self.mtu = fields.number("mtu")
            self.in_container = fields.flag("linkInContainer")
            self.dns = read_net_conf(fields)
        except JsonTypeError as error:
            raise CniError(f"failed to load netconf: {error}") from None

    def validate(self) -> None:
        """Raises CniError for what no master could carry."""
        if not self.master:
            raise CniError('"master" field is required. It specifies the host interface name to create the VLAN for')
        if not 0 <= self.vlan <= MAX_VLAN:
            raise CniError(f"invalid VLAN ID {self.vlan} (must be between 0 and 4095 inclusive)")


def add(call: Call) -> Result:
    """Make the link and give it its addresses."""
    config = Config(call)
    config.validate()
    result = Result()
    with sublink.outside(call.netns, config.in_container) as outside, Rollback() as rollback:
        master = sublink.find_master(outside, config.master)
        sublink.check_mtu(config.mtu, master)
        netns = open_netns(call.netns)
        attributes = sublink.attributes(master, config.mtu)
        data = attribute(IFLA_VLAN_ID, U16.pack(config.vlan))
        result.interfaces = [PodLink(call, KIND).make(outside, netns, attributes, data=data, rollback=rollback)]
        try:
            ipam.reserve(call, result, rollback)
        except CniError as error:
            said = f"{error.msg}; {error.details}" if error.details else error.msg
            raise CniError(f"failed to execute IPAM delegate: {said}") from None
        ipam.configure_interface(netns, call.ifname, result)
        rollback.pop_all()
    if config.dns.given:
        result.dns = config.dns
    return result


def delete(call: Call) -> None:
    """Give the addresses back, then remove the link."""
    PodLink(call, KIND).delete()


def check(call: Call) -> None:
    """The link, its VLAN and MTU, its addresses and its routes have to be as configured, or as the result says."""
    config = Config(call)
    netns = open_netns(call.netns)
    ipam.forward(call)
    previous = call.prev_result()
    if previous is None:
        raise CniError("vlan: Required prevResult missing")
    wanted = verify.pod_interface(call, previous)
    with sublink.outside(call.netns, config.in_container) as outside:
        sublink.look_up_master(outside, config.master)
    with netns.netlink() as inside:
        _check_link(inside, wanted, config)
        verify.check_addresses(inside, call.ifname, previous.ips)
        verify.check_routes(inside, previous.routes)


def _check_link(inside: NetlinkSocket, wanted: Interface, config: Config) -> None:
    link = verify.pod_link(inside, wanted, KIND, prefix="vlan: ")
    data = parse_attributes(link.info.get(links.IFLA_INFO_DATA, b""))
    vlan = U16.unpack_from(data.get(IFLA_VLAN_ID, b"\0\0"))[0]
    if vlan != config.vlan:
        problem = f"Error: Tuning link {wanted.name} configured promisc is {config.vlan}, current value is {vlan}"
        raise CniError(problem)
    if config.mtu not in (0, link.mtu):
        problem = f"Error: Tuning configured MTU of {wanted.name} is {config.mtu}, current value is {link.mtu}"
        raise CniError(problem)


def gc(call: Call) -> None:
    """The links of pods that are gone are gone; their reservations are the IPAM plugin's."""
    ipam.forward(call)


def status(call: Call) -> None:
    """Ready when the master is there and the IPAM plugin is ready."""
    config = Config(call)
    config.validate()
    sublink.require_master(config.master, config.in_container, config.mtu)
    ipam.forward(call)


PLUGIN = Plugin("vlan", add=add, delete=delete, check=check, gc=gc, status=status)

if __name__ == "__main__":
    main(PLUGIN)
