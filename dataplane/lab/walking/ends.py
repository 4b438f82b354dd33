"""Where and why a packet ended that did not arrive: looked for at the place where it was seen last.

Each question is put to the kernel or the node at that place: is the other end of the wire up, what does the bridge
know, which rule dropped it, what does the route say, what does the engine say, does a socket listen. Reasons have the
names of verdicts where the engine has one for it.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from dataplane.lab.dissect import Layer
from dataplane.lab.overlay import last_line
from dataplane.lab.recording import Packet, Step
from dataplane.lab.view import NodePlace
from dataplane.lab.walking import bridge, inside
from dataplane.lab.walking.scene import Scene, bare, headers, outermost, with_ttl
from dataplane.lab.walking.sightings import Sighting
from dataplane.lab.walking.sockets import listens, see_socket
from dataplane.lab.walking.survey import Device

COUNTERS = {
    "ttl_exceeded": ("Ip.InHdrErrors", "Ip6InHdrErrors", "Icmp.OutTimeExcds", "Icmp6OutTimeExcds"),
    "no_route": ("IpExt.InNoRoutes", "Ip.OutNoRoutes", "Ip6InNoRoutes", "Ip6OutNoRoutes"),
    "too_big": ("Ip.FragFails", "Ip6InTooBigErrors", "Ip6FragFails"),
    "rp_filter": ("TcpExt.IPReversePathFilter",),
    "forwarding_off": ("Ip.InAddrErrors", "IpExt.InNoRoutes", "Ip6InAddrErrors"),
    "no_socket": ("Udp.NoPorts", "Udp6NoPorts", "Tcp.OutRsts"),
    "prohibited": ("Ip.OutNoRoutes", "Icmp.OutDestUnreachs"),
}
"""The kernel's counters that move when a packet ends for a reason; the engine's are named like the reason."""

LOCAL_ERRORS = {
    errno.ENETUNREACH: "no_route",
    errno.EHOSTUNREACH: "no_route",
    errno.EMSGSIZE: "too_big",
    errno.EPERM: "nft_drop",
    errno.EACCES: "prohibited",
    errno.ENETDOWN: "interface_down",
    errno.EINVAL: "no_route",
}
"""What a sender's system call says when its own host refuses."""


@dataclass(slots=True)
class End:
    """How a leg ended; no verdict: it arrived."""

    verdict: str = ""
    args: dict[str, Any] = field(default_factory=dict)
    where: str = ""
    place: str = ""


Found = tuple[list[Step], End]
"""The steps that show it, and the reason."""


def find(scene: Scene, leg: str, last: Sighting) -> Found:
    """Why a packet went no further than its last sighting."""
    device = last.device
    if last.outgoing:
        if device.overlay == "tun":
            return _in_engine_out(scene, leg, last)
        if device.overlay == "vxlan":
            return _in_vxlan(scene, leg, last)
        if device.kind == "bridge":
            return _in_bridge(scene, leg, last, device.name)
        return _on_wire(scene, leg, last)
    if device.master:
        return _in_bridge(scene, leg, last, device.master)
    if last.encapsulated and scene.survey.owner(outermost(last.packet)["to"]) == device.where:
        return _in_engine_in(scene, leg, last)
    return _in_host(scene, leg, last)


def at_source(scene: Scene, leg: str, error: OSError | None) -> Found:
    """Why a packet was seen nowhere: what the sender's own host said, or what its routes and neighbours say."""
    where = scene.source.name
    packet = Packet("data", scene.probe.nonce, "recomputed")
    number = error.errno if error is not None else None
    reason = LOCAL_ERRORS.get(number or 0, "") or "no_neighbour"
    step = Step(leg, where, "route", packet, f"died.{reason}", "kernel")
    family = "-6 " if scene.destination.version == 6 else ""
    step.args = {"where": where, "to": str(scene.destination), "error": error.strerror if error else ""}
    step.see = [scene.looks.run(where, f"ip {family}route get {scene.destination}")]
    if reason == "no_neighbour":
        down = _down_beyond(scene, where)
        step.see.append(scene.looks.run(where, f"ip {family}neigh show"))
        if down is not None:
            reason, step.args["dev"] = "interface_down", down.name
            step.say, step.where, step.place = "died.interface_down", down.where, "veth"
            step.see.append(scene.looks.run(down.where, f"ip -brief link show dev {down.name}"))
    if reason == "nft_drop":
        step.place, step.by = "netfilter", "netfilter"
    return [step], End(reason, step.args)


