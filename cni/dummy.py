"""dummy: gives the pod an interface that leads nowhere, for addresses that are to be the pod's own.

ADD makes it inside the pod (see cni.lib.podlink) and gives it the IPAM plugin's addresses, without which it would be of
no use.
"""

from __future__ import annotations

from cni.lib import ipam, verify
from cni.lib.errors import CniError
from cni.lib.gojson import JsonTypeError
from cni.lib.netns import Netns, open_netns
from cni.lib.podlink import PodLink
from cni.lib.rollback import Rollback
from cni.lib.skel import Call, Plugin, main
from cni.lib.types import Result, read_net_conf

KIND = "dummy"


def _require_ipam(call: Call) -> None:
    complaint = "failed to parse network config"
    try:
        read_net_conf(call.fields("types.PluginConf"))
    except JsonTypeError as error:
        raise CniError(f"{complaint}: {error}") from None
    if not ipam.ipam_type(call, complaint, "types.PluginConf"):
        raise CniError("dummy interface requires an IPAM configuration")


def add(call: Call) -> Result:
    """Make the link and give it its addresses."""
    _require_ipam(call)
    netns: Netns = open_netns(call.netns)
    result = Result()
    with netns.netlink() as inside, Rollback() as rollback:
        link = PodLink(call, KIND, taken="failed to create dummy")
        result.interfaces = [link.make(inside, netns, rollback=rollback)]
        ipam.assign(call, netns, result, rollback)
        rollback.pop_all()
    return result


def delete(call: Call) -> None:
    """Give the addresses back, then remove the link."""
    PodLink(call, KIND).delete()


def check(call: Call) -> None:
    """The link has to be up, and its addresses and routes as the ADD's result says."""
    _require_ipam(call)
    netns = open_netns(call.netns)
    ipam.forward(call)
    previous = call.prev_result()
    if previous is None:
        raise CniError("dummy: Required prevResult missing")
    wanted = verify.pod_interface(call, previous)
    with netns.netlink() as inside:
        if not verify.pod_link(inside, wanted, KIND).up:
            raise CniError(f"Interface {wanted.name} is down")
        verify.check_addresses(inside, call.ifname, previous.ips)
        verify.check_routes(inside, previous.routes)


def forward(call: Call) -> None:
    """GC and STATUS: the links of pods that are gone are gone, and nothing is needed but the IPAM plugin."""
    ipam.forward(call)


PLUGIN = Plugin("dummy", add=add, delete=delete, check=check, gc=forward, status=forward)

if __name__ == "__main__":
    main(PLUGIN)
