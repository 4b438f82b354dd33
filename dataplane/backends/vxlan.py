"""The vxlan backend: the kernel's vxlan device (RFC 7348), with static entries for every peer in place of flooding.

For each family of the pod network there is a device, `flannel.VNI` for IPv4 and `flannel-v6.VNI` for IPv6. A packet for
a peer's subnet takes three steps, none of which asks the wire:

1. route: the subnet is behind the subnet's base address, by the device, `onlink`
2. neighbour: that address has the MAC address which the peer published
3. forwarding entry: frames for that MAC address go in UDP to the peer's public address

With `DirectRouting` a peer on the same link gets a plain route by its address instead, as in the host-gw backend.
Names, entries and what is published are flannel's, so both can share a network (flannel pkg/backend/vxlan):

    "Backend": {"Type": "vxlan", "VNI": 1, "Port": 0, "GBP": false, "Learning": false, "DirectRouting": false, "MTU": 0}

Port 0 is the kernel's default, 8472; MTU 0 is the external interface's. In one thing we differ: over IPv6 the outer
headers take 70 bytes, of which flannel allows for 50 and leaves the rest to fragmentation.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from dataplane.addresses import Address, Network
from dataplane.backends.base import BackendContext
from dataplane.backends.routed import KernelBackend, Link, NoWayError
from dataplane.backends.vxlan_device import (
    KIND,
    VxlanDevice,
    VxlanLink,
    ensure_vxlan,
    find_vxlan,
    forget_renamed,
    set_mac,
)
from dataplane.errors import ConfigError
from dataplane.kernel.device import device_wishes
from dataplane.kernel.leftovers import Leftovers
from dataplane.kernel.netdev import ExternalInterface
from dataplane.kernel.rtnetlink import Entry, ForwardingEntry, Neighbour, Route
from dataplane.kernel.wishes import Wish
from dataplane.leases import gojson
from dataplane.leases.lease import LeaseAttrs

ENCAP_OVERHEAD = {4: 50, 6: 70}
"""Bytes that an inner packet grows by: inner Ethernet 14, VXLAN 8, UDP 8, and IPv4 20 or IPv6 40."""

_NAMES = {4: "flannel.", 6: "flannel-v6."}
_MAX_VNI = (1 << 24) - 1


@dataclass(frozen=True, slots=True)
class VxlanData:
    """What a node publishes for each family: the network identifier and its device's MAC address, 6 bytes."""

    vni: int
    mac: bytes

    def to_json(self) -> str:
        """The JSON text, byte for byte flannel's."""
        return gojson.dumps({"VNI": self.vni, "VtepMAC": self.mac.hex(":")})

    @classmethod
    def from_json(cls, text: str | None) -> "VxlanData":
        """Read what a peer published; ConfigError if that cannot be used."""
        source = gojson.loads(text or "{}", "its vxlan data")
        written = gojson.string(source, "VtepMAC", "")
        try:
            mac = bytes.fromhex(written.replace("-", ":").replace(":", " "))
        except ValueError:
            mac = b""
        if len(mac) != 6 or mac[0] & 1 or not any(mac):
            raise ConfigError(f"its vxlan data name no MAC address of a host: VtepMAC is {written[:40]!r}")
        return cls(gojson.integer(source, "VNI", 0, 0, _MAX_VNI), mac)


class WishedVxlan:
    """The vxlan device `device` of one family: a `wishes.Wish`."""

    vital = True

    def __init__(self, backend: "VxlanBackend", version: int, device: VxlanDevice) -> None:
        self.what = f"the vxlan device {device.name}"
        self.leftovers = Leftovers({device.name: KIND})
        self._backend, self._version, self._device = backend, version, device

    def difference(self) -> str:
        """Whether it is gone or another than wished."""
        found, known = find_vxlan(self._device), self._backend.links[self._version]
        if found is None:
            return "was gone, or another"
        if found.mac != known.mac:
            return f"had the MAC address {found.mac.hex(':')}, which peers do not know"
        self._backend.links[self._version] = found
        return ""

    def fulfil(self) -> None:
        """Make it; one that somebody changed or deleted comes back with the MAC address that peers know."""
        known = self._backend.links[self._version]
        mac = known.mac
        forget_renamed(self._device, known)
        link = ensure_vxlan(self._device, mac)
        self._backend.links[self._version] = link if link.mac == mac else set_mac(self._device, mac)


