"""host-device: gives a pod one of the node's own interfaces, and takes it back under its old name.

ADD finds the device by `device`, `hwaddr`, `kernelpath`, `pciBusID` or what the runtime says, remembers whose it is to
be (see cni.lib.device_records), and then sends one message, which moves it into the pod, names it, writes its name on
the node as its alias, and switches it on: a plugin that is killed leaves it either here or there. A device that a
program drives (DPDK) has no interface and stays where it is.

DEL takes the device from the pod if it is this attachment's, and gives it its old name, in the pod already where that
is free: on the node, udev would see it under two names. Where the pod's namespace is gone, the kernel has put the
device back under the pod's name, and DEL finds it by its alias. It stays down, since nobody knows whether it was up.
"""

from __future__ import annotations

from cni.lib import device_records, ipam, links, ownership, sysfs, verify
from cni.lib.device_records import Record
from cni.lib.errors import CniError, describe
from cni.lib.gojson import JsonTypeError
from cni.lib.kept_configuration import KeptConfiguration
from cni.lib.lean import os
from cni.lib.netlink import NetlinkError, NetlinkSocket, attribute, attribute_text, attribute_u32
from cni.lib.netns import OWN_NETNS, Netns, NetnsLock, open_netns, open_netns_if_present
from cni.lib.rollback import Attempts, Rollback
from cni.lib.skel import Attachment, Call, Plugin, main
from cni.lib.store import same_file
from cni.lib.types import Interface, Result, read_net_conf

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

NO_ALIAS = attribute(links.IFLA_IFALIAS, b"\0")


class Config:
    """What the network configuration says, with what the runtime adds."""

    def __init__(self, call: Call) -> None:
        """Raises CniError in the words of the official plugin."""
        try:
            fields = call.fields()
            self.device = fields.text("device")
            self.hwaddr = fields.text("hwaddr")
            self.kernel_path = fields.file_name("kernelpath")
            self.pci_address = fields.file_name("pciBusID")
            self.dns = read_net_conf(fields)
            runtime_config = fields.child("runtimeConfig", "")
            device_id = runtime_config.file_name("deviceID") if runtime_config else ""
        except JsonTypeError as error:
            raise CniError(f"failed to load netconf: {error}") from None
        self.auxiliary_device = ""
        if device_id:
            self._read_device_id(device_id)
        if not (self.device or self.hwaddr or self.kernel_path or self.pci_address or self.auxiliary_device):
            raise CniError('specify either "device", "hwaddr", "kernelpath" or "pciBusID"')

    def _read_device_id(self, device_id: str) -> None:
        """What a device plugin has allocated: a PCI address, or a device on the auxiliary bus."""
        if sysfs.is_on(sysfs.PCI, device_id):
            self.pci_address = device_id
        elif sysfs.is_on(sysfs.AUXILIARY, device_id):
            self.pci_address, self.auxiliary_device = "", device_id
        else:
            raise CniError(f"runtime config DeviceID {device_id} not found or unsupported")

    def is_driven_by_program(self) -> bool:
        """Whether there is no interface to be moved. Raises CniError."""
        try:
            return bool(self.pci_address) and sysfs.has_userspace_driver(self.pci_address)
        except CniError as error:
            raise error.wrap("error with host device") from None

    def find(self, host: NetlinkSocket) -> links.Link:
        """The device on the node. Raises CniError."""
        try:
            if not self.device and self.hwaddr:
                return _find_by_mac(host, self.hwaddr)
            found = links.find_link(host, self.device or self._name_in_sysfs())
        except CniError as error:
            raise error.wrap("failed to find host device") from None
        if found is None:
            raise CniError("failed to find host device: Link not found")
        return found

    def _name_in_sysfs(self) -> str:
        if self.kernel_path:
            return sysfs.kernel_path_interface(self.kernel_path)
        if self.pci_address:
            return sysfs.pci_interface(self.pci_address)
        return sysfs.auxiliary_interface(self.auxiliary_device)


def _find_by_mac(host: NetlinkSocket, text: str) -> links.Link:
    mac = links.parse_mac(text, links.HARDWARE_ADDRESS_BYTES)
    if mac is None:
        raise CniError(f'failed to parse MAC address "{text}": address {text}: invalid MAC address')
    for link in links.list_links(host):
        if link.address == mac:
            return link
    raise CniError("failed to find physical interface")


def _label(call: Call) -> str:
    return ownership.label(call.name, Attachment(call.container_id, call.ifname))


def add(call: Call) -> Result:
    """Move the device into the pod and give it its addresses."""
    config = Config(call)
    in_kernel = not config.is_driven_by_program()
    netns = open_netns(call.netns)
    result = Result()
    result.interfaces = [Interface(call.ifname, sandbox=call.netns)]
    with Rollback() as rollback:
        if in_kernel:
            with NetlinkSocket() as host, NetnsLock():
                device = config.find(host)
                result.interfaces = [_move_in(call, host, device, netns, rollback)]
        if in_kernel and ipam.ipam_type(call):
            ipam.assign(call, netns, result, rollback)
        elif ipam.ipam_type(call):
            ipam.reserve(call, result, rollback)
        if config.dns.given:
            result.dns = config.dns
        result.to_json(call.version)  # if that cannot hold it, the caller would undo all by DEL, which knows less
        rollback.pop_all()
    return result


