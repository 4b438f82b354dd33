"""Names in an exercise that stand for what differs from lab to lab: `{pod1.ip}`, `{node2.subnet}`, `{port}`.

| name | what it becomes |
| --- | --- |
| `{PLACE.ip}`, `{PLACE.ip6}` | the address of a pod, node or host; of a wire, its gateway's |
| `{ROUTER.ip2}` | its address on its second wire |
| `{PLACE.net}`, `{PLACE.net6}` | the same with the length of its network: 10.254.3.2/24 |
| `{PLACE.mac}` | the MAC address of its device |
| `{POD.veth}`, `{POD.node}` | the node's end of its wire; its node |
| `{NODE.subnet}`, `{NODE.subnet6}` | what it leases |
| `{NODE.gateway}`, `{NODE.gateway6}` | the first host of that, which its bridge has |
| `{NODE.tunnel}`, `{NODE.directory}`, `{NODE.run}` | its device, where its files are, its run directory |
| `{NODE.hostN}` | host N of it: pods get 2, 3, ... |
| `{network}`, `{network6}`, `{store}` | of the whole overlay |
| `{nobody}` | an address of the pod network that no node leases |
| `{lab}` | the directory of the lab; its plugins are in `{lab}/cni/bin` |
| `{work}` | the directory with the student's own files |
| `{exercise}` | the directory of the exercise |
| `{NAME}`, `{NAME+N}` | of the table `[vary]`: a number that the seed chooses; the same and N more |

Braces around anything else are left alone.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_network
from pathlib import Path
from typing import Any

from dataplane.errors import ConfigError
from dataplane.lab.netns import LabError
from dataplane.lab.view import LabView, NodePlace, Place, PodPlace

NAME = re.compile(r"\{([a-z][a-z0-9-]*(?:\.[a-z0-9]+)?)((?:\+\d+)?)\}")

WHOLE = ("network", "network6", "store", "lab", "work", "exercise", "nobody")


@dataclass(frozen=True, slots=True)
class Variables:
    """What the names stand for in one lab."""

    view: LabView
    work: Path = Path()
    numbers: Mapping[str, int] = field(default_factory=dict)
    exercise: Path = Path()

    def fill(self, text: str) -> str:
        """The text with its names replaced. Raises LabError for a name that nothing in the lab has."""
        return NAME.sub(lambda match: self._sum(match[1], match[2]), text)

    def fill_all(self, value: Any) -> Any:
        """The same for every text in lists and tables."""
        if isinstance(value, str):
            return self.fill(value)
        if isinstance(value, Mapping):
            return {self.fill(key): self.fill_all(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [self.fill_all(item) for item in value]
        return value

    def _sum(self, name: str, more: str) -> str:
        return str(int(self._value(name)) + int(more)) if more else self._value(name)

    def _value(self, name: str) -> str:
        if name in self.numbers:
            return str(self.numbers[name])
        place, _, key = name.partition(".")
        if not key:
            return self._of_all(name)
        found = self.view.find(place)
        read = reader(key)
        if read is None:
            raise LabError(f"{{{name}}} stands for nothing: of a place there are {KNOWN}")
        value = read(found)
        if value is None:
            raise LabError(f"{{{name}}} stands for nothing: {place} has no {key}")
        return value

    def _of_all(self, name: str) -> str:
        values = {
            "network": self.view.network.get("Network", ""),
            "network6": self.view.network.get("IPv6Network", ""),
            "store": self.view.store,
            "lab": self.view.directory,
            "work": str(self.work),
            "exercise": str(self.exercise),
            "nobody": self._nobody(),
        }
        if name not in values:
            raise LabError(f"{{{name}}} stands for nothing: there are {', '.join([*values, *self.numbers])}")
        return str(values[name])

    def _nobody(self) -> str:
        """The last address but one of the pod network: leases are given out from its beginning on."""
        network = self.view.network.get("Network", "")
        return str(ip_network(network)[-2]) if network else ""


def _address(version: int, *, number: int = 0, with_length: bool = False) -> Callable[[Place], str | None]:
    def value(place: Place) -> str | None:
        found = [interface for interface in place.interfaces if interface.version == version][number:]
        return None if not found else str(found[0] if with_length else found[0].ip)

    return value


def _subnet(version: int) -> Callable[[Place], str | None]:
    def value(place: Place) -> str | None:
        subnets = place.subnets if isinstance(place, NodePlace) else ()
        return next((text for text in subnets if ip_network(text).version == version), None)

    return value


def _host(version: int, number: int) -> Callable[[Place], str | None]:
    def value(place: Place) -> str | None:
        subnet = _subnet(version)(place)
        network = None if subnet is None else ip_network(subnet)
        return None if network is None or number >= network.num_addresses else str(network[number])

    return value


def _of_node(name: str) -> Callable[[Place], str | None]:
    return lambda place: str(getattr(place, name)) if isinstance(place, NodePlace) else None


def _of_pod(name: str) -> Callable[[Place], str | None]:
    return lambda place: str(getattr(place, name)) if isinstance(place, PodPlace) else None


def _mac(place: Place) -> str | None:
    links = json.loads(place.namespace.run(["ip", "-json", "link", "show", "dev", place.device]).stdout)
    return str(links[0]["address"])


KEYS: Mapping[str, Callable[[Place], str | None]] = {
    "ip": _address(4),
    "ip2": _address(4, number=1),
    "ip6": _address(6),
    "net": _address(4, with_length=True),
    "net6": _address(6, with_length=True),
    "mac": _mac,
    "veth": _of_pod("host_device"),
    "node": _of_pod("node"),
    "subnet": _subnet(4),
    "subnet6": _subnet(6),
    "gateway": _host(4, 1),
    "gateway6": _host(6, 1),
    "tunnel": _of_node("tunnel"),
    "directory": _of_node("directory"),
    "run": _of_node("run_dir"),
}
"""What may stand behind the point, beside `hostN`."""

HOST = re.compile(r"host(\d{1,3})")
KNOWN = ", ".join([*KEYS, "host2, host3, ..."])


def reader(key: str) -> Callable[[Place], str | None] | None:
    """What finds the value of a key; None for one that is not known."""
    match = HOST.fullmatch(key)
    return _host(4, int(match[1])) if match else KEYS.get(key)


def names_in(value: Any) -> set[str]:
    """The names in every text of a value."""
    if isinstance(value, str):
        return {name for name, _ in NAME.findall(value)}
    if isinstance(value, Mapping):
        value = [*value.keys(), *value.values()]
    if isinstance(value, list | tuple) or not isinstance(value, str | int | float | bool | None):
        return {name for item in value for name in names_in(item)}
    return set()


def chosen(ranges: Mapping[str, tuple[int, int]], seed: int) -> dict[str, int]:
    """The number that a seed chooses for each name, from its first to its last; seed 0 takes the first."""
    return {name: first if seed == 0 else _pick(name, seed, first, last) for name, (first, last) in ranges.items()}


def _pick(name: str, seed: int, first: int, last: int) -> int:
    return random.Random(f"{seed} {name}").randint(first, last)


def check_names(texts: Any, numbers: Mapping[str, Any], place: str) -> None:
    """Refuse names that no lab can have. Raises ConfigError that begins with `place`."""
    for name in sorted(names_in(texts)):
        key = name.partition(".")[2]
        if key and reader(key) is None:
            raise ConfigError(f"{place}: {{{name}}} stands for nothing; of a place there are {KNOWN}")
        if not key and name not in numbers and name not in WHOLE:
            known = ", ".join([*WHOLE, *numbers])
            raise ConfigError(f"{place}: {{{name}}} stands for nothing; there are {known}, and [vary] names more")
