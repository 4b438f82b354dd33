"""What a packet looked like at a device, and what had been decided when it was there."""

from __future__ import annotations

from collections.abc import Callable

from dataplane.lab.recording import Step
from dataplane.lab.view import PodPlace
from dataplane.lab.walking import bridge
from dataplane.lab.walking.scene import Scene, outermost
from dataplane.lab.walking.sightings import Sighting

WIRE, KERNEL = "wire", "kernel"


def seen(scene: Scene, leg: str, before: Sighting | None, sighting: Sighting) -> Step:
    """The step of a sighting; `before` is the one before it."""
    device = sighting.device
    direction = "out" if sighting.outgoing else "in"
    place = scene.place_of(sighting)
    step = Step(leg, device.where, place, sighting.packet, f"{place}.{direction}", WIRE)
    step.device, step.direction = device.name, direction
    step.args = {"where": device.where, "dev": device.name}
    teller = _TELLERS.get((place, direction), _plain)
    if place == "wire" and device.kind == "bridge":
        step.say, teller = f"wire.gateway.{direction}", _up_to_the_host if direction == "in" else _out_of_the_bridge
    teller(scene, step, before, sighting)
    return step


def _plain(scene: Scene, step: Step, before: Sighting | None, sighting: Sighting) -> None:
    """A device at which nothing is decided."""
    del before, sighting
    other = scene.survey.wires.get((step.where, step.device))
    step.args["other"] = other[0] if other else ""
    step.see = [scene.looks.run(step.where, f"ip -brief link show dev {step.device}")]


def _to_next_hop(scene: Scene, step: Step, before: Sighting | None, sighting: Sighting) -> None:
    """A host has put an Ethernet header on: whose MAC address it is for, from the neighbour table."""
    if sighting.layers[0].name != "Ethernet":
        return
    step.by = "neighbour"
    mac = sighting.layers[0]["to"]
    hop = _next_hop(scene, before, sighting)
    step.args |= {"mac": mac, "hop": hop}
    step.see = [scene.looks.run(step.where, f"ip neigh show {hop} dev {step.device}")]


def _next_hop(scene: Scene, before: Sighting | None, sighting: Sighting) -> str:
    """The address to which the host sends a packet: of its own, or of another one that came in by `before`."""
    network, where = outermost(sighting.packet), sighting.device.where
    came_in_by = ""
    if before is not None and before.device.where == where and scene.survey.owner(network["from"]) != where:
        came_in_by = before.device.master or before.device.name
    decision = scene.route(where, network, came_in_by)
    return decision.via if decision.via and decision.device == sighting.device.name else network["to"]


def _up_to_the_host(scene: Scene, step: Step, before: Sighting | None, sighting: Sighting) -> None:
    """A frame at a bridge, which passes it up: the MAC address is the bridge's own."""
    del before
    step.by = "bridge"
    mac = sighting.layers[0]["to"]
    entry = bridge.look_up(scene.looks, step.where, step.device, mac)
    step.args |= {"mac": mac, "port": entry.device}
    step.see = [bridge.see_entry(scene.looks, step.where, step.device, mac)]


def _out_of_the_bridge(scene: Scene, step: Step, before: Sighting | None, sighting: Sighting) -> None:
    """A host sends by its bridge: the MAC address from the neighbour table, its port from the forwarding table."""
    _to_next_hop(scene, step, before, sighting)
    step.by = "bridge"
    mac = sighting.layers[0]["to"]
    entry = bridge.look_up(scene.looks, step.where, step.device, mac)
    step.args["port"] = entry.device
    step.see.append(bridge.see_entry(scene.looks, step.where, step.device, mac))


def _out_by_a_port(scene: Scene, step: Step, before: Sighting | None, sighting: Sighting) -> None:
    """A frame leaves by a port: where it came in by another one, the bridge has found the MAC address behind this."""
    other = scene.survey.wires.get(sighting.device.key)
    step.args |= {"mac": sighting.layers[0]["to"], "other": other[0] if other else ""}
    if before is None or before.outgoing or before.device.where != step.where:
        step.see = [scene.looks.run(step.where, "bridge link show", grep=step.device)]
        return
    step.by = "bridge"
    entry = bridge.look_up(scene.looks, step.where, sighting.device.master, step.args["mac"])
    step.say = f"{step.place}.{'bridged' if entry.device else 'flooded'}"
    if sighting.device.key in scene.survey.impaired:
        step.by, step.say = WIRE, "wire.impaired"
    step.args["bridge"] = sighting.device.master
    step.see = [bridge.see_entry(scene.looks, step.where, sighting.device.master, step.args["mac"])]


def _in_by_a_port(scene: Scene, step: Step, before: Sighting | None, sighting: Sighting) -> None:
    """A frame comes in by a port of a bridge."""
    del before
    other = scene.survey.wires.get(sighting.device.key)
    step.args |= {"other": other[0] if other else "", "bridge": sighting.device.master}
    step.see = [scene.looks.run(step.where, "bridge link show", grep=step.device)]


def _out_by_a_tunnel(scene: Scene, step: Step, before: Sighting | None, sighting: Sighting) -> None:
    """A host's route leads into the overlay: into a TUN, from which a program reads, or into a VXLAN device."""
    step.by = KERNEL
    step.say = f"tunnel.out.{sighting.device.overlay}"
    step.args["mtu"] = sighting.device.mtu
    if sighting.device.overlay == "vxlan":
        _to_next_hop(scene, step, before, sighting)
    step.see.append(scene.looks.run(step.where, f"ip -details link show dev {step.device}"))


def _in_by_a_tunnel(scene: Scene, step: Step, before: Sighting | None, sighting: Sighting) -> None:
    """The overlay gives a packet to the host."""
    del before
    step.by = "engine" if sighting.device.overlay == "tun" else KERNEL
    step.say = f"tunnel.in.{sighting.device.overlay}"
    step.see = [scene.looks.run(step.where, f"ip -brief address show dev {step.device}")]


def _into_a_pod(scene: Scene, step: Step, before: Sighting | None, sighting: Sighting) -> None:
    """A frame comes to a pod's end of its wire."""
    del before
    step.args |= {"mac": sighting.layers[0].get("to"), "pod": isinstance(scene.view.find(step.where), PodPlace)}
    step.see = [scene.looks.run(step.where, f"ip -brief address show dev {step.device}")]


_TELLERS: dict[tuple[str, str], Callable[[Scene, Step, Sighting | None, Sighting], None]] = {
    ("eth0", "out"): _to_next_hop,
    ("host", "out"): _to_next_hop,
    ("underlay", "out"): _to_next_hop,
    ("eth0", "in"): _into_a_pod,
    ("host", "in"): _into_a_pod,
    ("underlay", "in"): _into_a_pod,
    ("bridge", "in"): _up_to_the_host,
    ("bridge", "out"): _out_of_the_bridge,
    ("veth", "in"): _in_by_a_port,
    ("wire", "in"): _in_by_a_port,
    ("veth", "out"): _out_by_a_port,
    ("wire", "out"): _out_by_a_port,
    ("tunnel", "out"): _out_by_a_tunnel,
    ("tunnel", "in"): _in_by_a_tunnel,
}
