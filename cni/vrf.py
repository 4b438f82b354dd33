"""vrf: puts a pod's interface into a routing domain of its own (Documentation/networking/vrf.rst in the kernel).

A chained plugin, after the one that wires the interface. ADD makes the VRF device `vrfname` in the pod unless it is
there, with the routing table `table` or the first one that is free, and makes the interface its port. On that way the
interface goes down and up again, so it loses IPv6 addresses and routes; they are put back, the routes into the VRF's
table. DEL takes the interface out again, and removes the device after its last port.

The device says whose it is (`udplane pod/<container>/<vrfname>`): all networks of a pod may share it.
"""

from __future__ import annotations

from cni.lib import addresses, links, ownership
from cni.lib.errors import CniError
from cni.lib.gojson import JsonTypeError
from cni.lib.kept_configuration import KeptConfiguration
from cni.lib.netlink import U32, NetlinkError, NetlinkSocket, attribute_u32, parse_attributes
from cni.lib.netns import Netns, open_netns_if_present
from cni.lib.rollback import Rollback
from cni.lib.rules import tables_in_use
from cni.lib.skel import Attachment, Call, Plugin, main
from cni.lib.tenant import is_anothers
from cni.lib.types import Result

KIND = "vrf"
IFLA_VRF_TABLE = 1
RESERVED_TABLES = {253, addresses.RT_TABLE_MAIN, addresses.RT_TABLE_LOCAL}


class Config:
    """What the network configuration says."""

    def __init__(self, call: Call) -> None:
        """Raises CniError in the words of the official plugin."""
        try:
            fields = call.fields("VRFNetConf")
            self.name = fields.text("vrfname")
            self.table = fields.number("table", go_type="uint32")
        except JsonTypeError as error:
            raise CniError(f"failed to load netconf: {error}") from None
        if not self.name:
            raise CniError("configuration is expected to have a valid vrf name")


def _label(call: Call, name: str) -> str:
    return ownership.label("pod", Attachment(call.container_id, name))


def _table_of(vrf: links.Link) -> int:
    data = parse_attributes(vrf.info.get(links.IFLA_INFO_DATA, b""))
    return int(U32.unpack_from(data.get(IFLA_VRF_TABLE, bytes(4)))[0])


def _find(inside: NetlinkSocket, name: str) -> links.Link | None:
    vrf = links.find_link(inside, name)
    if vrf is not None and vrf.kind != KIND:
        raise CniError(f"Netlink {name} is not a VRF")
    return vrf


def _previous(call: Call) -> Result:
    previous = call.prev_result("VRFNetConf", unreadable="could not parse prevResult: ")
    if previous is None:
        raise CniError("missing prevResult from earlier plugin")
    return previous


def add(call: Call) -> Result:
    """Put the interface into its VRF; the result is that of the plugins before."""
    config = Config(call)
    previous = _previous(call)
    try:
        netns = Netns(call.netns)
        with netns.netlink() as inside, Rollback() as rollback:
            vrf = _find(inside, config.name)
            if vrf is not None and config.table not in (0, _table_of(vrf)):
                raise CniError(f"VRF {config.name} already exist with different routing table {_table_of(vrf)}")
            _enslave(inside, call.ifname, vrf or _make(inside, call, config, rollback), rollback)
            rollback.pop_all()
    except CniError as error:
        raise error.wrap("cmdAdd failed") from None
    return previous


def _make(inside: NetlinkSocket, call: Call, config: Config, rollback: Rollback) -> links.Link:
    """Make the VRF and switch it on."""
    table = config.table or _free_table(inside)
    problem = f"could not add VRF {config.name}"
    if "%" in config.name:  # which the kernel would replace by a number
        raise CniError(f"{problem}: invalid argument")
    try:
        links.add_link(inside, config.name, KIND, data=attribute_u32(IFLA_VRF_TABLE, table))
        vrf = links.get_link(inside, config.name)
        rollback.push(lambda: links.delete_link(inside, index=vrf.index))
        problem = f"could not set link up for VRF {config.name}"
        label = ownership.alias_attribute(_label(call, config.name))
        links.set_link(inside, vrf.index, label, flags=links.IFF_UP, change=links.IFF_UP)
    except NetlinkError as error:
        raise CniError(f"{problem}: {error}") from error
    return vrf


