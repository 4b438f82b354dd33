"""VLANs of a bridge: what a configuration asks for, and how a port gets it.

    vlan: 100                            the pod's frames without a tag belong to VLAN 100 on the bridge
    vlanTrunk: [{minID, maxID}, {id}]    the pod may tag its frames itself, with these; those without a tag belong to
                                         `vlan`, or to VLAN 1
    preserveDefaultVlan: true            the port stays in the VLAN that the bridge puts every new port into, too

The bridge keeps ports of different VLANs apart only if it filters (`vlan_filtering`), which is set when it is made. A
kernel that was built without CONFIG_BRIDGE_VLAN_FILTERING makes no such bridge (EOPNOTSUPP), and does not tell of any
which VLAN is its default one (IFLA_BR_VLAN_DEFAULT_PVID). See if_bridge.h and net/bridge/br_netlink.c of the kernel.
"""

from __future__ import annotations

from struct import Struct

from cni.lib import links
from cni.lib.errors import UNSUPPORTED_FIELD, CniError
from cni.lib.gojson import Fields, lookup
from cni.lib.links import Link
from cni.lib.netlink import NetlinkSocket, attribute, attribute_u32, list_attributes, nested

HIGHEST_VLAN = 4094
NATIVE_OF_TRUNKS = 1

AF_BRIDGE = 7
IFLA_AF_SPEC = 26
IFLA_EXT_MASK = 29
RTEXT_FILTER_BRVLAN = 2
IFLA_BR_VLAN_FILTERING = 7
IFLA_BR_VLAN_DEFAULT_PVID = 39
IFLA_BRIDGE_VLAN_INFO = 2

PVID = 0x2
UNTAGGED = 0x4
RANGE_BEGIN = 0x8
RANGE_END = 0x10

VLAN_INFO = Struct("=HH")  # flags, VLAN
U16 = Struct("=H")

FILTERING = attribute(IFLA_BR_VLAN_FILTERING, b"\1")
"""Of a new bridge: keep VLANs apart."""


class Vlans:
    """What a configuration asks for: `vlan` (0 if none), and the VLANs of `vlanTrunk` in order."""

    __slots__ = ("keeps_default", "trunk", "vlan")

    def __init__(self, vlan: int, trunk: list[int], keeps_default: bool) -> None:
        self.vlan = vlan
        self.trunk = trunk
        self.keeps_default = keeps_default

    @property
    def native(self) -> int:
        """The VLAN of frames without a tag; 0 if that is the bridge's affair."""
        return self.vlan or (NATIVE_OF_TRUNKS if self.trunk else 0)

    def are_on(self, port: dict[int, int]) -> bool:
        """Whether a port that is in these VLANs, by number with their flags, is in all that are asked for."""
        if self.native and port.get(self.native) != PVID | UNTAGGED:
            return False
        return all(vlan in port for vlan in self.trunk)


def read_vlans(vlan: int, trunk: list[Fields], keeps_default: bool) -> Vlans:
    """Check what the configuration says. Raises CniError in the words of the official plugin."""
    if not 0 <= vlan <= HIGHEST_VLAN:
        raise CniError(f"invalid VLAN ID {vlan} (must be between 0 and {HIGHEST_VLAN})")
    return Vlans(vlan, sorted({one for item in trunk for one in _trunk_item(item)}), keeps_default)


def _trunk_item(item: Fields) -> list[int]:
    """The VLANs of one entry: from minID to maxID, and id."""
    first, last, single = (_number(item, key) for key in ("minID", "maxID", "id"))
    if (first is None) != (last is None):
        missing = "minID" if first is None else "maxID"
        raise CniError(f"minID and maxID should be configured simultaneously, {missing} is missing")
    found: list[int] = []
    if first is not None and last is not None:
        _check_trunk("minID", first)
        _check_trunk("maxID", last)
        if last < first:
            raise CniError("minID is greater than maxID in trunk parameter")
        found += range(first, last + 1)
    if single is not None:
        _check_trunk("id", single)
        found.append(single)
    return found


def _number(item: Fields, key: str) -> int | None:
    return None if lookup(item.data, key) is None else item.number(key)