def _down_beyond(scene: Scene, where: str) -> Device | None:
    """A device at the other end of one of a place's wires that is down, or whose bridge is."""
    for device in scene.survey.of(where):
        other = scene.survey.devices.get(scene.survey.wires.get(device.key, ("", "")))
        if other is not None and not other.up:
            return other
        master = scene.survey.devices.get((other.where, other.master)) if other is not None else None
        if master is not None and not master.up:
            return master
    return None


def _step(scene: Scene, leg: str, last: Sighting, place: str, reason: str, **args: Any) -> Step:
    """The step at which a packet ends."""
    where = last.device.where
    step = Step(leg, where, place, headers(bare(last.packet)), f"died.{reason}", "kernel")
    step.args = {
        "where": where,
        "dev": last.device.name,
        "to": last.network["to"],
        "from": last.network["from"],
        **args,
    }
    step.counters = scene.counters(where, *COUNTERS.get(reason, ()))
    return step


def _on_wire(scene: Scene, leg: str, last: Sighting) -> Found:
    """It left by a wire whose other end has not seen it: that end is down, or the wire lost it."""
    other = scene.survey.devices.get(scene.survey.wires.get(last.device.key, ("", "")))
    if other is None or other.up:
        step = _step(scene, leg, last, scene.place_of(last), "lost")
        step.packet = last.packet
        return [step], End("lost", step.args)
    step = _step(scene, leg, last, "veth" if other.master else "eth0", "interface_down")
    step.where, step.args["dev"], step.args["where"] = other.where, other.name, other.where
    if isinstance(scene.view.find(other.where), NodePlace) and not other.master:
        step.place = "underlay"
    step.packet = last.packet
    step.see = [scene.looks.run(other.where, f"ip -brief link show dev {other.name}")]
    step.counters = scene.counters(last.device.where, f"{last.device.name}.tx_dropped")
    return [step], End("interface_down", step.args)


def _in_bridge(scene: Scene, leg: str, last: Sighting, name: str) -> Found:
    """It came to a bridge and left by no port."""
    where, mac = last.device.where, last.layers[0]["to"]
    entry = bridge.look_up(scene.looks, where, name, mac)
    lossy = _lossy_port(scene, last, name, entry)
    entry = replace(entry, device=lossy or entry.device)
    see = [bridge.see_entry(scene.looks, where, name, mac), scene.looks.run(where, "bridge link show")]
    down = _down_behind(scene, where, name, entry)
    place = "wire" if scene.place_of(last) == "wire" else "bridge"
    if down is not None:
        reason = "interface_down"
        step = _step(scene, leg, last, place, reason)
        step.where, step.args["dev"], step.args["where"] = down.where, down.name, down.where
        step.place = scene.place_of(_at(last, down))
        see.append(scene.looks.run(down.where, f"ip -brief link show dev {down.name}"))
    else:
        reason = "fdb_miss" if not entry.device else "lost" if lossy else "bridge_drop"
        step = _step(scene, leg, last, place, reason, mac=mac, bridge=name)
        step.say = "died.lost_by_wire" if lossy else step.say
    step.packet, step.by, step.see = last.packet, "bridge", see
    return [step], End(reason, step.args)


def _lossy_port(scene: Scene, last: Sighting, name: str, entry: bridge.Entry) -> str:
    """The port by which a frame had to leave, if its wire loses packets; for an unknown address any such port."""
    where, impaired = last.device.where, scene.survey.impaired
    ports = [d for d in scene.survey.of(where) if d.master == name and d.key != last.device.key and d.key in impaired]
    return next((port.name for port in ports if entry.device in ("", port.name, impaired[port.key])), "")


def _at(sighting: Sighting, device: Device) -> Sighting:
    """The sighting as if it had been at another device."""
    return Sighting(device, False, 0, sighting.packet, sighting.kind, sighting.attempt)