def _free_table(inside: NetlinkSocket) -> int:
    """The first table that no VRF has, no rule of the pod's own leads to, and no route is in."""
    taken = {_table_of(vrf) for vrf in links.list_links(inside, kind=KIND)} | tables_in_use(inside) | RESERVED_TABLES
    return addresses.free_table(inside, taken, 1)


def _enslave(inside: NetlinkSocket, ifname: str, vrf: links.Link, rollback: Rollback) -> None:
    """Make the interface a port of the VRF, and give it back what it lost by that."""
    link = links.find_link(inside, ifname)
    if link is None:
        raise CniError(f"could not get link by name {ifname}")
    if link.master:
        master = links.find_link(inside, index=link.master)
        raise CniError(f"interface {ifname} has already a master set: {master.name if master else link.master}")
    former = KeptConfiguration(inside, link.index)

    def release() -> None:
        links.set_link(inside, link.index, attribute_u32(links.IFLA_MASTER, 0))
        former.restore(inside, link.index, with_routes=link.up)

    rollback.push(release)
    try:
        links.set_link(inside, link.index, attribute_u32(links.IFLA_MASTER, vrf.index))
    except NetlinkError as error:
        raise CniError(f"could not set vrf {vrf.name} as master of {ifname}: {error}") from error
    try:
        former.restore(inside, link.index, with_routes=link.up, table=_table_of(vrf))
    except NetlinkError as error:
        raise CniError(f"could not restore addresses and routes of {ifname} @ {vrf.name}: {error}") from error


def delete(call: Call) -> None:
    """Take the interface out of the VRF, and remove the VRF after its last port."""
    netns = open_netns_if_present(call.netns)
    try:
        config = Config(call)
    except CniError:  # no ADD can have done anything with it
        return
    if netns is None:
        return
    with netns.netlink() as inside:
        vrf = links.find_link(inside, config.name)
        if vrf is not None and vrf.kind == KIND:
            _leave(inside, call, vrf)


def _leave(inside: NetlinkSocket, call: Call, vrf: links.Link) -> None:
    written = ownership.alias(vrf)
    if written.startswith(ownership.PREFIX) and written != _label(call, vrf.name):
        return  # another pod's: the namespace's path leads there by now
    link = links.find_link(inside, call.ifname)
    is_port = link is not None and link.master == vrf.index and not is_anothers(link, call)
    if link is not None and is_port:
        links.set_link(inside, link.index, attribute_u32(links.IFLA_MASTER, 0))
    # One that is empty before this call: of a DEL or an ADD of ours that was killed.
    ours = bool(written) or not vrf.up
    if (is_port or ours) and not links.list_links(inside, master=vrf.index):
        links.delete_link(inside, index=vrf.index)


def check(call: Call) -> None:
    """The interface has to be a port of the VRF."""
    config = Config(call)
    _previous(call)
    with Netns(call.netns).netlink() as inside:
        vrf = _find(inside, config.name)
        if vrf is None:
            raise CniError("Link not found")
        if not any(link.name == call.ifname for link in links.list_links(inside, master=vrf.index)):
            raise CniError(f"failed to find {call.ifname} associated to vrf {config.name}")


def gc(call: Call) -> None:
    """The device goes with the pod's namespace."""


def status(call: Call) -> None:
    """Nothing is needed beforehand but a configuration that can be read."""
    Config(call)


PLUGIN = Plugin("vrf", add=add, delete=delete, check=check, gc=gc, status=status)

if __name__ == "__main__":
    main(PLUGIN)
