"""tap: gives the pod a tap device, whose other end a program in the pod opens: a virtual machine, say.

ADD makes the device inside the pod (see cni.lib.podlink and cni.lib.tuntap), makes it a port of a bridge in the pod
where `bridge` names one, and gives it the IPAM plugin's addresses; without an IPAM plugin it just goes up (layer 2).
DEL removes it with whatever holds it open: the program sees an error on its end.
"""

from __future__ import annotations

from cni.lib import ipam, links, verify
from cni.lib.args import parse_args
from cni.lib.errors import CniError
from cni.lib.gojson import Fields, JsonTypeError, lookup
from cni.lib.netlink import NetlinkError, NetlinkSocket, attribute, attribute_u32
from cni.lib.netns import Netns, open_netns
from cni.lib.podlink import PodLink
from cni.lib.rollback import Rollback
from cni.lib.skel import Call, Plugin, main
from cni.lib.tuntap import IFF_MULTI_QUEUE, IFF_NO_PI, IFF_VNET_HDR, make_labelled_tap, make_tap
from cni.lib.types import Interface, Result, read_net_conf

KIND = "tun"  # the kernel's name for tun and tap devices alike
MAX_MTU = (1 << 31) - 1


class Config:
    """What the network configuration says, with what the runtime adds."""

    def __init__(self, call: Call) -> None:
        """Raises CniError in the words of the official plugin."""
        try:
            fields = call.fields()
            self.multi_queue = fields.flag("multiQueue")
            self.mtu = fields.number("mtu")
            self.mac = fields.text("mac")
            self.owner = _optional_number(fields, "owner")
            self.group = _optional_number(fields, "group")
            self.selinux_context = fields.text("selinuxContext")
            self.bridge = fields.text("bridge")
            self.dns = read_net_conf(fields)
            fields.child("args", "struct {}")
            runtime_config = fields.child("runtimeConfig", "")
            runtime_mac = runtime_config.text("mac") if runtime_config else ""
        except JsonTypeError as error:
            raise CniError(f"failed to load netconf: {error}") from None
        self.mac = runtime_mac or parse_args(call, ("MAC",)).get("MAC", "") or self.mac

    @property
    def flags(self) -> int:
        """IFF_* of the device. A program that opens it may change all but the queues.

        With an owner and a group the official plugin makes it another way, with other flags.
        """
        queues = IFF_MULTI_QUEUE if self.multi_queue else 0
        if self.selinux_context or self.owner is None or self.group is None:
            return IFF_NO_PI | queues
        return IFF_VNET_HDR | (IFF_NO_PI | queues if queues else 0)

    def attributes(self) -> bytes:
        """What the device is given besides. Raises CniError."""
        given = b""
        if self.mac:
            mac = links.parse_mac(self.mac)
            if mac is None:
                raise CniError(f"invalid args {self.mac} for MAC addr: address {self.mac}: invalid MAC address")
            given += attribute(links.IFLA_ADDRESS, mac)
        if not 0 <= self.mtu <= MAX_MTU:
            raise CniError(f"failed to create tap: invalid MTU {self.mtu}")
        return given + (attribute_u32(links.IFLA_MTU, self.mtu) if self.mtu else b"")


def _optional_number(fields: Fields, key: str) -> int | None:
    number = fields.number(key, go_type="uint32")
    return None if lookup(fields.data, key) is None else number


def add(call: Call) -> Result:
    """Make the device and give it its addresses."""
    config = Config(call)
    netns = open_netns(call.netns)
    result = Result()
    with Rollback() as rollback:
        result.interfaces = [_make_tap(call, config, netns, rollback)]
        _set_up(call.ifname, config, netns)
        if ipam.ipam_type(call):
            ipam.assign(call, netns, result, rollback, (ipam.ARP_NOTIFY,))
        rollback.pop_all()
    if config.dns.given:
        result.dns = config.dns
    return result


def _make_tap(call: Call, config: Config, netns: Netns, rollback: Rollback) -> Interface:
    attributes = config.attributes()
    tap = PodLink(call, KIND, "tap")
    tap.clear(netns)
    rollback.push(lambda: tap.clear(netns))
    try:
        with netns:
            if config.selinux_context:
                make_labelled_tap(tap.temporary_name, config.selinux_context, _arguments(config))
            else:
                make_tap(tap.temporary_name, config.flags, config.owner, config.group)
        if attributes:
            with netns.netlink() as inside:
                links.set_link(inside, links.get_link(inside, tap.temporary_name).index, attributes)
    except NetlinkError as error:
        raise CniError(f"failed to create tap: {error}") from error
    except OSError as error:
        raise CniError(f"failed to create tap: {error.filename or 'ioctl'}: {error.strerror}") from error
    return tap.settle(netns, rollback)


def _arguments(config: Config) -> list[str]:
    """The device's queues, owner and group in the words of `ip tuntap add`."""
    words = ["multi_queue"] if config.multi_queue else []
    for word, number in (("user", config.owner), ("group", config.group)):
        words += [word, str(number)] if number is not None else []
    return words


def _set_up(ifname: str, config: Config, netns: Netns) -> None:
    with netns.netlink() as inside:
        tap = links.get_link(inside, ifname)
        if config.bridge:
            _make_port(inside, tap, config.bridge)
        try:
            links.set_up(inside, tap.index)
        except NetlinkError as error:
            raise CniError(f"failed to set tap interface up: {error}") from error


def _make_port(inside: NetlinkSocket, tap: links.Link, bridge_name: str) -> None:
    bridge = links.find_link(inside, bridge_name)
    if bridge is None:
        raise CniError(f"failed to get bridge {bridge_name}: Link not found")
    try:
        links.set_link(inside, tap.index, attribute_u32(links.IFLA_MASTER, bridge.index))
    except NetlinkError as error:
        raise CniError(f"failed to set tap {tap.name} as a port of bridge {bridge_name}: {error}") from error


def delete(call: Call) -> None:
    """Give the addresses back, then remove the device."""
    PodLink(call, KIND).delete()


def check(call: Call) -> None:
    """The device, its addresses and its routes have to be as the ADD's result says."""
    Config(call)
    netns = open_netns(call.netns)
    ipam.forward(call)
    previous = verify.previous_result(call)
    wanted = verify.pod_interface(call, previous)
    with netns.netlink() as inside:
        verify.check_addresses(inside, call.ifname, previous.ips)
        verify.check_routes(inside, previous.routes)
        verify.pod_link(inside, wanted, KIND)


def gc(call: Call) -> None:
    """The devices of pods that are gone are gone; their reservations are the IPAM plugin's."""
    ipam.forward(call)


def status(call: Call) -> None:
    """Ready when the IPAM plugin is."""
    Config(call)
    ipam.forward(call)


PLUGIN = Plugin("tap", add=add, delete=delete, check=check, gc=gc, status=status)

if __name__ == "__main__":
    main(PLUGIN)
