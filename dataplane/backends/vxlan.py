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

from dataplane import gojson, netdev
from dataplane.addresses import Address, Network
from dataplane.backends.base import BackendContext
from dataplane.backends.hostgw import Link
from dataplane.backends.kernel import KernelBackend, NoWayError
from dataplane.backends.vxlan_device import VxlanDevice, VxlanLink, ensure_vxlan
from dataplane.errors import ConfigError
from dataplane.lease import LeaseAttrs
from dataplane.leftovers import Leftovers
from dataplane.rtnetlink import Entry, ForwardingEntry, Neighbour, Route

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


class VxlanBackend(KernelBackend):
    """See `dataplane.backends.base.Backend` for the contract of each method."""

    name = "vxlan"

    def __init__(self, context: BackendContext) -> None:
        """Make the devices at once: their MAC addresses are published. NodeError if the kernel has no vxlan."""
        super().__init__(context)
        config = context.config.backend
        self._vni = config.integer("VNI", 1, 0, _MAX_VNI)
        self._direct_routing = config.boolean("DirectRouting", False)
        outer_mtu = config.integer("MTU", 0, 0, 65535) or self._interface.mtu
        self._mtu = outer_mtu - max(ENCAP_OVERHEAD[version] for version in self._underlay)
        self._link = Link(self._interface.name)
        self._wishes = {
            version: VxlanDevice(
                name=f"{_NAMES[version]}{self._vni}",
                vni=self._vni,
                port=config.integer("Port", 0, 0, 65535),
                interface=self._interface.name,
                local=address,
                learning=config.boolean("Learning", False),
                gbp=config.boolean("GBP", False),
            )
            for version, address in self._underlay.items()
        }
        self._links: dict[int, VxlanLink] = {version: ensure_vxlan(wish) for version, wish in self._wishes.items()}

    @property
    def mtu(self) -> int:
        """What is left for pods inside of the outer headers."""
        return self._mtu

    @property
    def attrs(self) -> LeaseAttrs:
        """The public addresses, and VNI and MAC address of the device of each family."""
        data = {version: VxlanData(self._vni, link.mac).to_json() for version, link in self._links.items()}
        return replace(super().attrs, backend_data=data.get(4), backend_v6_data=data.get(6))

    @property
    def leftovers(self) -> Leftovers:
        """The devices, and routes to peers that need none."""
        return Leftovers({wish.name: "vxlan" for wish in self._wishes.values()}, tuple(self._networks))

    def _bring_up(self) -> None:
        self._link.look()
        for version, wish in self._wishes.items():
            # A device that somebody deleted comes back with the MAC address that peers know.
            self._links[version] = ensure_vxlan(wish, self._links[version].mac)
            addresses = [address for address in self._own_addresses if address.version == version]
            netdev.configure_device(wish.name, addresses, (), self._mtu)

    def _devices(self) -> Sequence[int]:
        return [link.index for link in self._links.values()]

    def _port(self) -> int:
        return next(iter(self._links.values())).port

    def _way(self, attrs: LeaseAttrs, subnet: Network, address: Address) -> tuple[Entry, ...]:
        if self._direct_routing and self._link.has(address):
            return (Route(subnet, address, self._link.index),)
        device, gateway = self._links[subnet.version].index, subnet.network_address
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
