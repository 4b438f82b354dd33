"""What a backend has on its host and leaves there when the node stops.

A node that stops takes nothing away, so a backend's devices and routes outlive its process. They are written down in
the run directory (see `run_directory`) for whoever has to remove them later (see `removal`).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from dataplane.addresses import Network


@dataclass(frozen=True, slots=True)
class Leftovers:
    """Devices by name with their kind (`{"udplane0": "tun"}`), and the networks to which peers' routes lead."""

    devices: Mapping[str, str] = field(default_factory=dict)
    networks: tuple[Network, ...] = ()