def _move_in(call: Call, host: NetlinkSocket, device: links.Link, netns: Netns, rollback: Rollback) -> Interface:
    """Move the device, and remember how to bring it back as it was. Raises CniError."""
    problem = f'failed to move link failed to move "{call.ifname}" (host: "{device.name}") to container NS'
    with netns.netlink() as inside:
        if links.find_link(inside, call.ifname) is not None:
            raise CniError(f"{problem}: file exists")
        if "%" in call.ifname:  # which the kernel would replace by a number
            raise CniError(f"{problem}: invalid argument")
        former = KeptConfiguration(host, device.index)
        try:
            device_records.remember(Record(_label(call), device.name, call.netns, device.kind))
        except OSError as error:
            raise CniError(f"failed to remember the device: {describe(error)}") from error
        rollback.push(lambda: device_records.forget(_label(call)))
        rollback.push(lambda: _undo_move(call, device, netns, former))
        target = attribute_u32(links.IFLA_NET_NS_FD, netns.fd) + attribute_text(links.IFLA_IFNAME, call.ifname)
        alias = attribute_text(links.IFLA_IFALIAS, device.name)
        try:
            links.set_link(host, device.index, target, alias, flags=links.IFF_UP, change=links.IFF_UP)
        except NetlinkError as error:
            raise CniError(f"{problem}: {error}") from error
        moved = links.get_link(inside, call.ifname)
    return Interface(moved.name, moved.mac, call.netns)


def _undo_move(call: Call, device: links.Link, netns: Netns, former: KeptConfiguration) -> None:
    """Bring the device back as it was before the ADD; it may not have left, or only in part."""
    with NetlinkSocket() as host, NetnsLock():
        still_here = links.find_link(host, index=device.index)
        if still_here is None or still_here.name != device.name:
            with netns.netlink() as inside:
                for name in (call.ifname, device.name):
                    link = links.find_link(inside, name)
                    if link is not None and (link.kind, link.mac) == (device.kind, device.mac):
                        _give_back(inside, link, device.name)
        back = links.find_link(host, device.name)
        if back is not None:
            _restore(host, back, device, former)


def _restore(host: NetlinkSocket, back: links.Link, device: links.Link, former: KeptConfiguration) -> None:
    """Give a device that is back on the node what it had there."""
    if device.master and not back.master:
        links.set_link(host, back.index, attribute_u32(links.IFLA_MASTER, device.master))
    up = links.IFF_UP if device.up else 0
    alias = attribute_text(links.IFLA_IFALIAS, ownership.alias(device))
    links.set_link(host, back.index, alias, flags=up, change=links.IFF_UP)
    former.restore(host, back.index, with_routes=device.up)


def _give_back(inside: NetlinkSocket, link: links.Link, name: str) -> None:
    """Move a device from the pod to the node, where it is called `name` again. Raises CniError."""
    links.set_down(inside, link.index)
    try:
        links.set_link(inside, link.index, attribute_text(links.IFLA_IFNAME, name))
    except NetlinkError:  # the pod has another interface of that name: it is renamed as it arrives
        pass
    here = os.open(OWN_NETNS, os.O_RDONLY | os.O_CLOEXEC)
    try:
        target = attribute_u32(links.IFLA_NET_NS_FD, here) + attribute_text(links.IFLA_IFNAME, name)
        links.set_link(inside, link.index, target, NO_ALIAS)
    except NetlinkError as error:
        was_up = links.IFF_UP if link.up else 0
        former_name = attribute_text(links.IFLA_IFNAME, link.name)
        links.set_link(inside, link.index, former_name, flags=was_up, change=links.IFF_UP)
        raise CniError(f'failed to move "{name}" to hostNS: {error}') from error
    finally:
        os.close(here)


def delete(call: Call) -> None:
    """Give the addresses back (a DHCP release still leaves by the device), then the device."""
    with Attempts() as attempts:
        attempts.run(lambda: ipam.forward(call))
        attempts.run(lambda: _take_recorded(_label(call), call.netns))
        attempts.run(lambda: _take_unrecorded(call))


def _take_recorded(owner: str, netns_path: str = "") -> None:
    """Give the device back that an attachment got, wherever it is by now, and forget whose it was."""
    with NetnsLock():
        record = device_records.of_owner(owner)
        if record is not None:
            _bring_home(record, netns_path)
        device_records.forget(owner)


def _bring_home(record: Record, netns_path: str) -> None:
    """From the pod, if it is there; on the node, under its own name again, if the kernel has put it back.

    What has lost its alias is taken last: it might be another pod's.
    """
    paths = {netns_path, record.netns_path}
    if not _take_from(paths, record, _with_alias) and not _rename_at_home(record):
        _take_from(paths, record, _bare)


