"""What a bridge, or the kernel's VXLAN device, knew of a MAC address, and what was seen of what it did."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from dataplane.lab.walking.looks import Looks
from dataplane.lab.walking.survey import Device, Survey


@dataclass(frozen=True, slots=True)
class Entry:
    """What a forwarding table says of a MAC address."""

    mac: str
    device: str = ""
    """The port behind which it is; the bridge itself for its own address; empty: nothing is known."""
    own: bool = False
    """Whether it is an address of the bridge or of the port, so that the frame goes up to the host."""
    remote: str = ""
    """A VXLAN device's entry: the underlay address to send to."""


def look_up(looks: Looks, where: str, bridge: str, mac: str) -> Entry:
    """The entry of a bridge for `mac`."""
    entries = looks.objects(where, f"bridge -json fdb show br {bridge}")
    found = [entry for entry in entries if entry.get("mac") == mac]
    for entry in sorted(found, key=lambda entry: entry.get("ifname") != bridge):
        own = entry.get("state") == "permanent"
        return Entry(mac, str(entry.get("ifname", "")), own)
    return Entry(mac)


def look_up_remote(looks: Looks, where: str, device: str, mac: str) -> Entry:
    """The entry of a VXLAN device for `mac`."""
    entries = looks.objects(where, f"bridge -json fdb show dev {device}")
    for entry in entries:
        if entry.get("mac") == mac and entry.get("dst"):
            return Entry(mac, device, remote=str(entry["dst"]))
    return Entry(mac)


def see_entry(looks: Looks, where: str, bridge: str, mac: str) -> int:
    """The command that shows a bridge's entry."""
    return looks.run(where, f"bridge fdb show br {bridge}", grep=mac)


def port_state(device: Device) -> dict[str, Any]:
    """What a bridge's port is set to: state, flood, learning and so on."""
    data = device.link.get("linkinfo", {}).get("info_slave_data", {})
    return data if isinstance(data, dict) else {}


def floods_nowhere(survey: Survey, where: str, bridge: str, came_in_by: str) -> bool:
    """Whether a frame for an unknown MAC address would leave the bridge by no port at all."""
    ports = [d for d in survey.of(where) if d.master == bridge and d.name != came_in_by and d.up]
    return not any(
        port_state(port).get("flood", True) and port_state(port).get("state") != "disabled" for port in ports
    )


def neighbour(looks: Looks, where: str, address: str, device: str) -> dict[str, Any]:
    """The neighbour entry of an address, with `lladdr` and `state`; empty when there is none."""
    found = looks.objects(where, f"ip -json neigh show {address} dev {device}")
    return found[0] if found else {}
