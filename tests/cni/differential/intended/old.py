"""What official plugins of release 1.1.1 do otherwise than both the current release and udplane's plugins."""

from __future__ import annotations

import json
from typing import Any

from tests.cni.differential.intended.entry import Intended


def same_result(official: Any, ours: Any) -> bool:
    """Whether two results say the same in another order, the official one with an empty `dns`."""
    try:
        return bool(json.loads(official) == json.loads(ours) | {"dns": {}})
    except ValueError:
        return False


def only_mode_differs(official: Any, ours: Any) -> bool:
    """Whether two described files have the same content."""
    return official is not None and ours is not None and str(official)[5:] == str(ours)[5:]


OLD: tuple[Intended, ...] = (
    Intended(
        "keys in the order of Go's structs",
        "since 1.3 the keys of a result of 1.0.0 are sorted, and an empty dns is left out",
        steps=("* ADD *",),
        relation=same_result,
    ),
    Intended(
        "reservations are private",
        "since 1.4",
        paths=("files/*/net1/*",),
        ours="^0600 ",
        relation=only_mode_differs,
    ),
    Intended(
        "the pod's end has the usual queue length",
        "since 1.2; a queue length of 0 stalls a queueing discipline put on the interface",
        paths=("p1/links/eth0/txqlen",),
        ours="^1000$",
    ),
    Intended(
        "IPv6 addresses outlive a pause",
        "since 1.6 an interface that goes down keeps them",
        paths=("p1/sysctls/ipv6/conf/eth0/keep_addr_on_down",),
        ours="^1$",
    ),
    Intended(
        "CHECK passes when all is there",
        "that of portmap looked for IPv6 rules of an IPv4 pod, that of tuning for an interface of the name IFNAME",
        ("version-*-portmap", "version-*-tuning"),
        ("* CHECK portmap", "* CHECK tuning"),
        ("exit", "stdout"),
        "^0?$",
    ),
)