def _take_from(paths: set[str], record: Record, find: Callable[[NetlinkSocket, Record], list[links.Link]]) -> bool:
    """Give back what `find` finds in the namespaces of these paths; gives whether there was any."""
    found = False
    for path in paths:
        netns = open_netns_if_present(path)
        if netns is not None and not netns.is_own():
            with netns.netlink() as inside:
                for link in find(inside, record):
                    _give_back(inside, link, record.device)
                    found = True
    return found


def _with_alias(netlink: NetlinkSocket, record: Record) -> list[links.Link]:
    """The link of the record's alias and kind. Only one: who controls a pod can write aliases, too."""
    return [link for link in links.list_links(netlink) if _is_named(link, record)][:1]


def _is_named(link: links.Link, record: Record) -> bool:
    return (ownership.alias(link), link.kind) == (record.device, record.kind)


def _bare(inside: NetlinkSocket, record: Record) -> list[links.Link]:
    """The pod's interface of the record's name, if somebody took its alias away. No pod can make a physical one."""
    link = links.find_link(inside, record.ifname)
    is_device = link is not None and not link.kind and not record.kind and not link.flags & links.IFF_LOOPBACK
    return [link] if link is not None and is_device and not ownership.alias(link) else []


def _rename_at_home(record: Record) -> bool:
    """Give the device its name that the kernel has put back, when the pod's namespace went; its alias is there still.

    Gives whether the node has a device of that name by now. The kernel puts a device back switched off, under the name
    that it had in the pod; what is neither so called nor off has its alias from somebody else. Raises CniError if
    another one has the name.
    """
    with NetlinkSocket() as host:
        home = links.find_link(host, record.device)
        named = [link for link in links.list_links(host) if _is_named(link, record)]
        if home is not None and home.index in [one.index for one in named]:
            links.set_link(host, home.index, NO_ALIAS)
            return True
        back = [one for one in named if one.name == record.ifname] or [one for one in named if not one.up]
        if back and home is not None:
            raise CniError(f'failed to give "{back[0].name}" its name "{record.device}" on the node: file exists')
        if back:
            links.set_down(host, back[0].index)
            links.set_link(host, back[0].index, attribute_text(links.IFLA_IFNAME, record.device), NO_ALIAS)
        return bool(back) or home is not None


def _take_unrecorded(call: Call) -> None:
    """Give back what an official plugin has moved: its alias is the name, and no record says who has it here.

    The result of the ADD has to tell of it, or, where there is none, the configuration.
    """
    netns = open_netns_if_present(call.netns)
    if netns is None:
        return
    with netns.netlink() as inside, NetnsLock():
        link = links.find_link(inside, call.ifname)
        if link is None or not device_records.is_device_name(ownership.alias(link)):
            return
        name = ownership.alias(link)
        record = device_records.of_device(name)
        if _is_told_of(call, link) and not (record and _leads_to(record.netns_path, netns)):
            _give_back(inside, link, name)


def _is_told_of(call: Call, link: links.Link) -> bool:
    """Whether a link in the pod is the one that the ADD's result names, or the configuration.

    What is configured by its place on a bus is a physical device, more cannot be compared.
    """
    previous = call.prev_result_if_any()
    if previous is not None:
        return any((one.name, one.mac.lower()) == (link.name, link.mac) for one in previous.interfaces if one.sandbox)
    try:
        config = Config(call)
    except CniError:
        return False
    if config.device:
        return config.device in (ownership.alias(link), *link.alternative_names)
    if config.hwaddr:
        return links.parse_mac(config.hwaddr, links.HARDWARE_ADDRESS_BYTES) == link.address
    return not link.kind


def _leads_to(path: str, netns: Netns) -> bool:
    """Whether a path leads to a namespace: a record whose path leads elsewhere was overtaken by an official plugin."""
    try:
        return bool(path) and same_file(os.stat(path), os.fstat(netns.fd))
    except (OSError, ValueError):
        return False


def check(call: Call) -> None:
    """The device, its addresses and its routes have to be as the ADD's result says."""
    config = Config(call)
    in_kernel = not config.is_driven_by_program()
    netns = open_netns(call.netns)
    ipam.forward(call)
    previous = verify.previous_result(call)
    if not in_kernel:
        return
    with netns.netlink() as inside:
        verify.pod_link(inside, verify.pod_interface(call, previous))
        verify.check_addresses(inside, call.ifname, previous.ips)
        verify.check_routes(inside, previous.routes)


def gc(call: Call) -> None:
    """Give back what this network's pods that are gone still have; the reservations are the IPAM plugin's."""
    valid = call.valid_attachments()
    with Attempts() as attempts:
        attempts.run(lambda: ipam.forward(call))
        if valid is not None:
            attempts.run(device_records.clear_temporary)
            live = {ownership.label(call.name, attachment) for attachment in valid}
            for record in device_records.stale(call.name, live):
                attempts.run(_taking(record.owner))


def _taking(owner: str) -> Callable[[], None]:
    return lambda: _take_recorded(owner)


def status(call: Call) -> None:
    """Ready when the IPAM plugin is. A device that a pod has is no fault of the node's."""
    ipam.forward(call)


PLUGIN = Plugin("host-device", add=add, delete=delete, check=check, gc=gc, status=status)

if __name__ == "__main__":
    main(PLUGIN)