def _down_behind(scene: Scene, where: str, name: str, entry: bridge.Entry) -> Device | None:
    """The device that is down behind the port where a bridge has a MAC address, or behind any port if it has none."""
    master = scene.survey.devices.get((where, name))
    if master is not None and not master.up:
        return master
    ports = [d for d in scene.survey.of(where) if d.master == name and entry.device in ("", d.name)]
    for port in ports:
        other = scene.survey.devices.get(scene.survey.wires.get(port.key, ("", "")))
        if other is not None and "UP" not in other.link.get("flags", []):
            return other
        if "UP" not in port.link.get("flags", []):
            return port
    return None


def _in_engine_out(scene: Scene, leg: str, last: Sighting) -> Found:
    """The kernel gave it to the TUN, and no datagram came out."""
    step = inside.engine_out(scene, leg, last, None)
    return [step], End(_engines_reason(scene, step, "encap", "send_failed"), step.args)


def _engines_reason(scene: Scene, step: Step, way: str, otherwise: str) -> str:
    """Why an engine let a packet end: its rule, or what its counter says where the rules would have let it go on."""
    verdict = str(step.args["verdict"])
    if verdict not in ("forwarded", ""):
        return verdict
    node = scene.view.node(step.where)
    prefix = f"udplane.{way}.drops."
    step.counters = [c for c in scene.moved if c.where == step.where and c.name.startswith(prefix)]
    if node.engine.endswith(".py"):
        step.say, verdict = "died.own_engine", "own_engine"
        step.args["file"] = Path(node.engine).name
        step.see.append(scene.looks.add(node.name, "tail -n 1 log", last_line(Path(node.directory, "log"))))
        return verdict
    counted = step.counters[0].name.removeprefix(prefix) if step.counters else otherwise
    verdict = "not_running" if step.args["trouble"] else counted
    step.say = f"died.{verdict}"
    return verdict


def _in_vxlan(scene: Scene, leg: str, last: Sighting) -> Found:
    """The kernel's VXLAN device did not send it: it knows no remote for the MAC address."""
    where, device, mac = last.device.where, last.device.name, last.layers[0]["to"]
    entry = bridge.look_up_remote(scene.looks, where, device, mac)
    reason = "lost" if entry.remote else "fdb_miss"
    step = _step(scene, leg, last, "tunnel", reason, mac=mac, bridge=device)
    step.by, step.packet = "vxlan", last.packet
    step.see = [scene.looks.run(where, f"bridge fdb show dev {device}")]
    step.counters = scene.counters(where, f"{device}.tx_dropped", f"{device}.tx_errors", f"{device}.tx_carrier")
    return [step], End(reason, step.args)


def _in_engine_in(scene: Scene, leg: str, last: Sighting) -> Found:
    """A datagram of the overlay came to its node, and nothing came out of the tunnel."""
    where = last.device.where
    steps = inside.netfilter(scene, leg, where, [last.layers], headers(bare(last.packet)))
    dropped = _dropped(steps)
    if dropped is not None:
        return steps, dropped
    udp = inside.udp_in(scene, leg, last)
    if not listens(scene.view, where, "udp", udp.args["dport"]):
        return [*steps, _nobody_listens(scene, leg, last, udp.args["dport"], "udp")], End("no_socket", udp.args)
    step = inside.engine_in(scene, leg, last, None)
    return [*steps, udp, step], End(_engines_reason(scene, step, "decap", "lost"), step.args)


def _dropped(steps: list[Step]) -> End | None:
    """The end, if netfilter's step was a drop."""
    if steps and steps[-1].say.startswith("netfilter.drop"):
        return End("nft_drop", steps[-1].args)
    return None


