"""Checks of a node: what its status says, and which counters have moved."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from dataplane.errors import NodeError
from dataplane.lab.netns import LabError
from dataplane.lab.node_status import ask_status
from dataplane.lab.strict_toml import Section
from dataplane.lab.teaching.kinds.base import Kind, Result, Room, Values, shortened
from dataplane.lab.view import LabView

STEP = re.compile(r"([a-z0-9_]+)|\[(\d+)\]")


def _status_of(view: LabView, name: str) -> Mapping[str, Any]:
    """The status of a node's udplane. Raises LabError when it does not answer."""
    try:
        return ask_status(view.node(name))
    except NodeError as error:
        raise LabError(f"the udplane of {name} does not answer: {error}") from error


def counters(view: LabView) -> dict[str, int]:
    """Every counter of every node that answers: `node1 encap.drops.no_route`."""
    found = {}
    for node in view.nodes:
        try:
            status = _status_of(view, node.name)
        except LabError:
            continue
        for name, number in _numbers(status.get("counters") or {}):
            found[f"{node.name} {name}"] = number
    return found


def _numbers(document: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, int]]:
    for key, value in document.items():
        if isinstance(value, Mapping):
            yield from _numbers(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def _status(room: Room, values: Values) -> Result:
    """A value of the status document."""
    got: Any = _status_of(room.view, values["node"])
    for name, number in STEP.findall(values["key"]):
        try:
            got = got[name] if name else got[int(number)]
        except (KeyError, IndexError, TypeError):
            return Result(False, f"the status of {values['node']} has no {values['key']}", values["match"])
    text = got if isinstance(got, str) else json.dumps(got)
    return Result(bool(re.search(values["match"], text)) == values["holds"], shortened(text), _pattern(values))


def _pattern(values: Values) -> str:
    return values["match"] if values["holds"] else f"not {values['match']}"


def _counter(room: Room, values: Values) -> Result:
    """A counter that has moved since the exercise began."""
    name = f"{values['node']} {values['name']}"
    now = counters(room.view)
    if name not in now:
        return Result(False, f"{values['node']} counts no {values['name']}", f"at least {values['least']}")
    moved = now[name] - room.baseline.get(name, 0)
    if moved < 0:
        moved = now[name]  # the node was started anew
    most = values["most"]
    ok = values["least"] <= moved and (most < 0 or moved <= most)
    expected = f"at least {values['least']}" if most < 0 else f"from {values['least']} to {most}"
    return Result(ok, f"{moved} since the exercise began", expected)


def _read_status(section: Section) -> dict[str, Any]:
    return {
        "node": section.needed("node"),
        "key": section.needed("key"),
        "match": section.pattern("match"),
        "holds": section.boolean("holds", True),
    }


def _read_counter(section: Section) -> dict[str, Any]:
    return {
        "node": section.needed("node"),
        "name": section.needed("name"),
        "least": section.whole_number("least", 1, 0, 1 << 40),
        "most": section.whole_number("most", -1, -1, 1 << 40),
    }


KINDS = {
    "status": Kind(
        "a value of `udplane status --json`", _read_status, _status, lambda v: f"{v['node']}: status, {v['key']}"
    ),
    "counter": Kind(
        "a counter moved since the exercise began",
        _read_counter,
        _counter,
        lambda v: f"{v['node']} has counted {v['name']}",
    ),
}
