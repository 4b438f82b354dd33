"""What happened inside a host, between two of its devices: netfilter, routing, the engine, sockets."""

from __future__ import annotations

import re
from collections.abc import Sequence

from dataplane.capture.superpacket import wire_frames
from dataplane.lab.dissect import Layer
from dataplane.lab.engine_steps import lowering
from dataplane.lab.recording import Check, Packet, Step
from dataplane.lab.view import NodePlace
from dataplane.lab.walking import bridge
from dataplane.lab.walking.engine import Judgement
from dataplane.lab.walking.netfilter import Passage
from dataplane.lab.walking.probes import carried
from dataplane.lab.walking.scene import STATUS, Scene, bare, headers, inner, outermost, status_command, with_ttl
from dataplane.lab.walking.sightings import Sighting
from dataplane.lab.walking.sockets import ports, see_socket

_REWRITING = re.compile(r"\b(masquerade|snat|dnat|redirect|[sd]addr set|[sd]port set)\b")


def between(scene: Scene, leg: str, before: Sighting, after: Sighting) -> list[Step]:
    """The steps inside a host between two sightings that follow each other."""
    if before.device.where != after.device.where:
        return []
    if after.encapsulated and not before.encapsulated:
        return encapsulation(scene, leg, before, after)
    if before.encapsulated and not after.encapsulated:
        return decapsulation(scene, leg, before, after)
    if _is_bridged(before, after):
        return []
    return forwarding(scene, leg, before, after)


def _is_bridged(before: Sighting, after: Sighting) -> bool:
    """Whether both are ports of one bridge, or the bridge and one of its ports."""
    names = {before.device.master or before.device.name, after.device.master or after.device.name}
    return (len(names) == 1 and "bridge" in (before.device.kind, after.device.kind)) or bool(
        before.device.master and before.device.master == after.device.master
    )


def origin(scene: Scene, leg: str, first: Sighting) -> list[Step]:
    """The route that a host takes for a packet of its own, and its firewall."""
    where, packet = first.device.where, headers(bare(first.packet))
    decision = scene.route(where, outermost(first.packet), "")
    say = "route.origin" if decision.via else "route.origin.link"
    args = {**decision.args, "where": where, "to": outermost(first.packet)["to"], "ttl": first.ttl}
    steps = [Step(leg, where, "route", packet, say, "route", args=args, see=decision.see)]
    return steps + netfilter(scene, leg, where, [first.layers], packet)


def forwarding(scene: Scene, leg: str, before: Sighting, after: Sighting) -> list[Step]:
    """A router: the route, one TTL less, and what netfilter did before and after."""
    where = before.device.where
    was, now = bare(before.packet), bare(after.packet)
    steps = _translated(leg, where, before, after)
    was = steps[0].packet.data if steps else was
    routed = headers(with_ttl(was, -1))
    network = outermost(headers(was))
    decision = scene.route(where, network, before.device.name)
    say = "route.forward" if decision.via else "route.forward.link"
    args = {**decision.args, "where": where, "to": network["to"], "iif": before.device.name}
    step = Step(leg, where, "route", routed, say, "route", args=args, see=decision.see)
    lowered = lowering(was, routed.data)
    step.checks = [Check("lower" if lowered["version"] == 4 else "lower6", True, lowered)]
    if routed.data[: len(was)] == now or not _same_ends(was, now):
        step.args["rewritten"] = not _same_ends(was, now)
    forms = [before.layers, *([steps[0].packet.layers] if steps else []), routed.layers, after.layers]
    return [*steps, step, *netfilter(scene, leg, where, forms, headers(now))]


def _translated(leg: str, where: str, before: Sighting, after: Sighting) -> list[Step]:
    """What was done to a packet's destination before it was routed: a masqueraded connection's answer gets its own."""
    old, new = outermost(before.packet), outermost(after.packet)
    if old["to"] == new["to"] or old["from"] != new["from"]:
        return []
    packet = headers(with_ttl(bare(after.packet), +1))
    args = {"where": where, "was": old["to"], "now": new["to"]}
    return [Step(leg, where, "netfilter", packet, "netfilter.back", "netfilter", args=args)]


def _same_ends(was: bytes, now: bytes) -> bool:
    ends = slice(12, 20) if was[:1] and was[0] >> 4 == 4 else slice(8, 40)
    return was[ends] == now[ends]


