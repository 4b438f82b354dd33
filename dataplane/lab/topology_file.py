"""What a lab is to be made of: a small TOML file, read strictly (see `strict_toml`). docs/labs/topology.md has all.

The file may be empty: two nodes with two pods each on one wire. Names mean one thing only, and they become the names of
devices too, so they are short. Addresses that are `auto` are chosen later (see `plan`).
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from importlib import resources
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from pathlib import Path

from dataplane.addresses import trouble_with_pods
from dataplane.engines.registry import ENGINES
from dataplane.errors import ConfigError, UsageError
from dataplane.lab import strict_toml
from dataplane.lab.strict_toml import Section

AUTO = "auto"
BACKENDS = ("udp", "vxlan", "host-gw")
DEFAULT_TOPOLOGY = "two-nodes"
DEFAULT_SEGMENT = "underlay"

NAME = re.compile(r"[a-z][a-z0-9-]*")
RESERVED = {"lo", "br0", "eth0", "cni0", "udplane0", "localhost", "default", "all"}
"""Names of devices that a lab has anyway, and names that mean something else everywhere."""

LONGEST_DEVICE = 15
"""IFNAMSIZ - 1 (include/uapi/linux/if.h)."""

LONGEST_POD = LONGEST_DEVICE - len("veth-")

RATE = re.compile(r"([0-9]+(?:\.[0-9]+)?) ?(bit|kbit|mbit|gbit)")
DELAY = re.compile(r"([0-9]+(?:\.[0-9]+)?) ?(us|ms|s)")
SHARE = re.compile(r"([0-9]+(?:\.[0-9]+)?) ?%")
UNITS = {"bit": 1, "kbit": 1e3, "mbit": 1e6, "gbit": 1e9, "us": 1e-6, "ms": 1e-3, "s": 1.0}
LIMITS = {"rate": (1000.0, 1e12), "delay": (0.0, 60.0)}
"""The least and the most of a measure, in bits a second and in seconds."""


@dataclass(frozen=True, slots=True)
class Impairment:
    """What a segment does to each packet on its last bit of wire. All zero: nothing."""

    rate: float = 0
    """Bits a second; 0 for as fast as it goes."""
    delay: float = 0
    """Seconds."""
    loss: float = 0
    """Share of packets, 0 to 1, as the two that follow."""
    duplicate: float = 0
    reorder: float = 0
    """Share that overtakes the others by not being delayed."""

    def __bool__(self) -> bool:
        return any((self.rate, self.delay, self.loss, self.duplicate, self.reorder))


@dataclass(frozen=True, slots=True)
class Segment:
    """A wire of the underlay."""

    name: str
    place: str = ""
    """Where it is written, file:line; as in all that follow."""
    ipv4: str = AUTO
    ipv6: str = AUTO
    mtu: int = 1500
    impairment: Impairment = Impairment()
    router: str = ""
    """The router that is the segment's gateway, or the segment towards which one leads."""


@dataclass(frozen=True, slots=True)
class Router:
    """A host on several segments that forwards between them."""

    name: str
    segments: tuple[str, ...]
    place: str = ""
    nat: bool = False
    """Whether what leaves by the last segment carries the router's own address."""


@dataclass(frozen=True, slots=True)
class Node:
    """A node and the names of its pods."""

    name: str
    segment: str
    pods: tuple[str, ...] = ()
    place: str = ""
    address: str = AUTO
    backend: str = "udp"
    engine: str = "native"
    flags: tuple[str, ...] = ()
    subnet: str = AUTO
    udplane: bool = True


@dataclass(frozen=True, slots=True)
class Host:
    """A host that is no node."""

    name: str
    segment: str
    place: str = ""
    address: str = AUTO
    nat: bool = False
    """Whether a router of its own stands before it, which hides its address."""


@dataclass(frozen=True, slots=True)
class Broken:
    """A command that breaks something once all stands."""

    where: str
    run: str
    place: str = ""


@dataclass(frozen=True, slots=True)
class Topology:
    """All of it."""

    name: str
    ipv4: str
    ipv6: str
    backend: str
    segments: dict[str, Segment]
    routers: dict[str, Router]
    nodes: dict[str, Node]
    hosts: dict[str, Host]
    unwired: frozenset[str] = frozenset()
    """Pods that are not connected to anything."""
    broken: tuple[Broken, ...] = ()
    file: str = field(default="", compare=False)