def _check_trunk(key: str, vlan: int) -> None:
    if not 0 < vlan <= HIGHEST_VLAN:
        raise CniError(f"incorrect trunk {key} parameter")


def require_filtering(bridge: Link) -> None:
    """Refuse a bridge that would not keep VLANs apart. Raises CniError."""
    data = bridge.data
    if IFLA_BR_VLAN_DEFAULT_PVID not in data:
        raise kernel_without_vlans()
    if data.get(IFLA_BR_VLAN_FILTERING, b"\0")[:1] != b"\1":
        remedy = f"run: ip link set {bridge.name} type bridge vlan_filtering 1"
        raise CniError(f'the bridge "{bridge.name}" does not keep VLANs apart: {remedy}', UNSUPPORTED_FIELD)


def kernel_without_vlans() -> CniError:
    """What is to be said where no bridge can keep VLANs apart."""
    problem = "this kernel's bridges have no VLANs, it was built without CONFIG_BRIDGE_VLAN_FILTERING"
    remedy = "remove vlan and vlanTrunk and use a bridge for each network, or use another kernel"
    return CniError(f"{problem}: {remedy}", UNSUPPORTED_FIELD)


def set_port(netlink: NetlinkSocket, index: int, bridge: Link, vlans: Vlans) -> None:
    """Put a new port of the bridge into the VLANs. Raises NetlinkError."""
    default = bridge.data.get(IFLA_BR_VLAN_DEFAULT_PVID, b"")
    wanted = entries(vlans)
    if not wanted:
        return
    if not vlans.keeps_default and len(default) >= U16.size and any(default):
        body = port_message(index, [(U16.unpack_from(default)[0], 0)])
        netlink.request(links.RTM_DELLINK, body)
    netlink.request(links.RTM_SETLINK, port_message(index, wanted))


def entries(vlans: Vlans) -> list[tuple[int, int]]:
    """What the kernel is told: VLANs with flags, of neighbours only the first and the last."""
    told = [(vlans.native, PVID | UNTAGGED)] if vlans.native else []
    for first, last in _runs([vlan for vlan in vlans.trunk if vlan != vlans.native]):
        told += [(first, RANGE_BEGIN), (last, RANGE_END)] if first < last else [(first, 0)]
    return told


def _runs(numbers: list[int]) -> list[tuple[int, int]]:
    """First and last of each run of consecutive numbers."""
    runs: list[tuple[int, int]] = []
    for number in numbers:
        if runs and runs[-1][1] == number - 1:
            runs[-1] = runs[-1][0], number
        else:
            runs.append((number, number))
    return runs


def port_message(index: int, told: list[tuple[int, int]]) -> bytes:
    """The body of a request about the VLANs of a port."""
    infos = [attribute(IFLA_BRIDGE_VLAN_INFO, VLAN_INFO.pack(flags, vlan)) for vlan, flags in told]
    return links.ifinfomsg(index, family=AF_BRIDGE) + nested(IFLA_AF_SPEC, *infos)


def list_ports(netlink: NetlinkSocket, bridge: Link) -> dict[int, dict[int, int]]:
    """The VLANs of each port of a bridge, by the port's index: number and flags (PVID, UNTAGGED)."""
    body = links.ifinfomsg(family=AF_BRIDGE) + attribute_u32(IFLA_EXT_MASK, RTEXT_FILTER_BRVLAN)
    ports = [Link(message) for message in netlink.dump(links.RTM_GETLINK, body)]
    return {port.index: read_port(port) for port in ports if port.master == bridge.index != port.index}


def read_port(port: Link) -> dict[int, int]:
    """The VLANs in the kernel's description of a port."""
    found: dict[int, int] = {}
    for kind, value in list_attributes(port.attributes.get(IFLA_AF_SPEC, b"")):
        if kind == IFLA_BRIDGE_VLAN_INFO and len(value) >= VLAN_INFO.size:
            flags, vlan = VLAN_INFO.unpack_from(value)
            found[vlan] = flags & (PVID | UNTAGGED)
    return found