def _in_host(scene: Scene, leg: str, last: Sighting) -> Found:
    """It came into a host that is to route it on, and left by no device."""
    where, network = last.device.where, outermost(last.packet)
    decision = scene.route(where, network, last.device.name)
    filtered = inside.netfilter(scene, leg, where, _forms(last), headers(bare(last.packet)))
    args = {**decision.args, "iif": last.device.name}
    if decision.reason in ("rp_filter", "forwarding_off") or (decision.reason and not _dropped(filtered)):
        step = _step(scene, leg, last, "route", decision.reason, **args)
        step.by, step.see = "route", decision.see
        return [step], End(decision.reason, step.args)
    dropped = _dropped(filtered)
    if dropped is not None:
        return filtered, dropped
    reason, more = _after_the_route(scene, last, decision.device, decision.via)
    step = _step(scene, leg, last, "route", reason, **{**args, **more})
    step.say += ".link" if reason == "too_big" else ""
    step.by, step.see = "route", [*decision.see, *_see_reason(scene, where, reason, step.args)]
    return [*filtered, step], End(reason, step.args)


def _forms(last: Sighting) -> list[list[Layer]]:
    """A packet as it came, and with one TTL less, as chains after routing see it."""
    if last.ttl <= 1:
        return [last.layers]
    return [last.layers, headers(with_ttl(bare(last.packet), -1)).layers]


def _after_the_route(scene: Scene, last: Sighting, device: str, via: str) -> tuple[str, dict[str, Any]]:
    """Why a packet with a way is not sent: its TTL, its size, the device, or a next hop that does not answer."""
    where, network = last.device.where, outermost(last.packet)
    ttl = int(network.get("ttl") or network.get("hop limit"))
    if ttl <= 1:
        return "ttl_exceeded", {"ttl": ttl}
    out = scene.survey.devices.get((where, device))
    if out is not None and not out.up:
        return "interface_down", {"dev": device}
    size = last.packet.gso_size or len(bare(last.packet))
    may_cut = network.name == "IPv4" and "DF" not in network["flags"]
    if out is not None and size > out.mtu and not may_cut:
        return "too_big", {"len": size, "mtu": out.mtu, "dev": device}
    hop = via or network["to"]
    state = bridge.neighbour(scene.looks, where, hop, device).get("state", [])
    if not {"REACHABLE", "STALE", "DELAY", "PROBE", "PERMANENT", "NOARP"} & set(state):
        return "no_neighbour", {"hop": hop, "dev": device}
    return _counted(scene, where) or "lost", {}


def _counted(scene: Scene, where: str) -> str:
    """What the kernel counted of a packet that it would route on by now: a node puts back what others have set."""
    telling = ("rp_filter", "forwarding_off", "no_route")
    return next((reason for reason in telling if scene.counters(where, COUNTERS[reason][0])), "")


def _see_reason(scene: Scene, where: str, reason: str, args: dict[str, Any]) -> list[int]:
    commands = {
        "too_big": f"ip link show dev {args['dev']}",
        "interface_down": f"ip -brief link show dev {args['dev']}",
        "no_neighbour": f"ip neigh show dev {args['dev']}",
    }
    return [scene.looks.run(where, commands[reason])] if reason in commands else []


def at_destination(scene: Scene, leg: str, last: Sighting) -> Found:
    """What happened in the host that the packet was for: nothing, or a rule or a missing socket ended it."""
    where = last.device.where
    steps = inside.netfilter(scene, leg, where, [last.layers], headers(bare(last.packet)))
    dropped = _dropped(steps)
    if dropped is not None:
        return steps, dropped
    decision = scene.route(where, last.network, last.device.name)
    answered = bool(scene.copies.of("reply"))
    if leg == "request" and decision.reason == "rp_filter" and not answered:
        step = _step(scene, leg, last, "route", "rp_filter", iif=last.device.name)
        step.by, step.see = "route", decision.see
        return [*steps, step], End("rp_filter", step.args)
    transport = next((layer for layer in last.layers if layer.name in ("UDP", "TCP")), None)
    if leg == "request" and transport is not None and scene.refused:
        protocol = transport.name.lower()
        return [*steps, _nobody_listens(scene, leg, last, transport["to"], protocol)], End(
            "no_socket", {"where": where, "port": transport["to"], "proto": protocol}
        )
    return steps, End()


def _nobody_listens(scene: Scene, leg: str, last: Sighting, port: str, protocol: str) -> Step:
    step = _step(scene, leg, last, "udp" if last.encapsulated else "socket", "no_socket", port=port, proto=protocol)
    step.see = [see_socket(scene.looks, last.device.where, protocol, port)]
    return step