def ready_made() -> dict[str, str]:
    """The topologies that come with udplane: name and first line of each."""
    files = (file for file in resources.files("dataplane.lab").joinpath("topologies").iterdir())
    texts = {file.name.removesuffix(".toml"): file.read_text("utf-8") for file in files if file.name.endswith(".toml")}
    return {name: text.splitlines()[0].lstrip("# ") for name, text in sorted(texts.items())}


def locate(name: str) -> tuple[str, str, Path]:
    """Name, text and directory of a topology: one that comes with udplane, or a file's. Raises UsageError."""
    packaged = resources.files("dataplane.lab").joinpath("topologies", f"{name}.toml")
    if NAME.fullmatch(name) and packaged.is_file() and not Path(name).is_file():
        return f"{name}.toml", packaged.read_text("utf-8"), Path()
    path = Path(name)
    if not path.is_file():
        raise UsageError(
            f"there is no topology {name}: give a file, or one of {', '.join(ready_made())} that come with udplane"
        )
    try:
        return name, path.read_text("utf-8"), path.absolute().parent
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read {name}: {error}") from error


def parse(text: str, file: str, directory: Path = Path(), *, engine: str = "") -> Topology:
    """What the text of a topology says. Paths in it start at `directory`; `engine` takes the place of every engine.

    Raises ConfigError that names file, line, and what to write instead.
    """
    whole = strict_toml.parse(text, file)
    network = whole.section("network")
    ipv4, ipv6 = _pod_network(network, "ipv4"), _pod_network(network, "ipv6")
    backend = network.choice("backend", "udp", BACKENDS)
    default_engine = _engine(network, "engine", "native", directory)
    mtu = network.whole_number("mtu", 1500, 576, 65535)
    network.done()
    if not ipv4 and not ipv6:
        raise network.wrong("ipv6", "pods need addresses of one family at least")
    segments = {name: _segment(name, section, mtu) for name, section in whole.sections("segments")}
    segments = segments or {DEFAULT_SEGMENT: Segment(DEFAULT_SEGMENT, mtu=mtu)}
    routers = {name: _router(name, section) for name, section in whole.sections("routers")}
    defaults = Node("", next(iter(segments)), backend=backend, engine=default_engine)
    nodes = {name: _node(name, section, defaults, directory) for name, section in whole.sections("nodes")}
    if not nodes:
        nodes = {f"node{n}": replace(defaults, name=f"node{n}", pods=_two_pods(n)) for n in (1, 2)}
    if engine:
        nodes = {name: replace(node, engine=engine) for name, node in nodes.items()}
    hosts = {name: _host(name, section, defaults.segment) for name, section in whole.sections("hosts")}
    unwired = frozenset(_unwired(whole, nodes.values()))
    broken = tuple(_broken(section) for section in whole.listed("broken"))
    whole.done()
    name = Path(file).name.removesuffix(".toml")
    return Topology(name, ipv4, ipv6, backend, segments, routers, nodes, hosts, unwired, broken, file)


def _two_pods(number: int) -> tuple[str, ...]:
    return (f"pod{2 * number - 1}", f"pod{2 * number}")


def _segment(name: str, section: Section, mtu: int) -> Segment:
    segment = Segment(
        name,
        section.place(),
        _segment_network(section, "ipv4"),
        _segment_network(section, "ipv6"),
        section.whole_number("mtu", mtu, 576, 65535),
        Impairment(
            _measure(section, "rate", RATE, '"100mbit": a number and bit, kbit, mbit or gbit'),
            _measure(section, "delay", DELAY, '"10ms": a number and us, ms or s'),
            *(_share(section, key) for key in ("loss", "duplicate", "reorder")),
        ),
        section.text("router"),
    )
    if segment.impairment.reorder and not segment.impairment.delay:
        raise section.wrong("reorder", "packets overtake others only where there is a delay; add one")
    section.done()
    return segment


def _router(name: str, section: Section) -> Router:
    router = Router(name, section.texts("segments"), section.place(), section.boolean("nat", False))
    if len(router.segments) < 2 or len(set(router.segments)) != len(router.segments):
        raise section.wrong("segments", "a router joins two different segments or more")
    section.done()
    return router


