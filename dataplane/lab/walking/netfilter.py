"""What netfilter did to a packet: which rule let it through, dropped it or rewrote it, from `nft monitor trace`.

In every namespace that has rules a table is added whose only rules mark the walk's packets for tracing, and taken away
afterwards. The kernel then tells of each chain that such a packet enters: first the packet, then each rule that matched
and its verdict. One packet has another trace identifier before and after routing, so packets are told apart by their
headers. A chain of type nat sees only the first packet of a connection: the answer is never in it.

So that none of it is missed, a datagram on loopback is traced at last: when the program has told of that one, it has
told of all before.
"""

from __future__ import annotations

import re
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Self

from dataplane.lab.dissect import Layer
from dataplane.lab.netns import Namespace
from dataplane.lab.view import LabView, Place
from dataplane.lab.walking.probes import carried
from dataplane.lab.walking.survey import ask

TABLE = "udplane-walk"
PRIORITY = -350
"""Before conntrack and every chain of a firewall."""

NETLINK_NETFILTER = 12
TIMEOUT = 3.0


@dataclass(slots=True)
class Passage:
    """A packet's way through one chain."""

    where: str
    family: str
    table: str
    chain: str
    packet: str
    """The kernel's words for the packet as it entered."""
    events: list[tuple[str, str]] = field(default_factory=list)
    """Rule (or `policy`) and verdict, in order; chains that were jumped to are among them."""

    @property
    def verdict(self) -> str:
        """How it ended: accept, drop, ..."""
        return self.events[-1][1] if self.events else "accept"

    @property
    def rule(self) -> str:
        """The rule that decided; empty when the chain's policy did."""
        rule = self.events[-1][0] if self.events else ""
        return "" if rule == "policy" else rule

    @property
    def name(self) -> str:
        """The chain with its table."""
        return f"{self.family} {self.table} {self.chain}"


class Tracer:
    """Traces the packets of a walk in the namespaces of some places. A context manager."""

    def __init__(self, view: LabView, conditions: Sequence[str]) -> None:
        """Trace what fulfils one of `conditions`, in the language of nft(8)."""
        self._view = view
        self._conditions = conditions
        self._monitors: list[_Monitor] = []
        self.passages: list[Passage] = []

    def __enter__(self) -> Self:
        places = list(self._view.places())
        with ThreadPoolExecutor() as pool:
            filtering = list(pool.map(lambda place: has_tables(place.namespace), places))
        self._monitors = [_Monitor(p, self._conditions) for p, has in zip(places, filtering, strict=True) if has]
        for monitor in self._monitors:
            monitor.wait_until_listening()
        return self

    def __exit__(self, *_: object) -> None:
        for monitor in self._monitors:
            monitor.close()

    def collect(self) -> None:
        """Take what was traced. Called once, when nothing more is to come."""
        for monitor in self._monitors:
            self.passages += monitor.passages()

    @property
    def places(self) -> set[str]:
        """Where there are rules."""
        return {monitor.place.name for monitor in self._monitors}

    def of(self, where: str, hop: Sequence[Sequence[Layer]]) -> list[Passage]:
        """The chains that a packet entered at a place; `hop` are the forms that it had there, taken apart."""
        here = [passage for passage in self.passages if passage.where == where]
        return [passage for passage in here if any(is_of(passage.packet, layers) for layers in hop)]


def has_tables(namespace: Namespace) -> bool:
    """Whether there is any table in a namespace."""
    return bool(ask(namespace, ["nft", "list", "tables"]).stdout.strip())


