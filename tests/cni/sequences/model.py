"""What the runtime believes, and what of the node belongs to whom: the oracle of the random sequences.

An attachment's traces are all facts of the node (a line of a rule listing, a link, a file) that name it: its container
ID, one of its addresses, its veth. While it lives they stay as its ADD left them, whatever is done to others; and so
does everything in its pod, or of it what is the interface's own when another one of the pod comes or goes. When it is
gone no fact names it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any

from tests.cni.sequences.networks import Conf
from tests.cni.world.state import State, comparable, without_counters
from tests.cni.world.world import World


class Life(Enum):
    """What the runtime knows of an attachment."""

    LIVE = auto()
    UNSURE = auto()
    """An ADD or DEL was killed or has failed, or the pod is gone: something may be left."""


@dataclass(eq=False)
class Attachment:
    """A pod's interface in a network."""

    network: str
    pod: str
    container_id: str
    ifname: str
    number: int
    """No other has it: its host port and its device follow from it."""
    chain: list[Conf]
    """The configuration of its ADD."""
    life: Life = Life.UNSURE
    result: Conf = field(default_factory=dict)
    damaged: bool = False
    """Somebody else has taken something away from it."""

    def __str__(self) -> str:
        return f"{self.network}/{self.container_id}/{self.ifname}"

    @property
    def names(self) -> re.Pattern[str]:
        """What a fact about it contains."""
        container = rf"(?<![\w.-]){re.escape(self.container_id)}(?![\w-])"
        return re.compile(f"{container}|{self.own_names.pattern}")

    @property
    def own_names(self) -> re.Pattern[str]:
        """What a fact contains that is about it, and about no other interface of its pod."""
        addresses = [ip["address"].partition("/")[0] for ip in self.result.get("ips", [])]
        words = [re.escape(f"veth({self.pod}/{self.ifname})"), rf"if: {self.ifname}, id: {self.container_id}(?![\w-])"]
        words += [rf"(?<![\w.-]){re.escape(self.container_id)}[/@_]{self.ifname}(?!\w)"]
        return re.compile("|".join([*words, *(rf"(?<![\w.:]){re.escape(ip)}(?![\w.:])" for ip in addresses)]))


def look(world: World, pods: list[str]) -> State:
    """The node and these pods, without sysctls: with the first pod that needs it the whole node begins to route."""
    return without_counters(comparable(world.snapshot(*pods, with_sysctls=False)))


def facts(state: State) -> set[str]:
    """The node's state as lines; a listing's every line is one, since listings are shared."""
    found = set()
    for path, value in state.items():
        if path.startswith(("node/", "rules/", "files/")):
            lines = value if isinstance(value, list) else [value]
            found |= {f"{path}: {line}" for line in lines}
    return found


def traces(attachment: Attachment, state: State) -> set[str]:
    """The facts that name the attachment, and everything in its pod. Indexes may be made anew at any time."""
    named = {fact for fact in facts(state) if attachment.names.search(fact) and "/.udplane/" not in fact}
    inside = f"{attachment.pod}/"
    return named | {f"{path}: {value}" for path, value in state.items() if path.startswith(inside)}


def own_traces(attachment: Attachment, state: State) -> set[str]:
    """Those traces that no other interface of the pod shares: what stays whatever is done to one of them."""
    named = {fact for fact in facts(state) if attachment.own_names.search(fact) and "/.udplane/" not in fact}
    inside = re.compile(rf"{attachment.pod}/(links|qdiscs)/{attachment.ifname}(/|$)")
    return named | {f"{path}: {value}" for path, value in state.items() if inside.match(path)}


def leftovers(world: World, gone: list[Attachment], expected_links: set[str]) -> list[str]:
    """Facts that name an attachment that is gone, and links, chains and files that only attachments have."""
    snapshot = world.snapshot(with_sysctls=False)
    state = without_counters(comparable(snapshot))
    names = [one.names for one in gone]
    links = {link["ifname"] for link in snapshot["netns"]["node"]["links"]} - expected_links
    named = [fact for fact in sorted(facts(state)) if any(name.search(fact) for name in names)]
    return [*(f"link {name}" for name in sorted(links)), *named, *filter(is_an_attachments, sorted(state))]


def is_an_attachments(path: str) -> bool:
    """Whether a path is one that only an attachment's state has: its chain, its kept configuration."""
    chain = path.startswith("rules/ip") and re.search(r"/CNI-(DN-)?[0-9a-f]{10,}", path) is not None
    return chain or path.startswith(("files//var/lib/cni/flannel/", "files//run/cni/tuning/"))


def result_of(attachment: Attachment) -> dict[str, Any]:
    """The ADD's result as a runtime hands it to CHECK and DEL."""
    return {"prevResult": attachment.result} if attachment.result else {}
