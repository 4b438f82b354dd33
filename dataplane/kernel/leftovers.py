"""What a node has on its host and leaves there when it stops.

A node that stops takes nothing away, so what it made outlives its process. It is written down in the run directory (see
`node.run_directory`) for whoever has to remove it later (see `removal`).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from dataplane.addresses import Network


@dataclass(frozen=True, slots=True)
class Leftovers:
    """Devices by name with their kind (`{"udplane0": "tun"}`), the networks to which peers' routes lead, and files.

    The addresses and routes of a device go with it. The rules are not listed: they can be told by their names.
    """

    devices: Mapping[str, str] = field(default_factory=dict)
    networks: tuple[Network, ...] = ()
    files: tuple[Path, ...] = ()

    @classmethod
    def sum(cls, parts: Iterable["Leftovers"]) -> "Leftovers":
        """All of several."""
        devices: dict[str, str] = {}
        networks: dict[Network, None] = {}
        files: dict[Path, None] = {}
        for part in parts:
            devices |= part.devices
            networks |= dict.fromkeys(part.networks)
            files |= dict.fromkeys(part.files)
        return cls(devices, tuple(networks), tuple(files))


NOTHING = Leftovers()