class _Monitor:
    """`nft monitor trace` in one namespace."""

    def __init__(self, place: Place, conditions: Sequence[str]) -> None:
        self.place = place
        self._output: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115  closed by `close`
        self._marker = place.namespace.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._marker.bind(("127.0.0.1", 0))
        self._last = f"udp dport {self._marker.getsockname()[1]} "
        rules = [f"add table inet {TABLE}", f"delete table inet {TABLE}", f"add table inet {TABLE}"]
        for hook in ("prerouting", "output"):
            rules.append(f"add chain inet {TABLE} {hook} {{ type filter hook {hook} priority {PRIORITY}; }}")
            marker = [f"{self._last}iifname lo"] if hook == "prerouting" else []
            rules += [
                f"add rule inet {TABLE} {hook} {condition} meta nftrace set 1" for condition in (*conditions, *marker)
            ]
        ask_with_input(place.namespace, ["nft", "-f", "-"], "\n".join(rules) + "\n")
        with place.namespace.entered():
            self._process = subprocess.Popen(
                ["nft", "monitor", "trace"], stdin=subprocess.DEVNULL, stdout=self._output, stderr=subprocess.DEVNULL
            )

    def wait_until_listening(self) -> None:
        """Return once the program has joined the kernel's group of listeners, or has ended."""
        deadline = time.monotonic() + TIMEOUT
        sockets = Path(f"/proc/{self._process.pid}/net/netlink")
        while time.monotonic() < deadline and self._process.poll() is None:
            for line in sockets.read_text().splitlines()[1:]:
                fields = line.split()
                if (fields[1], fields[2]) == (str(NETLINK_NETFILTER), str(self._process.pid)) and int(fields[3], 16):
                    return
            time.sleep(0.002)

    def passages(self) -> Iterator[Passage]:
        """Send the last datagram, wait until it is told of, and give all before it."""
        self._marker.sendto(b"", self._marker.getsockname())
        deadline = time.monotonic() + TIMEOUT
        text = ""
        while self._last not in text and time.monotonic() < deadline and self._process.poll() is None:
            self._output.seek(0)
            text = self._output.read().decode(errors="replace")
            time.sleep(0.002)
        yield from parse(self.place.name, text)

    def close(self) -> None:
        """End the program and take the table away. Never fails."""
        self._process.kill()
        self._process.wait()
        self._output.close()
        self._marker.close()
        ask_with_input(self.place.namespace, ["nft", "-f", "-"], f"delete table inet {TABLE}\n")


def ask_with_input(namespace: Namespace, argv: Sequence[str], text: str) -> None:
    """Run a program in a namespace with `text` on stdin; what it says is not wanted."""
    with namespace.entered():
        subprocess.run(argv, input=text, text=True, capture_output=True, check=False, timeout=10)


_LINE = re.compile(r"trace id (\w+) (\S+) (\S+) (\S+) (packet: (.*)|(rule|policy|verdict|unknown)\b ?(.*))$")
_VERDICT = re.compile(r"^(.*?) ?\(verdict (.*)\)$")


def parse(where: str, text: str) -> list[Passage]:
    """The passages in what `nft monitor trace` has printed, but for those through our own table."""
    found: list[Passage] = []
    current: dict[str, Passage] = {}
    for line in text.splitlines():
        match = _LINE.match(line.strip())
        if match is None:
            continue
        identifier, family, table, chain, _, packet, kind, rest = match.groups()
        if packet is not None:
            current[identifier] = Passage(where, family, table, chain, packet)
            found.append(current[identifier])
        elif identifier in current:
            current[identifier].events.append(_event(kind, rest.strip()))
    return [passage for passage in found if passage.table != TABLE]


def _event(kind: str, rest: str) -> tuple[str, str]:
    if kind == "policy":
        return "policy", rest
    match = _VERDICT.match(rest)
    rule, verdict = (match[1], match[2]) if match else (rest, "continue")
    return (rule or kind), verdict


def is_of(words: str, layers: Sequence[Layer]) -> bool:
    """Whether the kernel's words describe this packet: as it is, or in the datagram that it travels in."""
    network, transport, _ = carried(layers)
    if network is None:
        return False
    outermost = next(layer for layer in layers if layer.name in ("IPv4", "IPv6"))
    if network is not outermost:
        network = outermost
        transport = next(layer for layer in layers if layer.name == "UDP")
    return all(f" {fact} " in f" {words} " for fact in _facts(network, transport))


def _facts(network: Layer, transport: Layer | None) -> Iterator[str]:
    """What nft(8) says of a packet with these headers."""
    ip = "ip6" if network.name == "IPv6" else "ip"
    yield f"{ip} saddr {network['from']}"
    yield f"{ip} daddr {network['to']}"
    if ip == "ip":
        yield f"ip ttl {network['ttl']}"
        yield f"ip id {network['id']}"
        yield f"ip length {network['length']}"
    else:
        yield f"ip6 hoplimit {network['hop limit']}"
        yield f"ip6 length {network['payload length']}"
    if transport is not None and transport.name in ("UDP", "TCP"):
        name = transport.name.lower()
        yield f"{name} sport {transport['from']}"
        yield f"{name} dport {transport['to']}"
