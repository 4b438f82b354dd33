"""What has to fit together in a topology before anything is made: names, references, circles.

`complete` also spells out what a file may say in short: a segment with `router = "lan2"` gets a router between the
two, a host with `nat = true` gets a wire of its own behind a router that hides it.
"""

import difflib
from collections.abc import Collection, Iterator
from dataclasses import replace

from dataplane.errors import ConfigError
from dataplane.lab.topology_file import (
    LONGEST_DEVICE,
    LONGEST_POD,
    NAME,
    RESERVED,
    Host,
    Router,
    Segment,
    Topology,
    members_of,
    names_of,
)


def complete(topology: Topology) -> Topology:
    """The topology with everything spelled out. Raises ConfigError for what does not fit together."""
    _check_names(topology)
    _check_references(topology)
    _check_circles(topology)
    topology = _with_nat(_with_routers(topology))
    _check_names(topology)
    return topology


def _check_names(topology: Topology) -> None:
    seen: dict[str, tuple[str, str]] = {}
    for name, kind, place in names_of(topology):
        most = LONGEST_POD if kind == "pod" else LONGEST_DEVICE
        if not NAME.fullmatch(name):
            raise ConfigError(f"{place}: {name!r} is no name for a {kind}: small letters, digits and -, a letter first")
        if len(name) > most:
            raise ConfigError(f"{place}: {kind} {name} is too long, since devices are called after it: {most} at most")
        if name in RESERVED:
            raise ConfigError(f"{place}: {name} means something else on every host; call the {kind} otherwise")
        if name in seen:
            other, where = seen[name]
            raise ConfigError(f"{place}: {name} is a {other} already ({where}); call the {kind} otherwise")
        seen[name] = kind, place


def _check_references(topology: Topology) -> None:
    for member in members_of(topology):
        _known(member.segment, topology.segments, "segment", member.place or topology.file, member.name)
    for router in topology.routers.values():
        for name in router.segments:
            _known(name, topology.segments, "segment", router.place, router.name)
    for segment in topology.segments.values():
        if segment.router:
            others = [name for name in topology.segments if name != segment.name]
            routers = [router.name for router in topology.routers.values() if segment.name in router.segments]
            _known(
                segment.router, [*routers, *others], "router on it, nor another segment", segment.place, segment.name
            )
    places = {name for name, _, _ in names_of(topology)}
    for broken in topology.broken:
        _known(broken.where, places, "place", broken.place, "what is broken")


def _known(name: str, names: Collection[str], kind: str, place: str, who: str) -> None:
    if name not in names:
        close = difflib.get_close_matches(name, list(names), n=1, cutoff=0.5)
        hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(sorted(names)) or 'none'}"
        raise ConfigError(f"{place}: {who} names {name!r}, which is no {kind}; {hint}")


def _check_circles(topology: Topology) -> None:
    """Segments lead to others, and in the end to one that leads nowhere."""
    for start in topology.segments.values():
        way = [start.name]
        while (towards := topology.segments[way[-1]].router) in topology.segments:
            way.append(towards)
            if towards == start.name:
                raise ConfigError(
                    f"{start.place}: the routers of segments lead in a circle, {' → '.join(way)}; "
                    "take `router` away from one of them"
                )
            if len(way) > len(topology.segments):
                break  # the circle is another one, found from a segment in it


def _with_routers(topology: Topology) -> Topology:
    """A router of its own for each segment that only names another segment."""
    segments, routers = dict(topology.segments), dict(topology.routers)
    for segment in topology.segments.values():
        if segment.router in topology.segments:
            name = f"r-{segment.name}"
            routers[name] = Router(name, (segment.name, segment.router), segment.place)
            segments[segment.name] = replace(segment, router=name)
    return replace(topology, segments=segments, routers=routers)


def _with_nat(topology: Topology) -> Topology:
    """A wire and a router of its own for each host behind a NAT."""
    segments, routers, hosts = dict(topology.segments), dict(topology.routers), dict(topology.hosts)
    for host in topology.hosts.values():
        if host.nat:
            wire, router = f"{host.name}-lan", f"{host.name}-nat"
            segments[wire] = Segment(wire, host.place, mtu=topology.segments[host.segment].mtu, router=router)
            routers[router] = Router(router, (wire, host.segment), host.place, nat=True)
            hosts[host.name] = Host(host.name, wire, host.place, host.address)
    return replace(topology, segments=segments, routers=routers, hosts=hosts)


def routers_on(topology: Topology, segment: str) -> Iterator[Router]:
    """The routers on a segment, its gateway first."""
    found = [router for router in topology.routers.values() if segment in router.segments]
    yield from sorted(found, key=lambda router: router.name != topology.segments[segment].router)