def _node(name: str, section: Section, defaults: Node, directory: Path) -> Node:
    node = Node(
        name,
        section.text("segment", defaults.segment),
        section.texts("pods"),
        section.place(),
        _address(section),
        section.choice("backend", defaults.backend, BACKENDS),
        _engine(section, "engine", defaults.engine, directory),
        section.texts("flags"),
        _subnet(section),
        section.boolean("udplane", True),
    )
    section.done()
    return node


def _host(name: str, section: Section, segment: str) -> Host:
    segment = section.text("segment", segment)
    host = Host(name, segment, section.place(), _address(section), section.boolean("nat", False))
    section.done()
    return host


def _unwired(whole: Section, nodes: Iterable[Node]) -> Iterable[str]:
    pods = [pod for node in nodes for pod in node.pods]
    for name, section in whole.sections("pods"):
        if name not in pods:
            raise ConfigError(f"{section.place()}: no node has a pod {name}; add it to the pods of one")
        if not section.boolean("wired", True):
            yield name
        section.done()


def _broken(section: Section) -> Broken:
    section.choice("what", "command", ("command",))
    broken = Broken(section.text("where"), section.text("run"), section.place())
    for key in ("where", "run"):
        if not section.text(key):
            raise section.wrong(key, "say where which command is run")
    section.done()
    return broken


def _engine(section: Section, key: str, default: str, directory: Path) -> str:
    """A name, or the path of a file."""
    engine = section.text(key, default)
    if engine in ENGINES or Path(engine).is_absolute():
        return engine
    if engine.endswith(".py"):
        return str(directory.absolute() / engine)
    return section.choice(key, default, tuple(ENGINES)) if key in section else engine


def _pod_network(section: Section, key: str) -> str:
    text = section.text(key, AUTO)
    if text not in (AUTO, ""):
        network = _network(section, key, text)
        if trouble := trouble_with_pods(network):
            raise section.wrong(key, f"{text} {trouble}; choose a private network such as 10.254.0.0/16")
    return text


def _segment_network(section: Section, key: str) -> str:
    text = section.text(key, AUTO)
    if text not in (AUTO, ""):
        network = _network(section, key, text)
        if network.prefixlen > network.max_prefixlen - 3:
            raise section.wrong(key, f"{text} has no room for a gateway and hosts; write a larger network")
    return text


def _subnet(section: Section) -> str:
    text = section.text("subnet", AUTO)
    if text != AUTO:
        _network(section, "subnet", text)
    return text


def _network(section: Section, key: str, text: str) -> IPv4Network | IPv6Network:
    version = 6 if key == "ipv6" else 4
    example = "fd00:10:254::/48" if version == 6 else "10.254.0.0/16"
    try:
        network = ip_network(text)
    except ValueError as error:
        raise section.wrong(key, f"{error}; write a network such as {example}, or auto") from error
    if network.version != version:
        raise section.wrong(key, f"{text} is not IPv{version}; write a network such as {example}, or auto")
    return network


def _address(section: Section) -> str:
    text = section.text("address", AUTO)
    try:
        return text if text == AUTO else str(ip_address(text))
    except ValueError as error:
        raise section.wrong("address", f"{error}; write an address of the segment, or auto") from error


def _measure(section: Section, key: str, pattern: re.Pattern[str], example: str) -> float:
    text = section.text(key)
    match = pattern.fullmatch(text)
    value = float(match[1]) * UNITS[match[2]] if match else 0.0
    if text and (not match or not LIMITS[key][0] <= value <= LIMITS[key][1]):
        raise section.wrong(key, f"{text!r} cannot be read; write something like {example}")
    return value


def _share(section: Section, key: str) -> float:
    text = section.text(key)
    match = SHARE.fullmatch(text)
    if text and (not match or float(match[1]) > 100):
        raise section.wrong(key, f'{text!r} cannot be read; write a share such as "1%"')
    return float(match[1]) / 100 if match else 0.0


def names_of(topology: Topology) -> Sequence[tuple[str, str, str]]:
    """Every name with its kind and place, in order."""
    found = [(name, "segment", segment.place) for name, segment in topology.segments.items()]
    found += [(name, "router", router.place) for name, router in topology.routers.items()]
    for name, node in topology.nodes.items():
        found.append((name, "node", node.place))
        found += [(pod, "pod", node.place) for pod in node.pods]
    found += [(name, "host", host.place) for name, host in topology.hosts.items()]
    return found


def members_of(topology: Topology) -> Iterator[Node | Host]:
    """All that hangs on one segment."""
    yield from topology.nodes.values()
    yield from topology.hosts.values()
