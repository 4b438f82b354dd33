"""Whose is the interface that a chained plugin finds in the pod?

What the plugins before it made says so: by its label, by that of its host end, or by what host-device remembers. Of an
interface of a plugin that is not ours, the ADD's result may tell the MAC address.
"""

from __future__ import annotations

from cni.lib import device_records, links, ownership
from cni.lib.netlink import NetlinkSocket
from cni.lib.skel import Attachment, Call


def is_anothers(link: links.Link, call: Call) -> bool:
    """Whether a link of the name CNI_IFNAME, in the call's namespace, is known to be another attachment's.

    Then the namespace's path leads to another pod by now.
    """
    owner = _owner_of(link)
    if owner:
        return owner != ownership.label(call.name, Attachment(call.container_id, call.ifname))
    previous = call.prev_result_if_any()
    interfaces = [one for one in previous.interfaces if one.sandbox and one.name == link.name] if previous else []
    told = {links.parse_mac(one.mac, links.HARDWARE_ADDRESS_BYTES) for one in interfaces if one.mac}
    return bool(told) and link.address not in told


def _owner_of(link: links.Link) -> str:
    """The label of the attachment that the link belongs to; empty if that is not known."""
    written = ownership.alias(link)
    if written.startswith(ownership.PREFIX):
        return written
    if link.kind == "veth" and link.peer:
        with NetlinkSocket() as host:
            end = links.find_link(host, index=link.peer)
        if end is not None and end.kind == "veth" and end.peer == link.index:
            written = ownership.alias(end)
            if written.startswith(ownership.PREFIX):
                return written
    record = device_records.of_device(written) if device_records.is_device_name(written) else None
    return record.owner if record is not None and record.ifname == link.name else ""
