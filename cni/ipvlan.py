"""ipvlan: gives the pod an interface with addresses of its own, and the master's MAC address.

For networks that let one MAC address pass. ADD makes the link on the master, inside the pod (see cni.lib.podlink), and
gives it the IPAM plugin's addresses. Chained behind another plugin and without `ipam`, it takes the addresses of the
result before, and without `master` the only interface there. DEL needs neither the master nor the pod's namespace.
"""

from __future__ import annotations

from cni.lib import ipam, links, sublink, verify
from cni.lib.errors import CniError
from cni.lib.gojson import JsonTypeError
from cni.lib.netlink import U16, NetlinkSocket, attribute, parse_attributes
from cni.lib.netns import Netns, open_netns
from cni.lib.podlink import PodLink
from cni.lib.rollback import Rollback
from cni.lib.skel import Call, Plugin, main
from cni.lib.types import Interface, Result, read_net_conf

KIND = "ipvlan"
IFLA_IPVLAN_MODE = 1
MODES = {"l2": 0, "l3": 1, "l3s": 2}
DEFAULT_MODE = "l2"
NOTIFY = (ipam.ARP_NOTIFY, ipam.NDISC_NOTIFY)


class Config:
    """What the network configuration says."""

    def __init__(self, call: Call) -> None:
        """Raises CniError in the words of the official plugin."""
        try:
            fields = call.fields()
            self.master = fields.text("master")
            self.mode = fields.text("mode") or DEFAULT_MODE
            self.mtu = fields.number("mtu")
            self.in_container = fields.flag("linkInContainer")
            self.dns = read_net_conf(fields)
        except JsonTypeError as error:
            raise CniError(f"failed to load netconf: {error}") from None

    @property
    def mode_number(self) -> int:
        """The mode as the kernel knows it."""
        if self.mode not in MODES:
            raise CniError(f'unknown ipvlan mode: "{self.mode}"')
        return MODES[self.mode]


def _master_of(previous: Result) -> str:
    """The name of the only interface of the result before."""
    names = [interface.name for interface in previous.interfaces]
    if len(names) != 1 or not names[0]:
        raise CniError("chained master failure. PrevResult lacks a single named interface")
    return names[0]


def add(call: Call) -> Result:
    """Make the link and give it its addresses."""
    config = Config(call)
    previous = call.prev_result(unreadable="could not parse prevResult: ")
    if not config.master and previous is not None:
        config.master = _master_of(previous)
    result = Result()
    with Rollback() as rollback:
        netns = _make_link(call, config, result, rollback)
        if not ipam.ipam_type(call) and previous is not None and previous.ips:
            result.ips, result.routes, result.dns = previous.ips, previous.routes, previous.dns
            for ip in result.ips:
                ip.interface = 0
            ipam.configure(call, netns, result, NOTIFY)
        else:
            ipam.assign(call, netns, result, rollback, NOTIFY)
        rollback.pop_all()
    if config.dns.given:
        result.dns = config.dns
    return result


def _make_link(call: Call, config: Config, result: Result, rollback: Rollback) -> Netns:
    """Make the ipvlan, put it into the pod under its name and into the result; gives the pod's namespace."""
    with sublink.outside(call.netns, config.in_container) as outside:
        if not config.master:
            config.master = sublink.find_master(outside, "").name
        netns = open_netns(call.netns)
        data = attribute(IFLA_IPVLAN_MODE, U16.pack(config.mode_number))
        master = sublink.look_up_master(outside, config.master)
        if not 0 <= config.mtu <= sublink.MAX_MTU:
            raise CniError(f"failed to create ipvlan: invalid MTU {config.mtu}")
        attributes = sublink.attributes(master, config.mtu)
        result.interfaces = [PodLink(call, KIND).make(outside, netns, attributes, data=data, rollback=rollback)]
    return netns


def delete(call: Call) -> None:
    """Give the addresses back, then remove the link."""
    PodLink(call, KIND).delete()


def check(call: Call) -> None:
    """The link, its mode, its addresses and its routes have to be as configured, or as the ADD's result says."""
    config = Config(call)
    netns = open_netns(call.netns)
    ipam.forward(call)
    previous = verify.previous_result(call)
    wanted = verify.pod_interface(call, previous)
    if config.master:
        with sublink.outside(call.netns, config.in_container) as outside:
            sublink.look_up_master(outside, config.master)
    with netns.netlink() as inside:
        _check_link(inside, wanted, config)
        verify.check_addresses(inside, call.ifname, previous.ips)
        verify.check_routes(inside, previous.routes)


def _check_link(inside: NetlinkSocket, wanted: Interface, config: Config) -> None:
    link = verify.pod_link(inside, wanted, KIND)
    data = parse_attributes(link.info.get(links.IFLA_INFO_DATA, b""))
    number = U16.unpack_from(data.get(IFLA_IPVLAN_MODE, b"\0\0"))[0]
    if number != config.mode_number:
        current = next((name for name, value in MODES.items() if value == number), str(number))
        raise CniError(f"Container IPVlan mode {current} does not match expected value: {config.mode}")


def gc(call: Call) -> None:
    """The links of pods that are gone are gone; their reservations are the IPAM plugin's."""
    ipam.forward(call)


def status(call: Call) -> None:
    """Ready when the master that is named is there and the IPAM plugin is ready."""
    config = Config(call)
    if config.master:
        sublink.require_master(config.master, config.in_container, mtu=0)
    ipam.forward(call)


PLUGIN = Plugin("ipvlan", add=add, delete=delete, check=check, gc=gc, status=status)

if __name__ == "__main__":
    main(PLUGIN)
