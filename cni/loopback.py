"""loopback: brings up `lo` in a pod.

ADD answers with lo's own addresses, or passes on the result of the plugins before it. DEL takes lo down. There is no
address management, so nothing is kept on the host and GC has nothing to collect.
"""

from __future__ import annotations

from cni.lib import addresses, links
from cni.lib.errors import CniError
from cni.lib.netns import Netns, open_netns_if_present
from cni.lib.skel import Call, Plugin, main
from cni.lib.types import Interface, IPConfig, Result

LOOPBACK_MAC = "00:00:00:00:00:00"


def add(call: Call) -> Result:
    """Bring lo up."""
    previous = call.prev_result()
    with Netns(call.netns).netlink() as netlink:
        lo = links.get_link(netlink, "lo")
        links.set_up(netlink, lo.index)
        found = addresses.list_addresses(netlink, lo.index)
    if any(address.is_global for address in found):
        raise CniError("loopback interface found with non-loopback address")
    if previous is not None:
        return previous
    result = Result()
    result.interfaces = [Interface("lo", LOOPBACK_MAC, call.netns)]
    result.ips = [IPConfig(address.net, None, 0) for address in found]
    return result


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
        links.set_down(netlink, links.get_link(netlink, "lo").index)


def nothing(call: Call) -> None:
    """GC and STATUS: there is no state and no dependency."""


PLUGIN = Plugin("loopback", add=add, delete=delete, check=check, gc=nothing, status=nothing)

if __name__ == "__main__":
    main(PLUGIN)
