"""Checks of an engine that a student has written."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from dataplane.engines.own import OwnError
from dataplane.lab import golden
from dataplane.lab.strict_toml import Section
from dataplane.lab.teaching.kinds.base import Kind, Result, Room, Values


def _golden(_: Room, values: Values) -> Result:
    """Whether the engine in a file is right about the golden packets whose names match."""
    try:
        results = [one for one in golden.judge(Path(values["file"])) if re.search(values["match"], one.case.name)]
    except OwnError as error:
        return Result(False, str(error), "a file with a class Engine")
    failed = [one for one in results if not one.passed]
    expected = f"{len(results)} golden packets are right"
    if not failed:
        return Result(bool(results), expected, expected)
    first = failed[0]
    return Result(False, f"{len(results) - len(failed)} are; first wrong: {first.case.name}: {first.rule}", expected)


def _read_golden(section: Section) -> dict[str, Any]:
    return {"file": section.needed("file"), "match": section.pattern("match")}


KINDS = {
    "golden": Kind("an engine of one's own is right about golden packets", _read_golden, _golden, lambda v: v["file"])
}