class VxlanBackend(KernelBackend):
    """See `dataplane.backends.base.Backend` for the contract of each method."""

    name = "vxlan"

    def __init__(self, context: BackendContext) -> None:
        """Make the devices at once: their MAC addresses are published. NodeError if the kernel has no vxlan."""
        config = context.config.backend
        self._vni = config.integer("VNI", 1, 0, _MAX_VNI)
        self._wished_port = config.integer("Port", 0, 0, 65535)
        self._outer_mtu = config.integer("MTU", 0, 0, 65535)
        self._learning, self._gbp = config.boolean("Learning", False), config.boolean("GBP", False)
        self._direct_routing = config.boolean("DirectRouting", False)
        super().__init__(context)
        self.links: dict[int, VxlanLink] = {
            version: ensure_vxlan(wish) for version, wish in self._devices_wished.items()
        }

    def _face(self, interface: ExternalInterface) -> None:
        super()._face(interface)
        self._link = Link(interface.name)
        self._mtu = (self._outer_mtu or interface.mtu) - max(ENCAP_OVERHEAD[version] for version in self._underlay)
        self._devices_wished = {
            version: VxlanDevice(
                name=f"{_NAMES[version]}{self._vni}",
                vni=self._vni,
                port=self._wished_port,
                interface=interface.name,
                local=address,
                learning=self._learning,
                gbp=self._gbp,
            )
            for version, address in self._underlay.items()
        }

    @property
    def mtu(self) -> int:
        """What is left for pods inside of the outer headers."""
        return self._mtu

    @property
    def attrs(self) -> LeaseAttrs:
        """The public addresses, and VNI and MAC address of the device of each family."""
        data = {version: VxlanData(self._vni, link.mac).to_json() for version, link in self.links.items()}
        return replace(super().attrs, backend_data=data.get(4), backend_v6_data=data.get(6))

    @property
    def port(self) -> int:
        """The UDP port of the devices."""
        return next(iter(self.links.values())).port

    def _device_wishes(self, subnets: Sequence[Network]) -> list[Wish]:
        wishes: list[Wish] = []
        for version, device in self._devices_wished.items():
            addresses = [subnet.network_address for subnet in subnets if subnet.version == version]
            wishes += [WishedVxlan(self, version, device), *device_wishes(device.name, addresses, (), self._mtu)]
        return wishes

    def _look(self) -> None:
        self._link.look()

    def _device_name(self) -> str:
        return next(iter(self._devices_wished.values())).name

    def _devices(self) -> Sequence[int]:
        return [link.index for link in self.links.values()]

    def _way(self, attrs: LeaseAttrs, subnet: Network, address: Address) -> tuple[Entry, ...]:
        if self._direct_routing and self._link.has(address):
            return (Route(subnet, address, self._link.index),)
        device, gateway = self.links[subnet.version].index, subnet.network_address
        try:
            data = VxlanData.from_json(attrs.backend_data if subnet.version == 4 else attrs.backend_v6_data)
        except ConfigError as error:
            raise NoWayError(str(error)) from error
        if data.vni != self._vni:
            raise NoWayError(f"its VNI is {data.vni}, this node's is {self._vni}")
        return (
            Neighbour(device, gateway, data.mac),
            ForwardingEntry(device, data.mac, address),
            Route(subnet, gateway, device, onlink=True),
        )


def create(context: BackendContext) -> VxlanBackend:
    """Make the backend."""
    return VxlanBackend(context)
