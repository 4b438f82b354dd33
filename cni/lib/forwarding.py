"""Let the node route."""

from __future__ import annotations

from cni.lib import addresses, links, sysctl
from cni.lib.errors import CniError
from cni.lib.ip import AF_INET, AF_INET6
from cni.lib.netlink import NetlinkSocket

SETTINGS = {AF_INET: "net/ipv4/ip_forward", AF_INET6: "net/ipv6/conf/all/forwarding"}


def enable_forwarding(of_family: int) -> None:
    """Let the node route this family. Written only when it is off, since each write makes the kernel renew much."""
    setting = SETTINGS[of_family]
    try:
        if sysctl.read(setting) == "1":
            return
        if of_family == AF_INET6:
            _keep_default_routes()
        sysctl.write(setting, "1")
    except OSError as error:
        raise CniError(f"failed to enable forwarding: {setting}: {error.strerror}") from error


def _keep_default_routes() -> None:
    """Let interfaces with a default route from a router advertisement go on taking these.

    The kernel gives up such routes when it begins to route, unless `accept_ra` is 2. The other interfaces stay as they
    are, since a node that routes should not listen to whoever advertises there (ip-sysctl, accept_ra).
    """
    with NetlinkSocket() as host:
        learned = [
            route.index
            for route in addresses.list_routes(host, AF_INET6)
            if route.dst.prefix_len == 0 and route.protocol == addresses.RTPROT_RA
        ]
        for index in dict.fromkeys(learned):
            link = links.find_link(host, index=index) if index else None
            setting = f"net/ipv6/conf/{link.name}/accept_ra" if link else ""
            if setting and sysctl.read(setting) == "1":
                sysctl.write(setting, "2")
