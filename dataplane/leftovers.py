"""What a backend has on its host, and its removal: by `udplane leave`, or when the node changes to another backend.

A node that stops takes nothing away, so a backend's devices and routes outlive its process. They are written down in
the run directory (see `run_directory`) for whoever has to remove them later.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from dataplane import netdev
from dataplane.addresses import Network
from dataplane.rtnetlink import Tables


@dataclass(frozen=True, slots=True)
class Leftovers:
    """Devices by name with their kind (`{"udplane0": "tun"}`), and the networks to which peers' routes lead."""

    devices: Mapping[str, str] = field(default_factory=dict)
    networks: tuple[Network, ...] = ()


def remove_leftovers(leftovers: Leftovers, keep: Leftovers = Leftovers()) -> Iterator[str]:
    """Remove what is in `leftovers` but not in `keep`, saying line by line what was done.

    Addresses, neighbours and routes of a device go with it. NodeError if a device is not of the kind that it should be.
    """
    for name, kind in leftovers.devices.items():
        if name not in keep.devices and netdev.remove_device(name, kind):
            yield f"removed {name} with its addresses and routes"
    networks = [network for network in leftovers.networks if network not in keep.networks]
    with Tables() as tables:
        routes = tables.read(networks, devices=())
        tables.update(remove=routes, put=())
    if routes:
        yield f"removed {len(routes)} route{'s' * (len(routes) > 1)} to peers"