def encapsulation(scene: Scene, leg: str, before: Sighting, after: Sighting) -> list[Step]:
    """A packet is put into a datagram: by the node's engine, or by the kernel's VXLAN device."""
    if before.device.overlay == "vxlan":
        steps = [_vxlan_out(scene, leg, before, after)]
    else:
        steps = [engine_out(scene, leg, before, after), _udp_out(scene, leg, after)]
    where = before.device.where
    return steps + netfilter(scene, leg, where, [after.layers], headers(bare(after.packet)))


def engine_out(scene: Scene, leg: str, before: Sighting, after: Sighting | None) -> Step:
    """What the engine did to a packet that it read from the TUN; without `after` it sent none."""
    where = before.device.where
    packet = inner(after.packet) if after else bare(before.packet)
    given = with_ttl(packet, +1) if after else packet
    judged = scene.engine(where).encapsulate(given if before.packet.gso_type else bare(before.packet))
    step = _engine_step(scene, leg, where, judged, headers(packet), "encap")
    step.args |= {"to": before.network["to"], "before": before.ttl}
    if after is not None and before.packet.gso_type:
        data_len = before.packet.length - carried(before.layers)[2]
        step.segments = [piece for piece in pieces_of(after.packet) if piece["offset"] < data_len]
        step.say = "engine.cut" if len(step.segments) > 1 else step.say
        step.args |= {"n": len(step.segments), "size": before.packet.gso_size, "len": before.packet.length}
    return step


def engine_in(scene: Scene, leg: str, before: Sighting, after: Sighting | None) -> Step:
    """What the engine did to a datagram; without `after` it gave nothing to the TUN."""
    where, outer = before.device.where, outermost(before.packet)
    given = inner(before.packet)
    tos = int(outer["dscp"]) << 2 | int(outer["ecn"])
    judged = scene.engine(where).decapsulate(given, outer["from"], tos)
    packet = headers(bare(after.packet)) if after else headers(given)
    step = _engine_step(scene, leg, where, judged, packet, "decap")
    step.args |= {"from": outer["from"], "before": before.ttl}
    if after is not None and after.packet.gso_type:
        packet.gso_type, packet.gso_size = after.packet.gso_type, after.packet.gso_size
        step.say = "engine.joined"
        step.args |= {"n": len(pieces_of(before.packet)), "len": after.packet.length}
    return step


def _engine_step(scene: Scene, leg: str, where: str, judged: Judgement, packet: Packet, way: str) -> Step:
    died = judged.verdict not in ("forwarded", "")
    step = Step(leg, where, "engine", packet, f"engine.drop.{way}" if died else f"engine.{way}", "engine")
    step.args = {"where": where, "verdict": judged.verdict, "trouble": scene.engine(where).trouble}
    step.checks = judged.checks
    sent = next((check.args for check in judged.checks if check.name in ("send", "write")), {})
    step.args |= {key: sent[key] for key in ("peer", "port") if key in sent}
    node = scene.view.find(where)
    if isinstance(node, NodePlace):
        argv = status_command(node)
        words = ("peer ", "encap", "decap", "engine", "dropped", str(step.args.get("peer") or "peer "))
        step.see = [scene.looks.run(where, STATUS, argv=argv, keep=lambda line: _any_of(words, line))]
    name = f"udplane.{way}.drops.{judged.verdict}" if died else f"udplane.{way}.packets"
    step.counters = scene.counters(where, name)
    return step


def _any_of(words: Sequence[str], line: str) -> bool:
    return any(word in line.lower() for word in words)


def pieces_of(packet: Packet) -> list[dict[str, int]]:
    """The datagrams that one frame stands for: the length of each inner packet, and where its payload began."""
    frames = list(wire_frames(memoryview(packet.data), 14 if packet.link == "ethernet" else 0))
    overhead = len(packet.data) - sum(len(frame) for frame in frames[1:]) - len(frames[0]) if len(frames) < 2 else 0
    header_len = next((layer.offset for layer in packet.layers if layer.role == "inner"), 0)
    lengths = [len(frame) - header_len - overhead for frame in frames]
    network = [
        layer for layer in packet.layers if layer.role == "inner" and layer.name not in ("data", "more datagrams")
    ]
    headers_len = network[-1].end - header_len if network else 0
    step = lengths[0] - headers_len
    return [{"len": length, "offset": number * step} for number, length in enumerate(lengths)]


