"""Gateways: the addresses that the bridge plugin gives to a bridge, or to its own interface in a VLAN of the bridge.

A device that the plugin made is known by its hardware address, which begins with `MARK`: nothing else that lasts can be
given in the message that makes a device. The device's alias tells the gateways that were put on it: `udplane gateways
10.9.0.1/24 fd09::1/64`. Only these may be taken from it again, when their subnet is gone. An address that the
administrator gave it stays.
"""

from __future__ import annotations

from cni.lib import addresses, links
from cni.lib.errors import CniError
from cni.lib.ip import IPNet
from cni.lib.lean import os
from cni.lib.netlink import NetlinkError, NetlinkSocket, attribute_text, text
from cni.lib.netns import NetnsLock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

MARK = b"\x06ud"  # locally administered, unicast
EEXIST = 17
GATEWAYS = "udplane gateways "
LONGEST_ALIAS = 255


def marked_mac() -> bytes:
    """A hardware address for a device of ours."""
    return MARK + os.urandom(3)


def is_ours(link: links.Link) -> bool:
    """Whether the plugin made this device, now or for an earlier pod."""
    return link.attributes[links.IFLA_ADDRESS].startswith(MARK)


class Gateways:
    """The addresses of a device. `failure` begins each error; `abandoned` says whether no other pod is served by it."""

    def __init__(self, netlink: NetlinkSocket, link: links.Link, failure: str, abandoned: Callable[[], bool]) -> None:
        self._netlink = netlink
        self._name = link.name
        self._failure = failure
        self._abandoned = abandoned
        self.link = link

    def add(self, gateways: list[IPNet], force: bool) -> None:
        """Give the device these addresses. Raises CniError if another one is in the way and has to stay."""
        if not self._missing(gateways):
            return
        with NetnsLock():
            self.link = links.get_link(self._netlink, self._name)
            missing, present = self._missing(gateways), self._addresses()
            given = self._given()
            going = [net for net in present if net not in gateways and self._in_the_way(net, missing, given)]
            staying = [net for net in going if str(net) not in given]
            if going and not force and (staying or not self._abandoned()):
                text = f'{self._failure}: "{self._name}" already has an IP address different from {missing[0]}'
                raise CniError(f"{text}; remove it with: ip addr del {(staying or going)[0]} dev {self._name}")
            self._remember([*(net for net in present if str(net) in given and net not in going), *missing])
            for net in going:
                addresses.delete_address(self._netlink, self.link.index, net)
            for gateway in missing:
                self._add_gateway(gateway)

    def _addresses(self) -> list[IPNet]:
        return [address.net for address in addresses.list_addresses(self._netlink, self.link.index)]

    def _missing(self, gateways: list[IPNet]) -> list[IPNet]:
        present = self._addresses()
        return [gateway for gateway in dict.fromkeys(gateways) if gateway not in present]

    def _in_the_way(self, present: IPNet, missing: list[IPNet], given: list[str]) -> bool:
        """Whether an address keeps a gateway from the device.

        Subnets that overlap do. Otherwise a device has one IPv4 subnet, but for what an administrator gave to one of
        ours besides.
        """
        one_subnet = not given or str(present) in given
        return any(
            _overlap(present, gateway) or (len(gateway.ip) == len(present.ip) == 4 and one_subnet)
            for gateway in missing
        )

    def _given(self) -> list[str]:
        """The gateways that this plugin put here, as the alias tells; none on somebody else's device."""
        alias = text(self.link.attributes.get(links.IFLA_IFALIAS, b""))
        return alias.removeprefix(GATEWAYS).split() if is_ours(self.link) and alias.startswith(GATEWAYS) else []

    def _remember(self, nets: list[IPNet]) -> None:
        """Write the gateways on the device. One for which there is no room stays for good."""
        alias = text(self.link.attributes.get(links.IFLA_IFALIAS, b""))
        if not is_ours(self.link) or (alias and not alias.startswith(GATEWAYS)):
            return
        written = GATEWAYS + " ".join(str(net) for net in nets)
        if len(written) > LONGEST_ALIAS:
            written = written[:LONGEST_ALIAS].rpartition(" ")[0]
        links.set_link(self._netlink, self.link.index, attribute_text(links.IFLA_IFALIAS, written))

    def _add_gateway(self, gateway: IPNet) -> None:
        try:
            addresses.add_address(self._netlink, self.link.index, gateway)
        except NetlinkError as error:
            if error.errno != EEXIST:
                problem = f'{self._failure}: could not add IP address to "{self._name}": {error}'
                raise CniError(problem) from error


def _overlap(one: IPNet, other: IPNet) -> bool:
    return len(one.ip) == len(other.ip) and (one.contains(other.ip) or other.contains(one.ip))
