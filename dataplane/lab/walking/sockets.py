"""The sockets at the ends of a way, and those of the nodes: what ss(8) shows of them."""

from __future__ import annotations

import re

from dataplane.lab.dissect import Layer
from dataplane.lab.view import LabView
from dataplane.lab.walking.looks import Looks
from dataplane.lab.walking.survey import ask


def see_socket(looks: Looks, where: str, protocol: str, port: str) -> int:
    """The command that shows the socket with that local port."""
    letter = {"udp": "u", "tcp": "t"}.get(protocol, "w")
    return looks.run(where, f"ss -{letter}anp", grep=f":{port}")


def listens(view: LabView, where: str, protocol: str, port: str) -> bool:
    """Whether any socket has that local port."""
    letter = {"udp": "u", "tcp": "t"}[protocol]
    lines = ask(view.find(where).namespace, ["ss", f"-{letter}anH"]).stdout.splitlines()
    return any(re.search(rf":{port}\s", line) for line in lines)


def ports(layers: list[Layer]) -> tuple[str, str]:
    """Source and destination port of the outermost UDP header; empty when there is none."""
    udp = next((layer for layer in layers if layer.name == "UDP"), None)
    return (udp["from"], udp["to"]) if udp else ("", "")