def _udp_out(scene: Scene, leg: str, after: Sighting) -> Step:
    """The engine's datagram leaves by its socket, with headers that the kernel puts on."""
    where, outer = after.device.where, outermost(after.packet)
    source, target = ports(after.layers)
    step = Step(leg, where, "udp", headers(bare(after.packet)), "udp.out", "socket")
    step.packet.gso_type, step.packet.gso_size = after.packet.gso_type, after.packet.gso_size
    step.args = {"where": where, "from": outer["from"], "to": outer["to"], "sport": source, "dport": target}
    decision = scene.route(where, outer, "")
    step.args |= {"dev": decision.device, "via": decision.via}
    step.see = [see_socket(scene.looks, where, "udp", source), *decision.see]
    return step


def _vxlan_out(scene: Scene, leg: str, before: Sighting, after: Sighting) -> Step:
    """The kernel's VXLAN device: the inner MAC address is behind a remote underlay address."""
    where, device = before.device.where, before.device.name
    mac, outer = before.layers[0]["to"], outermost(after.packet)
    entry = bridge.look_up_remote(scene.looks, where, device, mac)
    vni = next((layer["vni"] for layer in after.layers if layer.name == "VXLAN"), "")
    step = Step(leg, where, "udp", headers(bare(after.packet)), "vxlan.out", "vxlan")
    step.args = {"where": where, "mac": mac, "remote": entry.remote or outer["to"], "vni": vni, "dev": device}
    step.see = [scene.looks.run(where, f"bridge fdb show dev {device}", grep=mac)]
    return step


def decapsulation(scene: Scene, leg: str, before: Sighting, after: Sighting) -> list[Step]:
    """A packet is taken out of a datagram."""
    where, outer = before.device.where, outermost(before.packet)
    packet = headers(bare(before.packet))
    steps = netfilter(scene, leg, where, [before.layers], packet)
    if after.device.overlay == "vxlan":
        vni = next((layer["vni"] for layer in before.layers if layer.name == "VXLAN"), "")
        step = Step(leg, where, "udp", packet, "vxlan.in", "vxlan")
        step.args = {"where": where, "vni": vni, "from": outer["from"], "dev": after.device.name}
        step.see = [scene.looks.run(where, f"ip -details link show dev {after.device.name}")]
        return [*steps, step]
    return [*steps, udp_in(scene, leg, before), engine_in(scene, leg, before, after)]


def udp_in(scene: Scene, leg: str, before: Sighting) -> Step:
    """The kernel gives a datagram to the socket of the engine."""
    where, outer = before.device.where, outermost(before.packet)
    source, target = ports(before.layers)
    step = Step(leg, where, "udp", headers(bare(before.packet)), "udp.in", "socket")
    step.packet.gso_type, step.packet.gso_size = before.packet.gso_type, before.packet.gso_size
    step.args = {"where": where, "from": outer["from"], "to": outer["to"], "sport": source, "dport": target}
    step.see = [see_socket(scene.looks, where, "udp", target)]
    return step


def netfilter(scene: Scene, leg: str, where: str, hop: Sequence[Sequence[Layer]], packet: Packet) -> list[Step]:
    """What the rules of a host did to a packet that had the forms `hop` there; nothing where no chain saw it."""
    passages: list[Passage] = []
    for passage in scene.tracer.of(where, hop):
        if passage.name not in [known.name for known in passages]:
            passages.append(passage)
    if not passages:
        return []
    decisive = max(passages, key=_weight)
    step = Step(leg, where, "netfilter", packet, f"netfilter.{_outcome(decisive)}", "netfilter")
    step.args = {"where": where, "chain": decisive.name, "rule": decisive.rule, "verdict": decisive.verdict}
    step.args["chains"] = [passage.name for passage in passages]
    step.args["events"] = [[p.name, rule, verdict] for p in passages for rule, verdict in p.events]
    trace = "\n".join(f"{p.name} {rule} (verdict {verdict})" for p in passages for rule, verdict in p.events)
    step.see = [scene.looks.add(where, "nft monitor trace", trace)]
    step.see.append(scene.looks.run(where, f"nft list chain {decisive.name}"))
    return [step]


def _outcome(passage: Passage) -> str:
    if passage.verdict.startswith(("drop", "reject")) or "reject" in passage.rule:
        return "drop" if passage.rule else "drop_policy"
    if _rewrites(passage):
        return "rewrite"
    return "rule" if passage.rule else "policy"


def _rewrites(passage: Passage) -> bool:
    return any(_REWRITING.search(rule) for rule, _ in passage.events)


def _weight(passage: Passage) -> int:
    """How much a passage has to say: a drop most, a policy that accepts least."""
    return {"drop": 3, "drop_policy": 3, "rewrite": 2, "rule": 1, "policy": 0}[_outcome(passage)]
