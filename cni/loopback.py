"""loopback: brings up `lo` in a pod.

ADD answers with lo's own addresses, or passes on the result of the plugins before it. DEL takes lo down, if the label
on it (see cni.lib.ownership) says that it is this attachment's: the namespace's path may lead to another pod by now.
There is no address management, so nothing is kept on the host and GC has nothing to collect.
"""

from __future__ import annotations

from cni.lib import addresses, links, ownership
from cni.lib.errors import CniError
from cni.lib.ip import format_ip
from cni.lib.netns import Netns, open_netns_if_present
from cni.lib.skel import Attachment, Call, Plugin, main
from cni.lib.types import Interface, IPConfig, Result

LOOPBACK_MAC = "00:00:00:00:00:00"
LOOPBACK_V6 = bytes(15) + b"\1"


def add(call: Call) -> Result:
    """Bring lo up, unless it has an address that is not a loopback's."""
    previous = call.prev_result("types.PluginConf", "failed to parse network config: ", "failed to parse prevResult: ")
    with Netns(call.netns).netlink() as netlink:
        lo = links.get_link(netlink, "lo")
        for address in addresses.list_addresses(netlink, lo.index):
            if not is_loopback(address.net.ip):
                text = f'loopback interface found with non-loopback address "{format_ip(address.net.ip)}"'
                raise CniError(text)
        label = ownership.label_attribute(call.name, Attachment(call.container_id, call.ifname))
        links.set_link(netlink, lo.index, label, flags=links.IFF_UP, change=links.IFF_UP)
        found = [address.net for address in addresses.list_addresses(netlink, lo.index)]
    if previous is not None:
        return previous
    result = Result()
    result.interfaces = [Interface("lo", LOOPBACK_MAC, call.netns)]
    for length in (4, 16):
        result.ips += [IPConfig(net, None, 0) for net in found if len(net.ip) == length][:1]
    return result


def is_loopback(ip: bytes) -> bool:
    """127.0.0.0/8 or ::1."""
    return ip[0] == 127 if len(ip) == 4 else ip == LOOPBACK_V6


def check(call: Call) -> None:
    """lo has to be up."""
    with Netns(call.netns).netlink() as netlink:
        if not links.get_link(netlink, "lo").up:
            raise CniError("loopback interface is down")


def delete(call: Call) -> None:
    """Take lo down; a pod that is gone needs nothing."""
    netns = open_netns_if_present(call.netns)
    if netns is None:
        return
    with netns.netlink() as netlink:
        lo = links.get_link(netlink, "lo")
        if ownership.alias(lo) == ownership.label(call.name, Attachment(call.container_id, call.ifname)):
            links.set_down(netlink, lo.index)


def nothing(call: Call) -> None:
    """GC and STATUS: there is no state and no dependency."""


PLUGIN = Plugin("loopback", add=add, delete=delete, check=check, gc=nothing, status=nothing)

if __name__ == "__main__":
    main(PLUGIN)
