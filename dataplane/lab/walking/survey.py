"""What devices there are in a lab, and how they are joined: asked of the kernel, before a walk."""

from __future__ import annotations

import contextlib
import json
import subprocess
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

from dataplane.lab.impairment import tap_of
from dataplane.lab.netns import LabError, Namespace
from dataplane.lab.view import LabView, Place, SegmentPlace

Key = tuple[str, str]
"""Name of a place and of a device there."""


@dataclass(frozen=True, slots=True)
class Device:
    """A network device of a place."""

    where: str
    name: str
    kind: str
    """veth, bridge, tun, vxlan ..., as `ip -details link` says; empty for others."""
    mac: str
    mtu: int
    up: bool
    master: str
    """The bridge that it is a port of, or empty."""
    link: dict[str, Any]
    """All that `ip -json -details link` says."""
    addresses: tuple[str, ...] = ()

    @property
    def key(self) -> Key:
        """Where it is."""
        return self.where, self.name

    @property
    def overlay(self) -> str:
        """`tun` or `vxlan` for the device of an overlay, else empty."""
        return self.kind if self.kind in ("tun", "vxlan") else ""

    @property
    def index(self) -> int:
        """Its number in its namespace."""
        return int(self.link.get("ifindex", 0))

    @property
    def peer_index(self) -> int:
        """The number of the other end of a veth pair, in that one's namespace."""
        return int(self.link.get("link_index", -1))


@dataclass(slots=True)
class Survey:
    """All devices of a lab."""

    view: LabView
    devices: dict[Key, Device] = field(default_factory=dict)
    wires: dict[Key, Key] = field(default_factory=dict)
    """The other end of each wire."""
    impaired: dict[Key, str] = field(default_factory=dict)
    """Ports of a wire that delays or loses packets -> the bridge's device towards it: itself where netem does that."""

    def of(self, where: str) -> Iterator[Device]:
        """The devices of a place."""
        return (device for device in self.devices.values() if device.where == where)

    def owner(self, address: str) -> str:
        """The place that has `address` on one of its devices, or empty."""
        for device in self.devices.values():
            if address in device.addresses:
                return device.where
        return ""


def ask(namespace: Namespace, argv: Sequence[str], timeout: float = 10.0) -> subprocess.CompletedProcess[str]:
    """Run a program in a namespace, which need not see its own /sys, and wait for its end. Never fails."""
    try:
        with namespace.entered():
            return subprocess.run(argv, capture_output=True, text=True, errors="replace", check=False, timeout=timeout)
    except (OSError, subprocess.TimeoutExpired) as error:
        return subprocess.CompletedProcess(argv, 1, "", f"{argv[0]}: {error}")


def ask_json(namespace: Namespace, argv: Sequence[str]) -> list[dict[str, Any]]:
    """What a program of iproute2 prints as JSON; nothing when it fails."""
    return objects_of(ask(namespace, argv))


def objects_of(done: subprocess.CompletedProcess[str]) -> list[dict[str, Any]]:
    """The objects in a program's output."""
    with contextlib.suppress(json.JSONDecodeError):
        found = json.loads(done.stdout or "[]")
        return [entry for entry in found if isinstance(entry, dict)] if isinstance(found, list) else []
    return []


def survey(view: LabView) -> Survey:
    """Ask every namespace of the lab. Raises LabError when one of them is gone."""
    found = Survey(view)
    places = list(view.places())
    for place in places:
        if not place.namespace.path.exists():
            raise LabError(f"the namespace of {place.name} is gone; take the lab down and up again")
    show = ["ip", "-json", "-details", "address", "show"]
    with ThreadPoolExecutor() as pool:
        links = list(pool.map(lambda place: ask_json(place.namespace, show), places))
    for place, listed in zip(places, links, strict=True):
        for link in listed:
            device = _device(place, link)
            if device.name != "lo":
                found.devices[device.key] = device
    for segment in view.segments:
        _see_through_impairments(found, segment)
    for one, other in _wires(found):
        found.wires[one.key], found.wires[other.key] = other.key, one.key
    _find_more_wires(found)
    return found


def _see_through_impairments(found: Survey, segment: SegmentPlace) -> None:
    """Where a program stands between a port and the bridge, the port counts as the bridge's: its TAP is no place."""
    for name in segment.ports.values():
        port = found.devices.get((segment.name, name))
        if port is None:
            continue
        if port.link.get("qdisc") == "netem":
            found.impaired[port.key] = name
        tap = found.devices.pop((segment.name, tap_of(port.index)), None)
        if tap is not None:
            found.impaired[port.key] = tap.name
            found.devices[port.key] = replace(port, master=tap.master)


def _device(place: Place, link: dict[str, Any]) -> Device:
    return Device(
        where=place.name,
        name=str(link.get("ifname", "")),
        kind=str(link.get("linkinfo", {}).get("info_kind", "")),
        mac=str(link.get("address", "")),
        mtu=int(link.get("mtu", 0)),
        up="UP" in link.get("flags", []) and "NO-CARRIER" not in link.get("flags", []),
        master=str(link.get("master", "")),
        link=link,
        addresses=tuple(str(entry.get("local", "")) for entry in link.get("addr_info", [])),
    )


def _wires(found: Survey) -> Iterator[tuple[Device, Device]]:
    """The wires that the lab's document tells of: it knows whom a port leads to, the kernel to which of its devices."""
    for pod in found.view.pods:
        one, other = found.devices.get((pod.name, pod.device)), found.devices.get((pod.node, pod.host_device))
        if one is not None and other is not None and one.peer_index == other.index:
            yield one, other
    for segment in found.view.segments:
        for member, name in segment.ports.items():
            port = found.devices.get((segment.name, name))
            for other in found.of(member) if port is not None else ():
                if port is not None and (port.peer_index, port.index) == (other.index, other.peer_index):
                    yield port, other


def _find_more_wires(found: Survey) -> None:
    """Join the ends of veth pairs that the document is silent about: each names the other's index and namespace."""
    loose = [device for device in found.devices.values() if device.kind == "veth" and device.key not in found.wires]
    names = {place.netns: place.name for place in found.view.places()}
    spaces: dict[str, dict[int, str]] = {}
    for device in loose:
        if device.where not in spaces:
            listed = ask_json(found.view.find(device.where).namespace, ["ip", "-json", "netns", "list-id"])
            spaces[device.where] = {int(e.get("nsid", -1)): names.get(str(e.get("name", "")), "") for e in listed}
    for device in loose:
        there = spaces[device.where].get(int(device.link.get("link_netnsid", -1)), "")
        for other in loose:
            if other.where == there and other.index == device.peer_index:
                found.wires[device.key] = other.key
